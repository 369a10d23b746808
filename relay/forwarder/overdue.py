"""Attempts that take too long: which they are, and how often it is worth to look.

A look goes through all that is in flight at an upstream, so it is not taken more often than every PACE of a second for
each cast there; where no function has an `attempt_timeout` it is not taken at all.  Pure; `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay.forwarder.lanes import Flight

#: seconds between two looks, for each cast in flight, and at least
PACE = 1e-5
LEAST_S = 0.1


class Overdue:
    """Looks at one upstream's casts in flight, now and then."""

    __slots__ = ("_next_at",)

    def __init__(self) -> None:
        self._next_at = 0.0

    def due(self, now: float) -> bool:
        """Whether it is time to look."""
        return now >= self._next_at

    def find(self, flights: Iterable[Flight], now: float) -> list[Flight]:
        """Those whose attempt has lasted longer than is configured for their function."""
        found, seen = [], 0
        for flight in flights:
            seen += 1
            limit = flight.track.lane.rule.attempt_timeout
            if limit and now - flight.began_at >= limit:
                found.append(flight)
        self._next_at = now + max(LEAST_S, PACE * seen)
        return found
