"""How many casts are in flight, by the state on disk they were taken from, and how many verdicts are not stored yet.

A cast counts as in flight until its verdict is stored, so that it is never in no count; one that comes back without a
verdict counts no longer.  Pure.
"""

from __future__ import annotations

from collections import Counter

from relay.forwarder.lanes import Flight
from relay.spool.changes import Changes


class Tally:
    """The three numbers, those `completed` since the start, and attempts that did not go well since, by reason."""

    __slots__ = ("completed", "deferred", "failed", "ready", "unstored")

    def __init__(self) -> None:
        #: casts completed since the start
        self.completed = 0
        self.ready = 0
        self.deferred = 0
        self.unstored = 0
        self.failed: Counter[str] = Counter()

    def sent(self, flight: Flight) -> None:
        """A cast is in flight."""
        if flight.counted:
            return
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

    def stored(self, changes: Changes) -> None:
        """A COMMIT had verdicts in it."""
        for ready, deferred in changes.ended.values():
            self.ready -= ready
            self.deferred -= deferred
            self.unstored -= ready + deferred
