"""How many casts are in flight, by the state on disk they were taken from, and how many verdicts are not stored yet.

A cast counts as in flight until its verdict is stored, so that it is never in no count; one that comes back without a
verdict counts no longer.  It counts as completed, in all and where it was done, with the COMMIT that retires it.  The
spool stores verdicts in the order in which they are handed in, and those that came together, together.  Pure.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from relay.forwarder.lanes import Flight
from relay.spool.changes import Changes
from relay.upstream.health import Condition


class Tally:
    """The three numbers, those `completed` since the start, and attempts that did not go well since, by reason."""

    __slots__ = ("_handed_in", "completed", "deferred", "failed", "ready", "unstored")

    def __init__(self) -> None:
        #: casts completed since the start
        self.completed = 0
        self.ready = 0
        self.deferred = 0
        self.unstored = 0
        self.failed: Counter[str] = Counter()
        #: (verdicts, casts that are done among them, where) that are not stored, oldest first
        self._handed_in: deque[tuple[int, int, Condition | None]] = deque()

    def sent(self, flights: Iterable[Flight]) -> None:
        """Casts are in flight."""
        for flight in flights:
            if not flight.counted:
                flight.counted = True
                if flight.deferred:
                    self.deferred += 1
                else:
                    self.ready += 1

    def landed(self, flight: Flight) -> None:
        """A cast is no longer in flight, and nothing about that is stored."""
        flight.counted = False
        if flight.deferred:
            self.deferred -= 1
        else:
            self.ready -= 1

    def handed_in(self, verdicts: int, done: int = 0, where: Condition | None = None) -> None:
        """So many verdicts were given to the spool, `done` of them of casts that are done there."""
        self.unstored += verdicts
        self._handed_in.append((verdicts, done, where))

    def stored(self, changes: Changes) -> None:
        """A COMMIT had verdicts in it."""
        stored = 0
        for ready, deferred in changes.ended.values():
            self.ready -= ready
            self.deferred -= deferred
            stored += ready + deferred
        self.unstored -= stored
        while stored > 0 and self._handed_in:
            verdicts, done, where = self._handed_in.popleft()
            stored -= verdicts
            self.completed += done
            if where is not None:
                where.completed += done
