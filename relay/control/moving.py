"""Casts one by one and as a whole, over the operator's door: show one, write them out, take them in.

    GET  /v1/show      one cast, by `cast` (id, handle or unique), with its payload where `payload` is 1
    POST /v1/export    the casts that the body selects as lines of `relay.spool.moving`; with `"hold": true` they are
                       held first, slice by slice, and what is in flight is left out; the last line has `"done": true`
    POST /v1/exported  remember that these (held) casts were written out safely: `purge` can then take them away
    POST /v1/import    a body of such lines; all of them are taken in, or none

Promises: a cast is written out only once it is held, where that was asked for; a line is taken in once.  Never does:
wait for the disk in the event loop.  Bounds: IMPORT_BODY bytes of a body, one import at a time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, closing, nullcontext, suppress
from functools import partial
from typing import Any, TypeAlias

from relay.clock import Clock
from relay.control.editing import Editing, selection_of, words_of
from relay.control.requests import Answer, Refused, Request
from relay.errors import SpoolUnusable
from relay.spool import moving, reading, selecting, showing
from relay.spool.edits import EXPORT, Edit, Tally, Verb
from relay.spool.operator import NoRoom
from relay.spool.selecting import Selection
from relay.spool.spool import Spool

log = logging.getLogger(__name__)

#: bytes of a piece of an export, beyond its first line
PIECE_BYTES = 256 * 1024

_Route: TypeAlias = Callable[[Request], Awaitable[Answer]]
_Read: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]


class Moving:
    """The routes, over a spool; `read` runs a function in a thread that may wait for the disk."""

    def __init__(self, spool: Spool, clock: Clock, read: _Read, editing: Editing) -> None:
        self._spool = spool
        self._clock = clock
        self._read = read
        self._editing = editing
        self._importing = asyncio.Lock()
        self.table: Mapping[str, Mapping[str, _Route]] = {
            "/v1/show": {"GET": self._show},
            "/v1/export": {"POST": self._export},
            "/v1/exported": {"POST": partial(editing.edit, Verb.MARK)},
            "/v1/import": {"POST": self._import},
        }

    async def _show(self, request: Request) -> Answer:
        asked = dict(request.query)
        name = asked.get("cast", "")
        show = partial(showing.show, self._spool.path, name, self._clock.wall(), payload=asked.get("payload") == "1")
        found: dict[str, Any] | None = await self._read(show)
        if found is None:
            raise Refused(404, "no_such_cast", f"No cast here is {name!r}.")
        found["in_flight"] = found["id"] in self._spool.on_fence(())
        return found

    # -- out -------------------------------------------------------------------------------------------------------

    async def _export(self, request: Request) -> Answer:
        asked = request.object()
        return self._lines(selection_of(asked), bool(asked.get("hold")), request.uid, words_of(asked))

    async def _lines(
        self, selection: Selection, hold: bool, uid: int | None, words: str
    ) -> AsyncGenerator[bytes, None]:
        tally, exported, wrong = Tally(), 0, ""
        try:
            async with (
                self._editing.lock if hold else nullcontext(),
                aclosing(self._slices(selection, hold, uid)) as slices,
            ):
                async for casts, more in slices:
                    tally.add(more)
                    lines = self._written(list(casts), hold)
                    began = time.monotonic()
                    while (piece := await self._read(partial(next, lines, None))) is not None:
                        exported += piece.count(b"\n")
                        yield piece
                        await self._editing.courtesy.rest(time.monotonic() - began)
                        began = time.monotonic()
        except SpoolUnusable as error:
            wrong = str(error)
        finally:
            verb = "export and hold" if hold else "export"
            log.info("uid %s: %s %s: wrote %d", uid, verb, words, exported)
        end: dict[str, Any] = {"error": wrong} if wrong else {"done": True}
        counts = {"exported": exported, "in_flight": tally.in_flight, "missing": tally.missing}
        yield json.dumps(counts | end).encode() + b"\n"

    async def _slices(
        self, selection: Selection, hold: bool, uid: int | None
    ) -> AsyncGenerator[tuple[dict[int, int], Tally], None]:
        states = ("ready", "deferred", "held") if hold and selection.wanted.state != "dead" else reading.STATES
        slices = selecting.select(self._spool.path, selection, states, self._clock.wall())
        try:
            while (chosen := await self._read(partial(next, slices, None))) is not None:
                tally = Tally()
                if hold and chosen.casts:
                    tally = await self._spool.operator.edit(Edit(Verb.HOLD, uid, EXPORT), chosen.casts)
                tally.missing = chosen.missing
                yield chosen.casts, tally
        finally:
            with suppress(ValueError):
                slices.close()

    def _written(self, ids: list[int], hold: bool) -> Iterator[bytes]:
        """The lines of a slice in pieces; with `hold` of what is held (or dead) only."""
        with closing(reading.connect(self._spool.path)) as conn:
            piece = bytearray()
            for line in moving.lines(conn, self._spool.identity, ids, self._clock.wall(), kept=hold):
                piece += line
                if len(piece) >= PIECE_BYTES:
                    yield bytes(piece)
                    piece.clear()
            if piece:
                yield bytes(piece)

    # -- in --------------------------------------------------------------------------------------------------------

    async def _import(self, request: Request) -> Answer:
        async with self._importing:
            try:
                casts = await self._read(partial(moving.parse_all, request.body))
            except ValueError as error:
                raise Refused(400, "bad_line", f"{error}; nothing of this piece was imported.") from None
            dry_run = dict(request.query).get("dry_run") == "1"
            try:
                said = await self._spool.operator.bring_in(casts, dry_run=dry_run)
            except NoRoom as refused:
                raise Refused(507, "no_room", f"{refused}; nothing of this piece was imported.") from None
        if not dry_run:
            counts = f"new {said.imported}, repeated {said.repeated}, twins {said.twins}"
            log.info("uid %s: import: %s", request.uid, counts)
        return {"imported": said.imported, "repeated": said.repeated, "twins": said.twins}
