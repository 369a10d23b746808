"""Whose turn it is: no lane delays another, and the windows never leak."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.forwarder.lanes import Flight, Lane
from relay.forwarder.schedule import QUANTUM, Schedule
from relay.forwarder.window import STALL_S, START, START_BYTES, TRYING_PART, Side
from relay.settings import Forwarder as Limits
from tests.unit.forwarder.flying import LIMITS, due, lane_of, track_of, waiting

MIB = 1024 * 1024
ROOMY = replace(LIMITS, window=1000, window_bytes=64 * MIB, function_window=500, function_window_bytes=8 * MIB)


def sent_by(flights: list[Flight], lane: Lane) -> list[int]:
    """Which casts of a lane."""
    return [flight.cast[0] for flight in flights if flight.track.lane is lane]


def enter(schedule: Schedule, lane: Lane, now: float) -> None:
    """Have a lane send here, under the limits that hold here, and take turns."""
    lane.rule = schedule.limits
    share = schedule.share(lane)
    share.routed = True
    schedule.enter(share, now)


def prove(schedule: Schedule, lane: Lane, now: float) -> None:
    """Have a lane show that it moves: its casts go out and come back until its window is whole."""
    window = schedule.share(lane).window
    while not (window.moving and window.limit >= schedule.limits.function_window):
        track_of(lane).fresh.extend([waiting(id_) for id_ in range(1, 1 + QUANTUM)])
        enter(schedule, lane, now)
        flights = schedule.pick(now)
        mine = sent_by(flights, lane)
        assert mine
        schedule.completed(schedule.share(lane), len(mine), len(mine), now)
        track_of(lane).fresh.clear()
        track_of(lane).again.clear()


@pytest.mark.parametrize(("size", "new"), [(1, True), (1, False), (10_000, True), (10_000, False), (8 * MIB, False)])
def test_ten_thousand_still_lanes_keep_nobody_from_its_window(size: int, new: bool) -> None:
    """Lanes without workers, before or after the one that moves, small or large: it has its whole window, at once.

    They are tried in turn, a part of the window at a time, until each has a cast in flight that nobody takes.
    """
    schedule = Schedule(ROOMY)
    schedule.window.open_to = 1 << 20
    payload = b"x" * size
    still = [Lane(b"still%d" % number, LIMITS) for number in range(10_000)]
    moves = lane_of(99_999)

    def let_them_in(now: float) -> float:
        for number, lane in enumerate(still):
            track_of(lane, number).fresh.extend([(number, None, payload, 0)] * 3)
            enter(schedule, lane, now)
        while schedule.pick(now):
            assert schedule.window.trying <= ROOMY.window // TRYING_PART
            now += STALL_S
            for lane in [one for one in still if schedule.share(one).window.casts]:
                if schedule.check(schedule.share(lane), now):
                    enter(schedule, lane, now)
        return now

    if new:
        now = let_them_in(0.0)
        prove(schedule, moves, now)
    else:
        prove(schedule, moves, 0.0)
        now = let_them_in(0.0)
        schedule.share(moves).window.heard_at = now
    assert size > MIB or all(schedule.share(lane).window.casts for lane in still)
    track_of(moves).fresh.extend([waiting(id_) for id_ in range(1, 2000)])
    enter(schedule, moves, now)
    assert sent_by(schedule.pick(now), moves) == list(range(1, 501))


def test_new_lanes_never_overshoot_a_window_that_is_full_and_get_what_is_free_first() -> None:
    """A lane that moves fills the window and would take all that comes free; twenty new ones get their part of it."""
    limits = replace(ROOMY, window=40)
    schedule, busy = Schedule(limits), lane_of(99)
    prove(schedule, busy, 0.0)
    track_of(busy).fresh.extend([waiting(id_) for id_ in range(1000)])
    enter(schedule, busy, 0.0)
    assert len(schedule.pick(0.0)) == 40
    fresh = [lane_of(number, *range(8)) for number in range(20)]
    for lane in fresh:
        enter(schedule, lane, 0.0)
    assert schedule.pick(0.0) == []
    news = 0
    for _ in range(40):
        schedule.completed(schedule.share(busy), 1, 1, 0.0)
        enter(schedule, busy, 0.0)
        (flight,) = schedule.pick(0.0)
        news += flight.track.lane is not busy
        assert schedule.window.casts == 40
    assert news == schedule.window.trying == 40 // TRYING_PART


def test_a_new_lane_gets_its_try_among_many_that_stand_still() -> None:
    """With the allowance of the others used up by large casts, a lane that just came sends its first one."""
    schedule = Schedule(ROOMY)
    for number in range(10):
        enter(schedule, lane_of(number, *range(8), size=8 * MIB), 0.0)
    schedule.pick(0.0)
    live = lane_of(100, 1, 2, 3)
    enter(schedule, live, 1.0)
    assert sent_by(schedule.pick(1.0), live)


@pytest.mark.parametrize("moving", [True, False])
def test_one_cast_always_fits(moving: bool) -> None:
    """A cast larger than every limit of bytes goes out, alone."""
    schedule, lane = Schedule(LIMITS), lane_of(1)
    if moving:
        prove(schedule, lane, 0.0)
    track_of(lane).fresh.extend([waiting(1, 10 * LIMITS.window_bytes), waiting(2), waiting(3)])
    enter(schedule, lane, 0.0)
    flights = schedule.pick(0.0)
    assert sent_by(flights, lane)[0] == 1
    assert schedule.share(lane).window.bytes >= 10 * LIMITS.window_bytes
    assert len(flights) == 1 or not moving


def test_bytes_end_a_turn_and_the_order_holds() -> None:
    """What is over the bytes waits, in its place: the casts go in the order of ids over several turns."""
    schedule = Schedule(ROOMY)
    lane = lane_of(1, *range(1, 9), size=START_BYTES // 2)
    out: list[int] = []
    for _ in range(8):
        enter(schedule, lane, 0.0)
        flights = schedule.pick(0.0)
        assert sum(flight.size for flight in flights[:-1]) < ROOMY.function_window_bytes
        out += [flight.cast[0] for flight in flights]
        for flight in flights:
            schedule.completed(schedule.share(lane), 1, flight.size, 0.0)
    assert out == list(range(1, 9))


def test_a_lane_that_stalls_leaves_the_window_of_the_moving() -> None:
    """What it has in flight counts elsewhere from then on, and comes back with its next verdict."""
    schedule, lane = Schedule(LIMITS), lane_of(1)
    prove(schedule, lane, 0.0)
    track_of(lane).fresh.extend([waiting(id_) for id_ in range(10)])
    enter(schedule, lane, 0.0)
    schedule.pick(0.0)
    assert schedule.window.moving == 10
    assert schedule.check(schedule.share(lane), STALL_S)
    assert (schedule.window.moving, schedule.window.stalled) == (0, 10)
    schedule.completed(schedule.share(lane), 1, 1, STALL_S)
    assert (schedule.window.moving, schedule.window.stalled) == (9, 0)


def test_lanes_take_turns() -> None:
    """Two lanes that move share a window that both could fill: neither waits for the other's end."""
    schedule = Schedule(replace(ROOMY, window=2 * QUANTUM))
    lanes = [lane_of(1), lane_of(2)]
    for lane in lanes:
        prove(schedule, lane, 0.0)
    for lane in lanes:
        track_of(lane, lanes.index(lane) + 1).fresh.extend([waiting(id_) for id_ in range(1000)])
        enter(schedule, lane, 0.0)
    flights = schedule.pick(0.0)
    assert [len(sent_by(flights, lane)) for lane in lanes] == [QUANTUM, QUANTUM]


def test_new_and_due_take_turns() -> None:
    """Within one lane's turn the old backlog and fresh casts alternate."""
    schedule, lane = Schedule(LIMITS), lane_of(1, *range(100, 110))
    track_of(lane).due.extend([due(id_) for id_ in range(10)])
    enter(schedule, lane, 0.0)
    flights = schedule.pick(0.0)
    assert len(flights) == START
    assert sum(flight.deferred for flight in flights) == START // 2
    assert all(former.deferred != later.deferred for former, later in pairwise(flights))


def test_a_lane_that_rests_sends_nothing() -> None:
    """Before its time a lane does not take turns; from then on it does."""
    schedule, lane = Schedule(LIMITS), lane_of(1, 1, 2)
    schedule.rest(schedule.share(lane), 5.0)
    enter(schedule, lane, 4.9)
    assert schedule.pick(4.9) == []
    schedule.tick(5.0)
    assert len(schedule.pick(5.0)) == 2


class Upstream:
    """A model of what is in flight, driven by random events; the schedule's numbers are compared after each."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.schedule = Schedule(limits)
        self.lanes = [lane_of(number) for number in range(4)]
        self.flying: list[Flight] = []
        self.now = 0.0
        self.ids = 0
        #: what each lane sent of its new casts, in order
        self.first_sends: dict[Lane, list[int]] = {lane: [] for lane in self.lanes}
        self.sent: list[int] = []

    def offer(self, lane: int, size: int) -> None:
        """Some casts come into memory."""
        for _ in range(1 + size % 20):
            self.ids += 1
            track_of(self.lanes[lane]).fresh.append(waiting(self.ids, size * 37))
        enter(self.schedule, self.lanes[lane], self.now)

    def pick(self, lane: int, size: int) -> None:
        """Send what may go."""
        window = self.schedule.window
        before = window.moving + window.trying
        for flight in self.schedule.pick(self.now):
            assert flight not in self.flying
            self.flying.append(flight)
            if flight.cast[0] not in self.sent:
                self.first_sends[flight.track.lane].append(flight.cast[0])
            self.sent.append(flight.cast[0])
        assert window.moving + window.trying <= max(before, self.limits.window)
        if not self.flying:
            assert not any(lane.waiting for lane in self.lanes), "something could have been sent"

    def end(self, lane: int, size: int, *, done: bool) -> None:
        """Verdicts of some casts of a lane."""
        mine = [flight for flight in self.flying if flight.track.lane is self.lanes[lane]][: 1 + size % 9]
        share = self.schedule.share(self.lanes[lane])
        if done and mine:
            self.schedule.completed(share, len(mine), sum(flight.size for flight in mine), self.now)
        for flight in mine:
            self.flying.remove(flight)
            if not done:
                self.schedule.failed(share, flight.size, self.now)
        enter(self.schedule, self.lanes[lane], self.now)

    def complete(self, lane: int, size: int) -> None:
        """Some are done."""
        self.end(lane, size, done=True)

    def fail(self, lane: int, size: int) -> None:
        """Some are not."""
        self.end(lane, size, done=False)

    def stall(self, lane: int, size: int) -> None:
        """Time passes."""
        self.now += size / 100
        for one in self.lanes:
            self.schedule.check(self.schedule.share(one), self.now)

    def lose(self, lane: int, size: int) -> None:
        """The link is lost, and another one opens."""
        for flight in sorted(self.flying, key=lambda one: one.cast[0], reverse=True):
            flight.track.again.insert(0, flight)
        self.flying.clear()
        self.schedule.clear()
        for one in self.lanes:
            enter(self.schedule, one, self.now)

    def check(self) -> None:
        """The windows say what is in flight."""
        window = self.schedule.window
        for lane in self.lanes:
            mine = [flight.size for flight in self.flying if flight.track.lane is lane]
            assert (self.schedule.share(lane).window.casts, self.schedule.share(lane).window.bytes) == (
                len(mine),
                sum(mine),
            )
        windows = [self.schedule.share(lane).window for lane in self.lanes]
        for side, casts in ((Side.MOVING, window.moving), (Side.TRYING, window.trying), (Side.STALLED, window.stalled)):
            assert casts == sum(one.casts for one in windows if one.side is side)
        assert window.casts == len(self.flying)
        assert window.moving_bytes == sum(one.bytes for one in windows if one.moving)
        assert window.still_bytes == sum(one.bytes for one in windows if not one.moving)


MOVES: list[Callable[[Upstream, int, int], None]] = [
    Upstream.offer,
    Upstream.offer,
    Upstream.pick,
    Upstream.pick,
    Upstream.complete,
    Upstream.complete,
    Upstream.fail,
    Upstream.stall,
    Upstream.lose,
]


@given(
    st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 3), st.integers(0, 400)), max_size=60),
    st.sampled_from([LIMITS, ROOMY, replace(LIMITS, window=3, function_window=2, function_window_bytes=100)]),
)
def test_windows_never_leak(moves: list[tuple[Callable[[Upstream, int, int], None], int, int]], limits: Limits) -> None:
    """After any sequence of events the windows hold what is in flight, and at the end, when all is done, nothing."""
    upstream = Upstream(limits)
    for move, lane, size in moves:
        move(upstream, lane, size)
        upstream.check()
    while upstream.flying or any(lane.waiting for lane in upstream.lanes):
        upstream.pick(0, 0)
        upstream.check()
        for lane in range(4):
            while any(flight.track.lane is upstream.lanes[lane] for flight in upstream.flying):
                upstream.complete(lane, 8)
                upstream.check()
    window = upstream.schedule.window
    assert (window.casts, window.moving_bytes, window.still_bytes) == (0, 0, 0)
    assert sorted(set(upstream.sent)) == list(range(1, upstream.ids + 1))
    assert all(sends == sorted(sends) for sends in upstream.first_sends.values())
