"""Leaving the agent to those who cast, while an operator's long work goes on in slices.

A slice of a list, a shape or a change costs the interpreter and the disk some milliseconds, and a thousand of them in a
row cost callers as much as they have.  So while somebody casts, the work rests for PAUSE times as long as its last
slice took: at most a thirteenth of the agent is its own then.  While nobody casts it does not rest.

Never does: fail, or know what is done.
"""

from __future__ import annotations

import asyncio
import time

from relay.spool.spool import Spool

#: while callers cast, how many times as long as a slice took the agent is left to them
PAUSE = 12.0
#: seconds for which who cast is taken to go on
BUSY_S = 1.0


class Courtesy:
    """Whether callers cast, over their spool."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        #: casts accepted at the last look, and until when callers are taken to be casting (monotonic seconds)
        self._accepted = 0
        self._busy_until = 0.0

    async def rest(self, took_s: float) -> None:
        """After a slice that took so long: not at all while nobody casts."""
        if self._callers_cast():
            await asyncio.sleep(PAUSE * took_s)

    def _callers_cast(self) -> bool:
        """Whether somebody cast within the last BUSY_S."""
        now = time.monotonic()
        if self._spool.accepted != self._accepted:
            self._accepted, self._busy_until = self._spool.accepted, now + BUSY_S
        return now < self._busy_until
