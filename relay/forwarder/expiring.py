"""Casts that have outlived their lifetime: found before they are sent, where they wait in memory, and on disk.

What a take reads is looked at by the take.  What the schedule picked is looked at once more (`sift`).  What waits is
swept: LANES lanes a second take turns; of each what waits in memory is looked at, and on disk a slice of SLICE of its
ready casts and as many of its deferred ones.  A cast that was sent where nobody works on it waits, too: it is given up
there.  So functions without workers expire, too, and nothing is scanned.  Where
no function has a lifetime nothing is done at all.

An expired cast is dead with the reason `expired`.  Held casts are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay.ageing import Ageing, Limit, read, written
from relay.clock import Clock
from relay.forwarder.heads import Heads
from relay.forwarder.lanes import Flight, Lane, Track
from relay.forwarder.outlet import Outlet
from relay.forwarder.schedule import Schedule
from relay.forwarder.tally import Tally
from relay.spool.changes import Setback
from relay.spool.spool import Spool

#: seconds between two sweeps, and lanes that one looks at
SWEEP_S = 1.0
LANES = 500


class Expiring:
    """Finds what is too old, and has it buried; all in the event loop's thread."""

    def __init__(self, spool: Spool, heads: Heads, tally: Tally, clock: Clock) -> None:
        self._spool = spool
        self._heads = heads
        self._tally = tally
        self._clock = clock
        self._ageing = Ageing(read(spool.steps), clock.wall(), clock.monotonic(), spool.next_id)
        heads.limit = self.limit
        #: the lanes that are still to be swept in this round
        self._round: list[Lane] = []
        self._next_at = 0.0

    def limit(self, lane: Lane) -> Limit | None:
        """What is too old of a lane at this moment; None where nothing ever is."""
        return self._ageing.limit(lane.rule.lifetime, self._clock.wall()) if lane.rule.lifetime else None

    def tick(self, now: float, outlets: Iterable[Outlet]) -> bool:
        """Watch the clocks, and sweep when it is time; True when the wall clock has stepped."""
        stepped = self._ageing.look(self._clock.wall(), now, self._spool.next_id)
        if stepped:
            self._spool.remember_steps(written(self._ageing.steps))
        if self._heads.policies.ages and now >= self._next_at:
            self._next_at = now + SWEEP_S
            self._sweep()
            for outlet in outlets:
                self.recall(outlet)
        return stepped

    def recall(self, outlet: Outlet) -> None:
        """Casts that wait at an upstream which has no worker for them are given up there once they are too old."""
        if outlet.link is None:
            return
        share = outlet.schedule.share
        found = [
            flight
            for flight in outlet.link.outstanding()
            if not flight.over and share(flight.track.lane).parked and self._is_expired(flight)
        ]
        gone = outlet.link.let_go(found) if found else []
        for flight in gone:
            outlet.schedule.withdrawn(share(flight.track.lane), flight.size)
            flight.attempts += 1
            flight.forget_payload()
        self._bury(gone)

    def sift(self, schedule: Schedule, flights: list[Flight]) -> list[Flight]:
        """Of casts that were picked, those that are not too old; the others are buried."""
        good: list[Flight] = []
        expired: list[Flight] = []
        for flight in flights:
            (expired if self._is_expired(flight) else good).append(flight)
        for flight in expired:
            schedule.withdrawn(schedule.share(flight.track.lane), flight.size)
        self._heads.sent(expired)
        self._bury(expired)
        now = self._clock.monotonic()
        for track in {flight.track for flight in expired}:
            # it left the schedule as one without room, and no verdict will come to bring it back
            schedule.enter(schedule.share(track.lane), now)
            self._heads.refill(track)
        return good

    def _is_expired(self, flight: Flight) -> bool:
        limit = self.limit(flight.track.lane)
        # one that is out elsewhere has not expired: it may be done there
        return limit is not None and not flight.shared and limit.reached(flight.cast[0], flight.cast[3])

    def _bury(self, flights: list[Flight]) -> None:
        """Verdicts like any other: until they are stored, these casts are in flight."""
        if not flights:
            return
        self._tally.sent(flights)
        self._tally.handed_in(len(flights))
        self._spool.store([], [expired(flight) for flight in flights])

    # -- the sweep -------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        if not self._round:
            self._round = [lane for lane in self._heads.lanes.values() if lane.rule.lifetime]
        lanes, self._round = self._round[:LANES], self._round[LANES:]
        for lane in lanes:
            limit = self.limit(lane)
            if limit is not None:
                for track in lane.tracks:
                    self._sweep_track(track, limit)

    def _sweep_track(self, track: Track, limit: Limit) -> None:
        if track.waiting or track.suspects:
            found = track.expire(limit.reached)
            self._heads.sent(found)
            self._bury(found)
        self._heads.expire(track, limit)


def expired(flight: Flight) -> Setback:
    """What is stored of a cast that was too old before it could be sent."""
    return Setback(
        id=flight.cast[0],
        lane=flight.track.name.number,
        deferred=flight.deferred,
        due_at=None,
        attempts=flight.attempts + flight.doubts,
        failures=flight.failures,
        failed=False,
        doubts=flight.doubts,
        reason="expired",
        error="its lifetime was over",
        log=(),
    )
