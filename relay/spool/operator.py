"""The operator's side of an open spool: casts edited, held, imported and forgotten, upstreams paused.

Each change is one transaction, a slice of casts at most, and is over once it is on disk.  Raises SpoolUnusable where
the disk fails; then nothing was changed.  While verdicts wait for the disk nothing is changed either, for a change
would not know of them.

Runs in the event loop's thread; the writing is the committer's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from relay.clock import Clock
from relay.errors import SpoolUnusable
from relay.spool import history
from relay.spool import statements as sql
from relay.spool.committer import Committer
from relay.spool.edits import SLICE, Edit, Tally, apply, fenced
from relay.spool.moving import ORIGINS_KEPT_S, Imported, Incoming, bring_in
from relay.spool.transitions import Transitions

if TYPE_CHECKING:
    from relay.spool.spool import Spool

#: a moment (us) after all others
_EVER = 1 << 62


class Operator:
    """See the module."""

    def __init__(self, spool: Spool, transitions: Transitions, writer: Committer, clock: Clock) -> None:
        self._spool = spool
        self._transitions = transitions
        self._writer = writer
        self._clock = clock

    async def edit(self, edit: Edit, casts: Mapping[int, int], *, dry_run: bool = False) -> Tally:
        """Change a slice of casts (id -> lane) in one transaction; what came of it, once it is on disk.

        Nothing that is changed is sent meanwhile, nor afterwards.  A dry run is rolled back.
        """
        lanes = set(casts.values()) if fenced(edit.verb) else set()
        busy = self._spool.on_fence(lanes) if lanes else ()
        change = partial(self._edit, edit, list(casts), busy, dry_run)
        try:
            tally: Tally = await self._change(change)
        except _DryRun as done:
            tally = done.said
        finally:
            if lanes:
                self._spool.on_unfence(lanes)
        return tally

    def _edit(
        self, edit: Edit, ids: Sequence[int], busy: Collection[int], dry_run: bool, transitions: Transitions
    ) -> Tally:
        tally = apply(transitions, edit, ids, busy, self._clock.wall())
        if dry_run:
            raise _DryRun(tally)
        return tally

    async def hold_new(self, pattern: str, until: int | None) -> None:
        """Hold what is still to come for functions that match, until a moment (us) or for ever."""
        await self._change(lambda transitions: transitions.holds.set(pattern, until))

    async def release_new(self, pattern: str) -> bool:
        """End that; False where there was no such hold."""
        known: bool = await self._change(lambda transitions: transitions.holds.drop(pattern))
        return known

    async def pause(self, server: str, paused: bool) -> bool:
        """Pause an upstream, over restarts too, or resume it; False where it was so already."""
        if paused == (server in self._spool.paused):
            return False
        now = self._clock.wall()
        await self._change(lambda transitions: transitions.pause(server, paused, now))
        if paused:
            self._spool.paused[server] = now
        else:
            del self._spool.paused[server]
        self._spool.on_paused(server, paused)
        return True

    async def forget_origins(self) -> None:
        """Forget where casts came from that are gone, ORIGINS_KEPT_S after their import; a slice of them."""
        if self._transitions.ledger.imported:
            before = self._clock.wall() - round(ORIGINS_KEPT_S * 1e6)
            await self._change(lambda transitions: transitions.execute(sql.DROP_IMPORTS, (before, SLICE)).rowcount)

    async def forget_done(self) -> bool:
        """Remove a slice of the history that was kept for long enough, or is no longer wanted; True if more is left."""
        limits = self._spool.limits
        before = self._clock.wall() - round(limits.keep_done * 1e6) if limits.keep_done else _EVER
        if not self._transitions.history.rows:
            return False
        removed: int = await self._change(lambda writes: writes.history.drop(before, limits.keep_done_max))
        return removed == history.SLICE

    async def bring_in(self, casts: Sequence[Incoming], *, dry_run: bool = False) -> Imported:
        """Import casts, all of them or none; raises NoRoom where new casts are refused or have no room."""
        first_id = self._spool.reserve(len(casts))
        size = sum([len(cast.payload) for cast in casts])

        def change(transitions: Transitions) -> Imported:
            code = self._writer.refusing or self._writer.overfull(len(casts), size)
            if code is not None:
                raise NoRoom(code)
            said = bring_in(transitions, self._spool.identity, casts, first_id, self._clock.wall())
            if dry_run:
                raise _DryRun(said)
            return said

        try:
            said: Imported = await self._change(change)
        except _DryRun as done:
            said = done.said
        return said

    async def _change(self, change: Callable[[Transitions], Any]) -> Any:
        def checked(transitions: Transitions) -> Any:
            if self._writer.failing is not None:
                raise SpoolUnusable(f"{self._spool.path}: {self._writer.failing}")
            return change(transitions)

        try:
            return await self._writer.call(checked)
        except sqlite3.Error as error:
            raise SpoolUnusable(f"{self._spool.path}: {error}") from None


class _DryRun(Exception):
    """Ends a transaction that is not to be."""

    def __init__(self, said: Any) -> None:
        super().__init__()
        self.said = said


class NoRoom(Exception):
    """New casts are refused; the code is that of callers."""
