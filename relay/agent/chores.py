"""The periodic work on what is kept: holds that lapse, dead casts and a history that were kept for long enough, old
origins.

Everything here is done by the same edits as an operator's, in slices with pauses while callers cast, so that nobody
notices.  A disk that fails is met at the next round; a bug is nobody's to hide.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from relay.clock import Clock
from relay.control.editing import Editing
from relay.errors import SpoolUnusable
from relay.settings import Spool as Limits
from relay.spool.edits import Edit, Tally, Verb
from relay.spool.selecting import Selection
from relay.spool.spool import Spool

log = logging.getLogger(__name__)

#: seconds between two looks at holds that lapse, and at what was kept for long enough
HOLDS_S = 0.5
KEPT_S = 60.0


class Chores:
    """Over a spool; `run` goes on until it is cancelled."""

    def __init__(self, spool: Spool, clock: Clock, limits: Callable[[], Limits]) -> None:
        self._spool = spool
        self._clock = clock
        self._limits = limits
        self._editing = Editing(spool, clock, asyncio.to_thread)

    async def run(self) -> None:
        """Look around for ever."""
        next_kept = self._clock.monotonic()
        while True:
            try:
                await self._end_holds()
                if self._clock.monotonic() >= next_kept:
                    next_kept = self._clock.monotonic() + KEPT_S
                    await self._purge()
                    await self._spool.operator.forget_origins()
                    await self._forget_done()
            except SpoolUnusable as error:
                log.debug("chores wait for the disk: %s", error)
            await asyncio.sleep(HOLDS_S)

    async def _end_holds(self) -> None:
        """Release what a lapsed hold kept back, then end it: after a crash in between it is done again."""
        for hold in self._spool.holds.all:
            if hold.lapsed(self._clock.wall()):
                held_by = f"new {hold.pattern}"
                tally = await self._edit(Edit(Verb.RELEASE, None, held_by), Selection(held_by=held_by))
                await self._spool.operator.release_new(hold.pattern)
                log.info("the hold of new casts of %s lapsed: released %d", hold.pattern, tally.changed)

    async def _purge(self) -> None:
        kept_s = self._limits().keep_dead
        if kept_s and any(counts.dead for counts in self._spool.counts.values()):
            before = self._clock.wall() - round(kept_s * 1e6)
            tally = await self._edit(Edit(Verb.PURGE, None), Selection(before=before))
            if tally.changed:
                log.info("purged %d casts that were dead for longer than [spool] keep_dead", tally.changed)

    async def _forget_done(self) -> None:
        """Forget of the history what was kept for long enough."""
        more = True
        while more:
            began = self._clock.monotonic()
            more = await self._spool.operator.forget_done()
            await self._editing.courtesy.rest(self._clock.monotonic() - began)

    async def _edit(self, edit: Edit, selection: Selection) -> Tally:
        tally = Tally()
        async with aclosing(self._editing.run(edit, selection)) as slices:
            async for more in slices:
                tally.add(more)
        return tally
