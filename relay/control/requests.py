"""A request to the operator's door, what answers it, and how filters are spelt in it.  No I/O.

A filter is spelt the same in a query (`?function=mail.*&older_than=60`) and in the JSON of a body; what is none raises
Refused, with a status, a code and a sentence.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from relay.spool import reading
from relay.spool.reading import Filter


def _text(value: object) -> str:
    """A text that the spool can be asked for; raises ValueError for one that is not UTF-8."""
    text = str(value)
    text.encode()
    return text


def _uid(value: Any) -> int:
    """A uid as the kernel has them; raises ValueError for any other number."""
    uid = int(value)
    if not 0 <= uid < 2**32:
        raise ValueError(uid)
    return uid


#: how the parameters of a filter are read, and what they must be
PARAMETERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "function": (_text, "a glob"),
    "state": (str, "a state"),
    "older_than": (float, "seconds"),
    "newer_than": (float, "seconds"),
    "uid": (_uid, "an integer from 0 to 4294967295"),
    "error": (_text, "a text"),
    "limit": (int, "an integer"),
}


class Refused(Exception):
    """A request that is not answered with what it asked for: the HTTP status, a code, one sentence."""

    def __init__(self, status: int, code: str, text: str, allow: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.allow = allow

    def body(self) -> dict[str, str]:
        """The error as it is answered."""
        return {"error": self.code, "text": str(self)}


class Request(NamedTuple):
    """A request, and the uid of the process that sent it."""

    method: str
    path: str
    query: Sequence[tuple[str, str]]
    uid: int | None
    body: bytes = b""

    def object(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one is an empty object."""
        try:
            found = json.loads(self.body or b"{}")
        except ValueError as error:
            raise Refused(400, "bad_request", f"The body is no JSON: {error}.") from None
        if not isinstance(found, dict):
            raise Refused(400, "bad_request", "The body is a JSON object.")
        return found


class Text(NamedTuple):
    """An answer that is ready: its HTTP status, its content type, its bytes."""

    status: int
    content_type: str
    body: bytes


#: an object, a text, or pieces of JSON Lines that come as they are read
Answer: TypeAlias = dict[str, Any] | Text | AsyncGenerator[bytes, None]


def may_change(uid: int | None) -> bool:
    """Whether a peer may change something."""
    return uid in (0, os.geteuid())


def filter_of(given: Iterable[tuple[str, Any]]) -> tuple[Filter, int | None]:
    """The filter that these spell, and its limit; Refused for what is none."""
    found: dict[str, Any] = {}
    for name, value in given:
        if name not in PARAMETERS:
            raise Refused(400, "bad_filter", f"There is no filter {name!r}; there are {', '.join(PARAMETERS)}.")
        convert, what = PARAMETERS[name]
        try:
            found[name] = convert(value)
        except (ValueError, TypeError, OverflowError):
            raise Refused(400, "bad_filter", f"{name} is {what}, not {value!r}.") from None
    if found.get("state", "ready") not in reading.STATES:
        raise Refused(400, "bad_filter", f"state is one of {', '.join(reading.STATES)}, not {found['state']!r}.")
    limit = found.pop("limit", None)
    if limit is not None and limit < 0:
        raise Refused(400, "bad_filter", f"limit is at least 0, not {limit}.")
    return Filter(**found), limit


def spell(wanted: Filter, limit: int | None) -> str:
    """A filter for the log."""
    words: Mapping[str, Any] = {**wanted.given(), **({} if limit is None else {"limit": limit})}
    return " ".join(f"{name}={value!r}" for name, value in words.items())
