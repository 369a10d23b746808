"""Where workers are: the census of the upstream in use, and what follows for the lanes.

A lane for which the upstream has no worker is parked: nothing is sent, and its new casts leave memory for the disk.
One for which it has workers is taken to move.  Nothing is known of lanes that came since the last census, nor at a
server without a usable `status`; they find out by a few casts of their own (see `window`).

A link is surveyed once before anything is sent, so that after a reconnect lanes without workers do not take what
others need; then again while there are lanes that do not move, first after WAIT_S, less and less often, at most every
MOST_S (half of it to all of it, by chance, for the sake of servers with many hosts).  A parked lane learns of a new
worker in that time.  Whatever goes wrong with a census leaves things as they are, and delays sending by
census.TIMEOUT_S at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random

from relay.clock import Clock
from relay.forwarder.heads import Heads
from relay.forwarder.lanes import Lane
from relay.forwarder.schedule import Schedule
from relay.settings import Server
from relay.upstream import census

#: seconds between two censuses: at first, and at most
WAIT_S = 0.5
MOST_S = 15.0


class Survey:
    """The censuses of one link after the other; `wake` is called when one has changed something."""

    def __init__(self, heads: Heads, schedule: Schedule, clock: Clock, rng: Random, wake: Callable[[], None]) -> None:
        self._heads = heads
        self._schedule = schedule
        self._clock = clock
        self._rng = rng
        self._wake = wake
        self._server: Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._next_at = 0.0
        self._wait_s = WAIT_S
        #: True once the link in use was surveyed, or could not be
        self.done = False

    def open(self, server: Server) -> None:
        """A link to `server` is open: survey it before anything else."""
        self.close()
        self._server = server
        self._wait_s = WAIT_S
        self._ask(server)

    def close(self) -> None:
        """The link is gone; what was learnt goes with it."""
        self.done = False
        self._server = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def tick(self, now: float) -> None:
        """Ask again, if there is reason to."""
        if self._server is None or self._task is not None or now < self._next_at:
            return
        if any(concerns(lane) for lane in self._heads.lanes.values()):
            self._ask(self._server)
        else:
            self._next_at = now + WAIT_S

    def _ask(self, server: Server) -> None:
        self._task = asyncio.get_running_loop().create_task(self._take(server))

    async def _take(self, server: Server) -> None:
        workers = await census.ask(server)
        now = self._clock.monotonic()
        self._task = None
        self._wait_s = min(MOST_S, 2 * self._wait_s)
        if workers is not None and self._learn(workers, now):
            self._wait_s = WAIT_S
        self._next_at = now + self._wait_s * self._rng.uniform(0.5, 1.0)
        self.done = True
        for lane in self._heads.lanes.values():
            self._schedule.enter(lane, now)
        self._wake()

    def _learn(self, workers: Mapping[bytes, int], now: float) -> bool:
        """Take the census to heart; True when a lane was parked by it, or is no longer."""
        changed = False
        self._schedule.empty()
        for lane in self._heads.lanes.values():
            if not concerns(lane):
                self._heads.forget_workers(lane, now)
                continue
            was_parked, lane.workers = lane.parked, workers.get(lane.function, 0)
            changed = changed or was_parked != lane.parked
            if lane.parked:
                self._heads.park(lane)
                continue
            if not lane.window.stalled:
                self._schedule.staffed(lane, now)
            self._heads.unpark(lane, now)
        return changed


def concerns(lane: Lane) -> bool:
    """True for a lane that does not move, or is parked, and has casts to be sent, or at the upstream."""
    return (lane.parked or not lane.window.moving) and lane.pending
