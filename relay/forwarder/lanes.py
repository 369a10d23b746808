"""A lane: one function's casts that wait in memory, and how far its backlog on disk has been read.

What waits in memory is a small, bounded head of the backlog; the rest stays on disk.  A cast comes into memory by one
of three ways: fresh from a COMMIT (only while nothing of its track is left on disk, so that order holds), taken from
disk in the order of ids, or due again after a backoff.  Casts whose link was lost come first of all, then new and
deferred ones take turns, so that an old backlog does not starve fresh casts.

Tracks are the lane's priorities, each with a number in the spool; the higher priority goes first.  Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from relay.cast import LaneName, Taken, Waiting
from relay.forwarder.window import START, FunctionWindow
from relay.settings import Forwarder as Limits

if TYPE_CHECKING:
    from relay.forwarder.schedule import Schedule

#: what a cast in memory costs beside its payload, in bytes, when memory is counted
OVERHEAD = 512


class Flight:
    """A cast handed to an upstream, or on its way there again: remembered, never stored.

    `attempts` and `failures` are those of its fate; `doubts` are sends since that ended without a verdict.
    """

    __slots__ = (
        "attempts",
        "began_at",
        "began_us",
        "buffered",
        "counted",
        "deferred",
        "cast",
        "doubts",
        "failures",
        "key",
        "kind",
        "kills",
        "losses",
        "over",
        "shared",
        "size",
        "track",
    )

    def __init__(
        self, cast: Waiting, track: Track, attempts: int, failures: int, deferred: bool, key: bytes | None = None
    ) -> None:
        self.cast = cast
        self.track = track
        self.size = len(cast[2])
        self.attempts = attempts
        self.failures = failures
        self.deferred = deferred
        #: the idempotency key that it was imported with, if it was
        self.key = key
        self.doubts = 0
        #: the packet that it was last submitted by
        self.kind = 0
        #: links in a row that were lost soon after it was sent, and of these such that it had for itself (see `trials`)
        self.losses = 0
        self.kills = 0
        #: True while its cast is out more than once, and once another send has brought its verdict (see `sends`)
        self.shared = False
        self.over = False
        #: True while it counts among the casts that wait in memory, and while its cast counts as in flight
        self.buffered = True
        self.counted = False
        self.began_at = 0.0
        self.began_us = 0

    def forget_payload(self) -> None:
        """It is not to be sent again, only known by its id."""
        self.cast = (self.cast[0], None, b"", self.cast[3])

    def __repr__(self) -> str:
        return f"<Flight of cast {self.cast[0]}, attempt {self.attempts + self.doubts + 1}>"


class Track:
    """One priority of a lane; `number` is the spool's."""

    __slots__ = (
        "again",
        "cursor",
        "due",
        "due_at",
        "due_more",
        "fresh",
        "lane",
        "more",
        "name",
        "new_turn",
        "scheduled",
        "suspects",
        "sweeping",
        "swept_due",
        "taking",
        "taking_due",
        "wanted",
    )

    def __init__(self, name: LaneName, lane: Lane) -> None:
        self.name = name
        self.lane = lane
        # most lanes never have any of these, and an empty deque costs ten times an empty list; a window bounds them
        #: in doubt: to be sent again, oldest first
        self.again: list[Flight] = []
        #: those that may be what links are lost by: to be sent alone (see `trials`)
        self.suspects: list[Flight] = []
        #: new casts in the order of ids, up to `cursor`; `more` when there are others behind it on disk
        self.fresh: deque[Waiting] = deque()
        self.cursor = 0
        self.more = False
        self.taking = False
        #: deferred ones that are due; `due_more` when there are (or may be) others on disk
        self.due: list[Taken] = []
        self.due_more = False
        self.taking_due = False
        #: when to look for due ones again (monotonic seconds)
        self.due_at = float("inf")
        #: True while the next cast to become due is one for which its caller named the moment
        self.scheduled = False
        #: True while the disk is looked at for what has expired, and how far the deferred ones were (us)
        self.sweeping = False
        self.swept_due = 0
        #: True while it stands in line for a take
        self.wanted = False
        self.new_turn = True

    @property
    def waiting(self) -> int:
        """Casts that could be sent from memory."""
        return len(self.again) + len(self.fresh) + len(self.due)

    def offer(self, casts: list[Waiting], room: int) -> int:
        """Fresh casts from a COMMIT: keep the first `room`, leave the rest on disk; how many were kept."""
        if self.more or self.taking:
            return 0
        kept = casts[:room] if room > 0 else []
        if len(kept) < len(casts):
            self.more = True
        if kept:
            self.fresh += kept
            self.cursor = kept[-1][0]
        return len(kept)

    def forget(self) -> int:
        """Leave the new casts to the disk again; the bytes that gives back."""
        if not self.fresh:
            return 0
        freed = sum([OVERHEAD + len(cast[2]) for cast in self.fresh])
        self.cursor = self.fresh[0][0] - 1
        self.fresh.clear()
        self.more = True
        return freed

    def expire(self, reached: Callable[[int, int], bool]) -> list[Flight]:
        """Give out what is too old of what waits here, told by its id and `since`."""
        # what is out elsewhere may be done there
        out: list[Flight] = []
        again, self.again = self.again, []
        for flight in again:
            old = not flight.shared and reached(flight.cast[0], flight.cast[3])
            (out if old else self.again).append(flight)
        suspects, self.suspects = self.suspects, []
        for flight in suspects:
            (out if reached(flight.cast[0], flight.cast[3]) else self.suspects).append(flight)
        while self.fresh and reached(self.fresh[0][0], self.fresh[0][3]):
            out.append(Flight(self.fresh.popleft(), self, 0, 0, False))
        for taken in [taken for taken in self.due if reached(taken.cast[0], taken.cast[3])]:
            self.due.remove(taken)
            out.append(Flight(*self._revived(taken)))
        return out

    def drop(self, ids: Collection[int]) -> int:
        """Forget these casts, where they wait here; the bytes that gives back."""
        freed = sum([OVERHEAD + one.size for one in self.again if one.buffered and one.cast[0] in ids])
        self.again = [flight for flight in self.again if flight.cast[0] not in ids]
        self.suspects = [flight for flight in self.suspects if flight.cast[0] not in ids]
        freed += sum([OVERHEAD + len(cast[2]) for cast in self.fresh if cast[0] in ids])
        freed += sum([OVERHEAD + len(taken.cast[2]) for taken in self.due if taken.cast[0] in ids])
        self.fresh = deque([cast for cast in self.fresh if cast[0] not in ids])
        self.due = [taken for taken in self.due if taken.cast[0] not in ids]
        return freed

    def pull(self, casts: int) -> list[Flight]:
        """At most `casts` to be sent now."""
        out: list[Flight] = []
        while self.again and (room := casts - len(out)) > 0:
            first = self.again[:room]
            del self.again[:room]
            out += [flight for flight in first if not flight.over]
        if not self.due:
            fresh = self.fresh
            out += [Flight(fresh.popleft(), self, 0, 0, False) for _ in range(min(casts - len(out), len(fresh)))]
            return out
        while len(out) < casts and (self.fresh or self.due):
            if self.fresh and (self.new_turn or not self.due):
                out.append(Flight(self.fresh.popleft(), self, 0, 0, False))
            else:
                out.append(Flight(*self._revived(self.due.pop(0))))
            self.new_turn = not self.new_turn
        return out

    def _revived(self, taken: Taken) -> tuple[Waiting, Track, int, int, bool, bytes | None]:
        return taken.cast, self, taken.attempts, taken.failures, taken.deferred, taken.key


class Share:
    """What a lane has of one upstream: its window, its workers, and its place in the schedule there."""

    __slots__ = ("lane", "not_before", "queued", "routed", "schedule", "troubles", "window", "workers")

    def __init__(self, lane: Lane, schedule: Schedule) -> None:
        self.lane = lane
        self.schedule = schedule
        self.window = FunctionWindow()
        #: True while it stands in the schedule
        self.queued = False
        #: True while casts of the lane may be sent to this upstream
        self.routed = False
        self.reset()

    def reset(self) -> None:
        """The link is gone, and what was known with it."""
        self.window.reset()
        #: how many workers the upstream said it has, None where it was not asked
        self.workers: int | None = None
        #: troubles of the server with this function in a row, and until when it is left alone (monotonic seconds)
        self.troubles = 0
        self.not_before = 0.0

    @property
    def parked(self) -> bool:
        """True while the upstream says that nobody works on this function: nothing is sent there.

        Unless it is asked for no more than to accept.
        """
        return self.workers == 0 and self.lane.rule.confirm == "completed"

    @property
    def stranded(self) -> bool:
        """True while casts wait here for workers that are not here, and others of the lane go elsewhere."""
        return self.parked and not self.routed and self.window.casts > 0


class Lane:
    """One function: its tracks by priority, its shares of the upstreams, and what went wrong last."""

    __slots__ = (
        "deaths_logged",
        "fences",
        "function",
        "last_error",
        "log_at",
        "parked",
        "routes",
        "rule",
        "shares",
        "tracks",
        "unlogged",
    )

    def __init__(self, function: bytes, rule: Limits) -> None:
        self.function = function
        #: what is configured for this function
        self.rule = rule
        self.tracks: list[Track] = []
        #: one for each upstream that it has had to do with, and those of them to which its casts go now
        self.shares: list[Share] = []
        self.routes: list[Share] = []
        #: True while no upstream that may be used has workers for it: nothing is sent
        self.parked = False
        self.last_error = ""
        #: when a failure was last logged, and how many were not since
        self.log_at = 0.0
        self.unlogged = 0
        self.deaths_logged = 0
        #: changes of an operator's that are under way on its casts: nothing is sent
        self.fences = 0

    def track(self, name: LaneName) -> Track:
        """The track of that priority, made when it is new."""
        for track in self.tracks:
            if track.name.priority == name.priority:
                return track
        made = Track(name, self)
        self.tracks.append(made)
        self.tracks.sort(key=lambda track: track.name.priority)
        return made

    @property
    def in_flight(self) -> int:
        """Casts at any upstream."""
        return sum([share.window.casts for share in self.shares])

    @property
    def moving(self) -> bool:
        """True while it completes casts where they are sent to."""
        return any(share.window.moving for share in self.routes)

    @property
    def limit(self) -> int:
        """Casts that its windows would let out now, as far as it alone is asked."""
        return sum([share.window.limit for share in self.routes]) or START

    @property
    def workers(self) -> int | None:
        """How many workers the upstreams said they have for it, None where none was asked."""
        known = [share.workers for share in self.shares if share.workers is not None]
        return sum(known) if known else None

    @property
    def pending(self) -> bool:
        """True while it has casts in flight, in memory, or on disk for the taking."""
        # asked of ten thousand lanes in a row: most say so here
        for track in self.tracks:
            if (
                track.more
                or track.fresh
                or track.due_more
                or track.due
                or track.again
                or track.suspects
                or track.taking
            ):
                return True
        return any(share.window.casts for share in self.shares)

    @property
    def waiting(self) -> int:
        """Casts that could be sent from memory."""
        return sum([track.waiting for track in self.tracks])

    def pull(self, casts: int) -> list[Flight]:
        """At most `casts` to be sent now, the higher priorities first."""
        if len(self.tracks) == 1:
            return self.tracks[0].pull(casts)
        out: list[Flight] = []
        for track in self.tracks:
            if len(out) < casts:
                out += track.pull(casts - len(out))
        return out
