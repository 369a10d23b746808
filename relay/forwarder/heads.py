"""The heads of the backlog: what of each lane waits in memory, and reading on from disk.

A cast comes into memory fresh from its COMMIT, by a take in the order of ids, or by a take of deferred ones that are
due.  What waits here stays within BUFFER_BYTES and one cast a lane; at most TAKES takes are out at a time, each of
TAKE_BYTES or one cast, and of TAKE_CASTS casts at most, or as many as are read in half the time that a COMMIT takes, so
that who waits for the writer waits for little more.  A take that the disk failed is tried again a second later.

Never sends anything, and never decides what is next or where it goes: it tells `joined` of a lane that is new, calls
`enter` for one that has got casts to send, and `wake` when a take has come.  Runs in the event loop's thread.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import accumulate

from relay.ageing import Limit
from relay.cast import LaneName, Waiting
from relay.clock import Clock
from relay.forwarder.lanes import OVERHEAD, Flight, Lane, Track
from relay.forwarder.policies import Policies
from relay.settings import Forwarder as Limits
from relay.spool.changes import Took
from relay.spool.spool import Spool

#: bytes of casts in memory that are not in flight, overhead included
BUFFER_BYTES = 16 * 1024 * 1024
#: casts and bytes of payload that one take reads, casts for each second of the last COMMIT where that is more (a cast
#: takes some 9 us to be read: docs/performance.md), and takes that are out at a time
TAKE_CASTS = 256
TAKE_CASTS_A_SECOND = 50_000
TAKE_BYTES = 1024 * 1024
TAKES = 16
#: casts of a lane that are looked at on disk at a time, for those that have expired
SLICE = 500
#: seconds until a take that the disk failed is tried again
AGAIN_S = 1.0


class Heads:
    """The lanes of a spool, with their heads in memory."""

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        limits: Limits,
        joined: Callable[[Lane], None],
        enter: Callable[[Lane, float], None],
        wake: Callable[[], None],
    ) -> None:
        """What is due later than the longest backoff of `limits` was stored before the clock went back."""
        self._spool = spool
        self._clock = clock
        self._joined = joined
        self._enter_lane = enter
        self._farthest_s = limits.backoff_max
        self.policies = Policies(limits)
        self._wake = wake
        self.lanes: dict[bytes, Lane] = {}
        self._tracks: dict[int, Track] = {}
        #: bytes of casts that wait in memory
        self.buffered = 0
        #: casts that are being retired by a late answer: whatever a take brings, they are not to be sent
        self.gone: set[int] = set()
        #: what is too old of a lane, None where nothing is
        self.limit: Callable[[Lane], Limit | None] = lambda _: None
        self._wanting: deque[Track] = deque()
        self._takes = 0
        #: (monotonic, serial, track): when a track's next deferred cast is due
        self._due: list[tuple[float, int, Track]] = []
        self._serial = 0

    def load(self) -> None:
        """Read the heads of what stands in the spool."""
        for name, counts in self._spool.counts.items():
            track = self.track(name)
            track.more = counts.ready > 0
            # released and revived ones count as ready
            track.due_more = counts.deferred > 0 or counts.ready > 0
            self.want(track)

    def expedite(self) -> None:
        """Deferred casts on disk were made due: look at them now."""
        for name, counts in self._spool.counts.items():
            if counts.deferred:
                track = self.track(name)
                track.due_more = True
                self.want(track)

    def configure(self, limits: Limits) -> None:
        """The longest backoff is another one."""
        self._farthest_s = limits.backoff_max
        self.policies = Policies(limits)
        for lane in self.lanes.values():
            lane.rule = self.policies.rule(lane.function)

    def tick(self, now: float) -> None:
        """Look at the tracks with casts that have become due."""
        while self._due and self._due[0][0] <= now:
            _, _, track = heapq.heappop(self._due)
            track.due_at = float("inf")
            track.due_more = True
            self.want(track)

    def sent(self, flights: Iterable[Flight]) -> None:
        """Casts left memory for an upstream."""
        for flight in flights:
            if flight.buffered:
                flight.buffered = False
                self.buffered -= OVERHEAD + flight.size

    def put_back(self, flight: Flight) -> None:
        """A cast came back from an upstream to wait here."""
        flight.track.again.append(flight)
        flight.buffered = True
        self.buffered += OVERHEAD + flight.size

    def park(self, lane: Lane) -> None:
        """Nothing of this lane can be sent: its new casts go back to the disk, for memory is others' to use."""
        for track in lane.tracks:
            # a take that is out would go on behind what is forgotten
            if not track.taking:
                self.buffered -= track.forget()

    def unpark(self, lane: Lane) -> None:
        """It can be sent again: read on."""
        for track in lane.tracks:
            self.want(track)

    def fence(self, numbers: Collection[int]) -> None:
        """Send nothing of these lanes until `unfence`: their casts are being changed."""
        for number in numbers:
            # a lane so new that nothing of it was told yet has one too
            self.track(self._spool.name(number)).lane.fences += 1

    def unfence(self, numbers: Collection[int], now: float) -> None:
        """The change is over, and `drop` was told what left."""
        for number in numbers:
            lane = self._tracks[number].lane
            lane.fences -= 1
            self._enter_lane(lane, now)

    def drop(self, number: int, ids: Collection[int]) -> None:
        """These casts of a lane are not to be sent any more."""
        track = self._tracks.get(number)
        if track is not None:
            self.buffered -= track.drop(ids)
            self.refill(track)

    def refill(self, track: Track) -> None:
        """Read on for a track that runs low."""
        if track.waiting * 2 < track.lane.limit:
            self.want(track)

    def track(self, name: LaneName) -> Track:
        """The track of a lane's name, made when it is new."""
        track = self._tracks.get(name.number)
        if track is None:
            lane = self.lanes.get(name.function)
            if lane is None:
                lane = self.lanes[name.function] = Lane(name.function, self.policies.rule(name.function))
                self._joined(lane)
            track = self._tracks[name.number] = lane.track(name)
        return track

    def offer(self, track: Track, fresh: list[Waiting], now: float) -> None:
        """Casts fresh from a COMMIT: keep what there is room for."""
        room = self._room(track.lane)
        if track.lane.moving:
            # what is fresh need not be read back: as much as half the memory for all lanes holds
            sizes = accumulate([OVERHEAD + len(cast[2]) for cast in fresh])
            room = max(room, bisect_right(list(sizes), BUFFER_BYTES // 2 - self.buffered))
        if sum([len(cast[2]) for cast in fresh[:room]]) > BUFFER_BYTES - self.buffered:
            # large casts: as many as fit, and one where nothing waits
            sizes = accumulate([OVERHEAD + len(cast[2]) for cast in fresh])
            room = min(room, max(bisect_right(list(sizes), BUFFER_BYTES - self.buffered), not track.lane.waiting))
        kept = track.offer(fresh, room)
        if kept:
            self.buffered += OVERHEAD * kept + sum([len(cast[2]) for cast in fresh[:kept]])
            self._enter_lane(track.lane, now)
        elif not track.waiting:
            self.want(track)

    def _room(self, lane: Lane) -> int:
        """Casts that may still come into memory for a lane: what its window could hold, twice while it moves."""
        if lane.parked:
            return 0
        if self.buffered >= BUFFER_BYTES:
            return 0 if lane.waiting else 1
        if lane.moving:
            return max(0, 2 * lane.limit - lane.waiting)
        return max(0, lane.limit - sum([share.window.casts for share in lane.routes]) - lane.waiting)

    def want(self, track: Track) -> None:
        """Have a track read more from disk, when it is its turn."""
        if track.wanted or not self._needs(track):
            return
        track.wanted = True
        self._wanting.append(track)

    def _needs(self, track: Track) -> bool:
        reads = (track.more and not track.taking) or (track.due_more and not track.taking_due)
        return reads and self._room(track.lane) > 0

    def read(self) -> None:
        """Ask the spool for what is wanted, a bounded number of takes at a time."""
        while self._wanting and self._takes < TAKES:
            track = self._wanting.popleft()
            track.wanted = False
            room = min(self._most, self._room(track.lane))
            if room <= 0:
                continue
            number = track.name.number
            if track.more and not track.taking:
                track.taking = True
                self._takes += 1
                self._spool.take(
                    number, track.cursor, room, TAKE_BYTES, partial(self._took, track), self.limit(track.lane)
                )
            if track.due_more and not track.taking_due:
                track.taking_due = True
                self._takes += 1
                now = self._clock.wall()
                far = now + round(self._farthest_s * 1e6)
                self._spool.take_due(
                    number, now, far, room, TAKE_BYTES, partial(self._took_due, track), self.limit(track.lane)
                )

    @property
    def _most(self) -> int:
        """Casts of a take."""
        return max(TAKE_CASTS, round(self._spool.pulse.commit_s * TAKE_CASTS_A_SECOND))

    def _took(self, track: Track, took: Took) -> None:
        """The spool read new casts of a track."""
        self._takes -= 1
        track.taking = False
        if took.failed:
            self.due_in(track, AGAIN_S)
        else:
            track.cursor = max(track.cursor, took.last_id)
            track.more = not took.exhausted
            took = self._without_gone(took)
            track.fresh.extend([taken.cast for taken in took.casts])
        self._enter(track, took)

    def _took_due(self, track: Track, took: Took) -> None:
        """The spool read deferred casts of a track."""
        self._takes -= 1
        track.taking_due = False
        if took.failed:
            self.due_in(track, AGAIN_S)
        else:
            track.due_more = not took.exhausted
            track.scheduled = took.scheduled
            took = self._without_gone(took)
            track.due.extend(took.casts)
            if took.next_due is not None:
                self.due_in(track, max(0.0, (took.next_due - self._clock.wall()) / 1e6))
        self._enter(track, took)

    def expire(self, track: Track, limit: Limit) -> None:
        """Have what is too old on disk buried, a slice at a time; what is in memory or in flight is left alone."""
        ready = track.more and not track.taking
        counts = self._spool.counts.get(track.name)
        if track.sweeping or not (ready or (counts is not None and counts.deferred)):
            return
        track.sweeping = True
        # behind the cursor nothing is in memory while there is more on disk
        after_id = track.cursor if ready else None
        self._spool.expire(track.name.number, after_id, track.swept_due, SLICE, partial(self._swept, track), limit)

    def _swept(self, track: Track, took: Took) -> None:
        track.sweeping = False
        if took.failed:
            return
        track.swept_due = took.next_due or 0
        if not track.taking:
            track.cursor = max(track.cursor, took.last_id)

    def _without_gone(self, took: Took) -> Took:
        if not self.gone:
            return took
        return took._replace(casts=[taken for taken in took.casts if taken.cast[0] not in self.gone])

    def _enter(self, track: Track, took: Took) -> None:
        self.buffered += sum([OVERHEAD + len(taken.cast[2]) for taken in took.casts])
        self._enter_lane(track.lane, self._clock.monotonic())
        if not took.failed:
            self.refill(track)
        self._wake()

    def missed(self) -> LaneName | None:
        """A lane with casts that are counted, and that nothing here leads to; or with less than none.

        What is on its way between here and the disk looks the same for a moment.
        """
        for name, counts in self._spool.counts.items():
            if min(counts.ready, counts.deferred, counts.held, counts.dead, counts.bytes) < 0:
                return name
            track = self._tracks.get(name.number)
            if track is None or track.lane.pending or track.taking_due or self.gone:
                continue
            if counts.ready or (counts.deferred and track.due_at == float("inf")):
                return name
        return None

    def due_in(self, track: Track, wait_s: float) -> None:
        """Look at a track's deferred casts in so many seconds, never later than any backoff."""
        self._serial += 1
        due_at = self._clock.monotonic() + min(wait_s, self._farthest_s)
        if track.due_at <= due_at:
            return
        track.due_at = due_at
        heapq.heappush(self._due, (due_at, self._serial, track))
