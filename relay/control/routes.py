"""What each path of the operator's door does.

    GET  /metrics     the numbers for Prometheus     GET  /health     application/health+json
    GET  /v1/status   the object of `status`
    GET  /v1/casts    the casts that a filter selects, oldest first, one JSON object a line, as they are read
    GET  /v1/drain    state, remaining, blockers
    POST /v1/drain    refuse new casts, make those in backoff due once; asked again it changes nothing
    POST /v1/resume   accept again
    and those of `tables`, `upstreams`, `editing` and `moving`

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
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeAlias

from relay.control import answers, health, metrics
from relay.control.editing import Editing
from relay.control.moving import Moving
from relay.control.requests import Answer, Refused, Request, Text, filter_of, may_change
from relay.control.sources import Sources
from relay.control.tables import Tables
from relay.control.upstreams import Upstreams
from relay.control.views import Views
from relay.errors import SpoolUnusable
from relay.spool import listing

log = logging.getLogger(__name__)

#: paths that anybody may read, over TCP too
PUBLIC = ("/metrics", "/health")
#: seconds that a list is silent, at most, while it finds nothing
STILL_S = 10.0

_Route: TypeAlias = Callable[[Request], Awaitable[Answer]]


class Routes:
    """The paths, over a spool and what others know."""

    def __init__(self, sources: Sources) -> None:
        self._spool = spool = sources.spool
        self._facts = facts = sources.facts
        self._clock = clock = sources.clock
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="control")
        self._views = Views(sources, self._threads)
        self._changing = asyncio.Lock()
        editing = Editing(spool, clock, self._views.read)
        self._courtesy = editing.courtesy
        #: path -> method -> route; every method but GET changes something
        self._table: Mapping[str, Mapping[str, _Route]] = {
            "/metrics": {"GET": self._metrics},
            "/health": {"GET": self._health},
            "/v1/status": {"GET": self._status},
            "/v1/casts": {"GET": self._casts},
            "/v1/drain": {"GET": self._blockers, "POST": self._drain},
            "/v1/resume": {"POST": self._resume},
            **Tables(spool, facts, clock, self._views.read, editing.courtesy).table,
            **Upstreams(spool, facts).table,
            **editing.table,
            **Moving(spool, clock, self._views.read, editing).table,
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
        if request.method != "GET" and not may_change(request.uid):
            raise Refused(403, "not_permitted", f"uid {request.uid} may read but change nothing; root may.")
        try:
            return await route(request)
        except SpoolUnusable as error:
            self.unread(error)
            raise Refused(503, "spool_unreadable", str(error)) from None

    def unread(self, error: BaseException) -> None:
        """The spool could not be read for an answer."""
        self._spool.suspicion.hear(error)

    async def answer_anybody(self, request: Request) -> Answer:
        """What the request asks for, where that is for everybody's eyes; raises Refused."""
        if request.path not in PUBLIC:
            raise Refused(404, "unknown_path", f"There is nothing at {request.path}, but at {' and '.join(PUBLIC)}.")
        return await self.answer(request)

    def close(self) -> None:
        """End the threads that read."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _status(self, _request: Request) -> Answer:
        return await self._views.status()

    async def _metrics(self, _request: Request) -> Answer:
        return Text(200, metrics.CONTENT_TYPE, await self._views.metrics())

    async def _health(self, _request: Request) -> Answer:
        said = self._views.health()
        return Text(health.http_status(said), health.CONTENT_TYPE, json.dumps(said).encode() + b"\n")

    async def _casts(self, request: Request) -> Answer:
        wanted, limit = filter_of(request.query)
        slices = listing.lines(self._spool.path, wanted, limit, self._clock.wall())
        # the first slice is read before anything is answered, so that a spool that cannot be read is an error
        return self._lines(slices, await self._views.read(partial(next, slices, None)))

    async def _lines(self, slices: Generator[bytes, None, None], first: bytes | None) -> AsyncGenerator[bytes, None]:
        """Slice by slice; an empty line now and then while nothing is found, so that nobody takes that for a hang."""
        piece, said = first, time.monotonic()
        try:
            while piece is not None:
                began = time.monotonic()
                if piece or began > said + STILL_S:
                    yield piece or b"\n"
                    said = began = time.monotonic()
                piece = await self._views.read(partial(next, slices, None))
                await self._courtesy.rest(time.monotonic() - began)
        finally:
            # a thread that still reads for a peer that has gone closes it when it is done
            with suppress(ValueError):
                slices.close()

    async def _blockers(self, _request: Request) -> Answer:
        if answers.state_of(answers.total(self._spool.counts.values()), self._spool.draining) == "drained":
            # a change may stand on disk that the counts do not have yet, and who is told so switches the host off
            await self._spool.catch_up()
        return answers.drain(self._spool.counts, self._facts(), self._spool.draining)

    async def _drain(self, request: Request) -> Answer:
        async with self._changing:
            begins = not self._spool.draining
            try:
                await self._spool.drain()
            finally:
                # what is on disk is told, though making casts due failed behind it
                if begins and self._spool.draining:
                    log.info("uid %s: drain: backlog %d", request.uid, self._backlog())
        return await self._blockers(request)

    async def _resume(self, request: Request) -> Answer:
        async with self._changing:
            if self._spool.draining:
                await self._spool.resume()
                log.info("uid %s: resume: backlog %d", request.uid, self._backlog())
        return await self._blockers(request)

    def _backlog(self) -> int:
        return answers.backlog_of(answers.total(self._spool.counts.values()))
