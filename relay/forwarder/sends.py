"""Casts that are out more than once: their sends, by the cast's id.

A cast is ordinarily at one upstream.  One that waits at a server without workers cannot be called back, so it is sent
once more where a worker is; each send is a Flight of its own.  The first WORK_COMPLETE retires the cast, and then the
other sends are *over*: what comes of them changes nothing but the windows.  A send that ends without a verdict while
another is out is simply forgotten; only with the last one is the cast in doubt.

Pure.  Casts with one send are not looked up: their flights are not `shared`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from relay.forwarder.lanes import Flight, Lane


class Sends:
    """The flights of each cast that has more than one."""

    def __init__(self) -> None:
        self._of: dict[int, list[Flight]] = {}

    def __len__(self) -> int:
        """How many casts are out more than once."""
        return len(self._of)

    def double(self, flights: Iterable[Flight], lanes: Collection[Lane]) -> None:
        """Have each of these that is of one of the lanes, and out once, be sent once more."""
        wanted = set(lanes)
        for flight in sorted(flights, key=lambda flight: flight.cast[0]):
            if flight.track.lane in wanted and not flight.shared and not flight.over:
                other = Flight(flight.cast, flight.track, flight.attempts, flight.failures, flight.deferred, flight.key)
                other.doubts = flight.doubts
                other.buffered, other.counted = False, True
                flight.shared = other.shared = True
                self._of[flight.cast[0]] = [flight, other]
                flight.track.again.append(other)

    def settle(self, flight: Flight) -> bool:
        """A verdict came for this send: False if the cast has had its verdict, else the others are over."""
        if flight.over:
            return False
        for other in self._of.pop(flight.cast[0], ()):
            if other is not flight:
                other.over = True
                # it may still be executed there
                flight.doubts += 1
        return True

    def lost(self, flight: Flight) -> bool:
        """This send ended without a verdict: True if the cast is in doubt by that, so that it must go out again."""
        if flight.over:
            return False
        if not flight.shared:
            return True
        left = [other for other in self._of.pop(flight.cast[0]) if other is not flight]
        for other in left:
            other.doubts += 1
            other.shared = len(left) > 1
        if len(left) > 1:
            self._of[flight.cast[0]] = left
        return False
