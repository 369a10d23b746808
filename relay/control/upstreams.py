"""The upstreams, over the operator's door.

    GET  /v1/upstreams          what is known of each, in this host's order of preference
    POST /v1/upstreams/pause    ?server=host:port: nothing new is sent there, over restarts too
    POST /v1/upstreams/resume   likewise: it may be used again

Promises: a change is on disk before it is answered, and is one line of the log with the uid; what is so already is
answered with `"changed": false`.  A server that is paused and no longer configured can be resumed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias

from relay.control import answers
from relay.control.requests import Answer, Refused, Request
from relay.facts import Facts
from relay.spool.spool import Spool

log = logging.getLogger(__name__)

_Route: TypeAlias = Callable[[Request], Awaitable[Answer]]


class Upstreams:
    """The routes, over the spool that remembers what is paused."""

    def __init__(self, spool: Spool, facts: Callable[[], Facts]) -> None:
        self._spool = spool
        self._facts = facts
        self._changing = asyncio.Lock()
        self.table: Mapping[str, Mapping[str, _Route]] = {
            "/v1/upstreams": {"GET": self._list},
            "/v1/upstreams/pause": {"POST": partial(self._pause, True)},
            "/v1/upstreams/resume": {"POST": partial(self._pause, False)},
        }

    async def _list(self, _request: Request) -> Answer:
        return {"upstreams": answers.upstreams(self._facts())}

    async def _pause(self, paused: bool, request: Request) -> Answer:
        servers = [value for name, value in request.query if name == "server"]
        if len(servers) != 1 or len(request.query) != 1:
            raise Refused(400, "bad_request", "One server is named, as ?server=host:port.")
        known = [upstream.server for upstream in self._facts().upstreams]
        if servers[0] not in known and (paused or servers[0] not in self._spool.paused):
            raise Refused(404, "unknown_upstream", f"{servers[0]} is none of the upstreams, {', '.join(known)}.")
        async with self._changing:
            changed = await self._spool.operator.pause(servers[0], paused)
        if changed:
            log.info("uid %d: %s upstream %s", request.uid, "pause" if paused else "resume", servers[0])
        return {"changed": changed, "upstreams": answers.upstreams(self._facts())}
