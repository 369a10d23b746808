"""A cast as a caller names it, checked and made into the packet that submits it.

Promises: what passes `submission` is a packet that the agent reads as the cast that was meant: a function or a unique
with a NUL would shift all that follows it, so both are checked here.  Only what the agent alone knows (its largest
payload, its room) is left to it.  Time and chance are arguments; no I/O.

When it fails: TypeError and ValueError for arguments that no cast has, Rejected for what the agent would reject.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from relay.client.errors import Rejected, rejected
from relay.protocol.caller import SENTENCES, UNIQUE_LIMIT, good_function
from relay.protocol.framing import LENGTH_LIMIT
from relay.protocol.packets import HEADER, REQ, Kind

#: the longest delay, in seconds: ten years of 365 days
LONGEST_DELAY_S = 10 * 365 * 86_400
#: a cast's priority -> the packet that submits it at once
KINDS: dict[str, int] = {
    "high": Kind.SUBMIT_JOB_HIGH_BG,
    "normal": Kind.SUBMIT_JOB_BG,
    "low": Kind.SUBMIT_JOB_LOW_BG,
}


class Cast(NamedTuple):
    """One cast; what is not said is as in `Client.cast`, and a tuple of the same shape will do everywhere."""

    function: str | bytes
    payload: bytes
    #: 1 to 64 bytes, UTF-8 where it is a str; None for a new UUIDv7
    unique: str | bytes | None = None
    #: high, normal or low
    priority: str = "normal"
    #: seconds from now before which it is not to be executed; rounded up to whole ones
    delay: float = 0


def unique_id(now_ns: int, chance: bytes) -> str:
    """A UUID of version 7 as 32 hex digits: 48 bits of milliseconds, and 74 of the ten bytes of chance."""
    number = (now_ns // 1_000_000) << 80 | int.from_bytes(chance, "big")
    number = number & ~(0xF << 76) | 7 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    return f"{number:032x}"


def submission(
    now_ns: int,
    chance: bytes,
    function: str | bytes,
    payload: bytes,
    unique: str | bytes | None = None,
    priority: str = "normal",
    delay: float = 0,
) -> tuple[Cast, bytes]:
    """The cast with its unique filled in, and its packet; `now_ns` of the wall clock, ten bytes of chance.

    Raises TypeError, ValueError, BadFunction, UniqueTooLarge or PayloadTooLarge.
    """
    if unique is None:
        unique = unique_id(now_ns, chance)
        key = unique.encode()
    else:
        key = _bytes(unique, "a unique")
        if not key or b"\0" in key:
            raise ValueError("a unique is 1 to 64 bytes, none of them NUL")
    _check_payload(payload)
    kind = KINDS.get(priority)
    if kind is None:
        raise ValueError(f"a priority is high, normal or low, not {priority!r}")
    between = b"\0"
    if delay:
        kind, between = Kind.SUBMIT_JOB_EPOCH, b"\0%d\0" % _due(delay, priority, now_ns)
    cast = Cast(function, payload, unique, priority, delay)
    name = _known.get(function)
    if name is None:
        name = _function(function, cast)
    if len(key) > UNIQUE_LIMIT:
        raise _refusal("unique_too_large", cast)
    size = len(name) + 1 + len(key) + len(between) + len(payload)
    if size > LENGTH_LIMIT:
        raise _refusal("payload_too_large", cast)
    return cast, b"".join((HEADER.pack(REQ, kind, size), name, b"\0", key, between, payload))


#: good functions, as callers name them, so that a known one costs a look-up
_known: dict[str | bytes, bytes] = {}
_KNOWN_LIMIT = 4096


def _function(function: str | bytes, cast: Cast) -> bytes:
    """The function's bytes, known from now on; BadFunction for one that the agent would refuse."""
    name = _bytes(function, "a function")
    if not good_function(name):
        raise _refusal("bad_function", cast)
    if len(_known) >= _KNOWN_LIMIT:
        _known.clear()
    _known[function] = name
    return name


def _bytes(value: object, what: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        # what cannot be encoded is no function for the agent either; let it say so
        return value.encode("utf-8", "surrogatepass")
    raise TypeError(f"{what} is str or bytes, not {type(value).__name__}")


def _check_payload(value: object) -> None:
    if not isinstance(value, bytes):
        raise TypeError(f"a payload is bytes, not {type(value).__name__}")


def _due(delay: float, priority: str, now_ns: int) -> int:
    """The Unix second when a cast is due: the first one that is no earlier than asked for."""
    if not (0 <= delay <= LONGEST_DELAY_S):
        raise ValueError(f"a delay is a number of seconds from 0 to {LONGEST_DELAY_S}, not {delay!r}")
    if priority != "normal":
        raise ValueError("a delay goes with normal priority only: the protocol has no other")
    return -(-(now_ns + math.ceil(delay * 1_000_000_000)) // 1_000_000_000)


def _refusal(code: str, cast: Cast) -> Rejected:
    return rejected(code, SENTENCES[code], cast)
