"""When a server is asked where workers are, and whether it was asked yet.

A link is surveyed once before anything is sent on it, so that after a reconnect lanes without workers do not take what
others need; then again while there are lanes of concern, first after WAIT_S, less and less often, at most every MOST_S
(half of it to all of it, by chance, for the sake of servers with many hosts).  A parked lane learns of a new worker in
that time.  Whatever goes wrong with a census leaves things as they are, and delays sending by census.TIMEOUT_S at most.

While there is a link but no lane of concern, the server is only knocked at every KNOCK_S, to notice when it refuses new
connections: it wants to end.

What follows is decided elsewhere: `concerned` says whether there is reason to ask, `learned` is told the census and
returns True if that changed anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from relay.clock import Clock
from relay.settings import Server
from relay.upstream import census
from relay.upstream.census import Census

#: seconds between two censuses: at first, and at most
WAIT_S = 0.5
MOST_S = 15.0
#: seconds between two knocks at most, half of it to all of it
KNOCK_S = 20.0


class Survey:
    """The censuses of one server."""

    def __init__(
        self,
        server: Server,
        clock: Clock,
        rng: Random,
        concerned: Callable[[], bool],
        learned: Callable[[Census], bool],
    ) -> None:
        self._server = server
        self._clock = clock
        self._rng = rng
        self._concerned = concerned
        self._learned = learned
        self._task: asyncio.Task[None] | None = None
        self._next_at = 0.0
        self._wait_s = WAIT_S
        self._knock_at = 0.0
        self._linked = False
        #: True once the link in use was surveyed, or could not be
        self.done = False

    def open(self) -> None:
        """A link is open: survey it before anything else."""
        self.close()
        self._wait_s = WAIT_S
        self._linked = True
        self._ask(census.ask)

    def close(self) -> None:
        """The link is gone; what was learnt goes with it."""
        self.done = self._linked = False
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def tick(self, now: float) -> None:
        """Ask again, if there is reason to."""
        if self._task is not None or now < self._next_at:
            return
        if self._concerned():
            self._ask(census.ask)
        elif self._linked and now >= self._knock_at:
            self._ask(census.knock)
        else:
            self._next_at = now + WAIT_S

    def _ask(self, how: Callable[[Server], Awaitable[Census]]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._take(how))

    async def _take(self, how: Callable[[Server], Awaitable[Census]]) -> None:
        answer = await how(self._server)
        self._task = None
        self.done = self._linked
        changed = self._learned(answer)
        self._wait_s = WAIT_S if changed else min(MOST_S, 2 * self._wait_s)
        now = self._clock.monotonic()
        self._next_at = now + self._wait_s * self._rng.uniform(0.5, 1.0)
        self._knock_at = now + KNOCK_S * self._rng.uniform(0.5, 1.0)
