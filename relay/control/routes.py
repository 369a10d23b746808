"""What each path of the operator's door does.

    GET  /v1/status   the object of `status`
    GET  /v1/casts    the casts that a filter selects, oldest first, one JSON object a line, as they are read
    GET  /v1/drain    state, remaining, blockers
    POST /v1/drain    refuse new casts, make those in backoff due once; asked again it changes nothing
    POST /v1/resume   accept again

Promises: a change needs uid 0 or the agent's own, and logs one line that says who and what.  The disk is read
in threads of its own, SLICE casts at a time and only as fast as the reader takes them; the event loop never
waits for it.

Never does: speak HTTP, or know a socket.  What cannot be answered raises Refused, with a status, a code and a
sentence.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple, TypeAlias, TypeVar

from relay.clock import Clock
from relay.control import answers
from relay.errors import SpoolUnusable
from relay.facts import Facts, Problem
from relay.spool import reading
from relay.spool.reading import Filter, Oldest
from relay.spool.spool import Spool

log = logging.getLogger(__name__)

#: seconds that the oldest cast found is where the next look for it begins
OLDEST_GOOD_S = 60.0
#: how the parameters of a filter are read, and what they must be
_PARAMETERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "function": (str, "a glob"),
    "state": (str, "a state"),
    "older_than": (float, "seconds"),
    "newer_than": (float, "seconds"),
    "uid": (int, "an integer"),
    "error": (str, "a text"),
    "limit": (int, "an integer"),
}

_T = TypeVar("_T")


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


#: an object, or pieces of JSON Lines that come as they are read
Answer: TypeAlias = dict[str, Any] | AsyncGenerator[bytes, None]
_Route: TypeAlias = Callable[[Request], Awaitable[Answer]]


class Routes:
    """The paths, over a spool and what others know."""

    def __init__(
        self,
        spool: Spool,
        facts: Callable[[], Facts],
        clock: Clock,
        version: str,
        problems: Callable[[], Sequence[Problem]],
    ) -> None:
        self._spool = spool
        self._facts = facts
        self._clock = clock
        self._version = version
        self._problems = problems
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="control")
        self._changing = asyncio.Lock()
        self._oldest = _OldestKnown()
        #: path -> method -> route; every method but GET changes something
        self._table: Mapping[str, Mapping[str, _Route]] = {
            "/v1/status": {"GET": self._status},
            "/v1/casts": {"GET": self._casts},
            "/v1/drain": {"GET": self._blockers, "POST": self._drain},
            "/v1/resume": {"POST": self._resume},
        }

    async def answer(self, request: Request) -> Answer:
        """What the request asks for; raises Refused."""
        methods = self._table.get(request.path)
        if methods is None:
            raise Refused(404, "unknown_path", f"There is nothing at {request.path}.")
        route = methods.get(request.method)
        if route is None:
            allow = ", ".join(methods)
            raise Refused(405, "wrong_method", f"{request.path} takes {allow}, not {request.method}.", allow)
        if request.method != "GET" and request.uid not in (0, os.geteuid()):
            raise Refused(403, "not_permitted", f"uid {request.uid} may read but change nothing; root may.")
        try:
            return await route(request)
        except SpoolUnusable as error:
            raise Refused(503, "spool_unreadable", str(error)) from None

    def close(self) -> None:
        """End the threads that read."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _status(self, _request: Request) -> Answer:
        problems = []
        try:
            found = await self._look()
        except SpoolUnusable as error:
            found = None
            problems.append(Problem("spool_unreadable", str(error), self._clock.wall() / 1e6))
        # from here on nothing awaits: counts and facts are of one moment
        spool, now = self._spool, self._clock.wall()
        counts = answers.total(spool.counts.values())
        return answers.status(
            answers.state_of(counts, spool.draining),
            counts,
            self._facts(),
            draining=spool.draining,
            accepting=spool.refusing is None,
            oldest_seconds=max(0, now - found.accepted_at) / 1e6 if found else 0.0,
            spool_bytes=spool.bytes_on_disk(),
            problems=[*self._problems(), *problems],
            version=self._version,
        )

    async def _look(self) -> Oldest | None:
        """The oldest cast that is to be executed."""
        counts = answers.total(self._spool.counts.values())
        if not answers.backlog_of(counts):
            return None
        kept_back, now = counts.held + counts.dead, self._clock.monotonic()
        from_id = self._oldest.from_id(kept_back, now)
        found = await self._read(lambda: reading.oldest(self._spool.path, from_id))
        self._oldest.found(found, from_id, kept_back, now)
        return found

    async def _casts(self, request: Request) -> Answer:
        wanted, limit = _filter(request.query)
        casts = reading.backlog(self._spool.path, wanted, limit, self._clock.wall())
        # the first slice is read before anything is answered, so that a spool that cannot be read is an error
        return self._lines(casts, await self._read(lambda: _encoded(casts)))

    async def _lines(self, casts: Generator[dict[str, Any], None, None], first: bytes) -> AsyncGenerator[bytes, None]:
        try:
            piece = first
            while piece:
                yield piece
                piece = await self._read(lambda: _encoded(casts))
        finally:
            # a thread that still reads for a peer that has gone closes it when it is done
            with suppress(ValueError):
                casts.close()

    async def _blockers(self, _request: Request) -> Answer:
        return answers.drain(self._spool.counts, self._facts(), self._spool.draining)

    async def _drain(self, request: Request) -> Answer:
        async with self._changing:
            if not self._spool.draining:
                log.info("uid %d: drain", request.uid)
            await self._spool.drain()
        return await self._blockers(request)

    async def _resume(self, request: Request) -> Answer:
        async with self._changing:
            if self._spool.draining:
                log.info("uid %d: resume", request.uid)
                await self._spool.resume()
        return await self._blockers(request)

    async def _read(self, read: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)


class _OldestKnown:
    """Where the search for the oldest cast begins, so that dead ones in front of it are not passed over at
    each look.

    An id is no bound once an older cast may have come back to life: when fewer are kept back than there were,
    or, because as many may have died meanwhile, after OLDEST_GOOD_S.
    """

    def __init__(self) -> None:
        self._id = 0
        self._kept_back = 0
        self._since = 0.0

    def from_id(self, kept_back: int, now: float) -> int:
        """The id to begin at."""
        if kept_back < self._kept_back or now - self._since > OLDEST_GOOD_S:
            return 0
        return self._id

    def found(self, oldest: Oldest | None, from_id: int, kept_back: int, now: float) -> None:
        """Remember what a look from `from_id` came to."""
        if from_id == 0:
            self._since = now
        self._id = oldest.id if oldest else 0
        self._kept_back = kept_back


def _encoded(casts: Iterator[dict[str, Any]]) -> bytes:
    """The next casts as JSON Lines; empty when there are no more."""
    return b"".join([json.dumps(cast).encode() + b"\n" for cast in islice(casts, reading.SLICE)])


def _filter(query: Sequence[tuple[str, str]]) -> tuple[Filter, int | None]:
    """The filter that a query spells, and its limit; Refused for what is none."""
    given: dict[str, Any] = {}
    for name, text in query:
        if name not in _PARAMETERS:
            raise Refused(400, "bad_filter", f"There is no filter {name!r}; there are {', '.join(_PARAMETERS)}.")
        convert, what = _PARAMETERS[name]
        try:
            given[name] = convert(text)
        except ValueError:
            raise Refused(400, "bad_filter", f"{name} is {what}, not {text!r}.") from None
    if given.get("state", "ready") not in reading.STATES:
        raise Refused(400, "bad_filter", f"state is one of {', '.join(reading.STATES)}, not {given['state']!r}.")
    limit = given.pop("limit", None)
    if limit is not None and limit < 0:
        raise Refused(400, "bad_filter", f"limit is at least 0, not {limit}.")
    return Filter(**given), limit
