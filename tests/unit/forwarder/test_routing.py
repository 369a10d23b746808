"""Where lanes go: to the upstreams in use, or where workers are; and that nothing stays parked for ever."""

from collections.abc import Sequence

import pytest

from relay.clock import Clock
from relay.forwarder.heads import Heads
from relay.forwarder.lanes import Lane
from relay.forwarder.outlet import Outlet
from relay.forwarder.routing import Routing
from relay.forwarder.schedule import Schedule
from relay.forwarder.window import START
from tests.unit.forwarder.flying import LIMITS, lane_of, track_of


class FakeOutlet:
    """An outlet that is open when a test says so; its schedule is a real one."""

    def __init__(self) -> None:
        self.schedule = Schedule(LIMITS)
        self.is_open = self.sends = False

    def pick(self) -> list[int]:
        """The casts that would be sent there now."""
        return [flight.cast[0] for flight in self.schedule.pick(100.0)]


class Bench:
    """Two upstreams, and lanes without a spool: nothing here reads from disk."""

    def __init__(self, *used: int) -> None:
        self.one, self.two = self.outlets = FakeOutlet(), FakeOutlet()
        self.heads = Heads(
            None,  # type: ignore[arg-type]  # no spool
            Clock(lambda: 0, lambda: 100.0),
            LIMITS,
            lambda lane: self.routing.join(lane),  # noqa: PLW0108 - it is made after the heads
            lambda lane, now: self.routing.enter(lane, now),  # noqa: PLW0108 - likewise
            lambda: None,
        )
        self.routing = Routing(self.heads)
        self.use(*used)

    def use(self, *used: int) -> None:
        """These are open, and in use."""
        for number in used:
            self.outlets[number].is_open = self.outlets[number].sends = True
        self.routing.use(self.real(0, 1), self.real(*used), 100.0)

    def real(self, *numbers: int) -> Sequence[Outlet]:
        """Outlets, as the types want them."""
        return [self.outlets[number] for number in numbers]  # type: ignore[misc]

    def lane(self, number: int, *ids: int) -> Lane:
        """A lane with these casts in memory."""
        lane = lane_of(number, *ids)
        self.heads.lanes[lane.function] = lane
        self.routing.join(lane)
        self.routing.enter(lane, 100.0)
        return lane

    def learn(self, number: int, workers: dict[bytes, int]) -> bool:
        """An upstream's census."""
        return self.routing.learned(self.real(number)[0], workers, 100.0)


def test_a_lane_goes_to_the_upstream_in_use() -> None:
    """And nowhere else, whatever else is open; with none in use it waits, and is not parked."""
    bench = Bench()
    lane = bench.lane(1, 5, 6)
    assert (lane.routes, lane.parked) == ([], False)
    bench.two.is_open = bench.two.sends = True
    bench.use(0)
    assert bench.two.pick() == []
    assert bench.one.pick() == [5, 6]


def test_a_lane_without_workers_is_parked_and_its_casts_leave_memory() -> None:
    """Nothing of it is sent; its new casts are left to the disk, to be read again from where they began."""
    bench = Bench(0)
    lane = bench.lane(1, 5, 6, 7)
    assert bench.learn(0, {b"other": 1})
    assert lane.parked
    assert not lane.waiting
    assert (track_of(lane).cursor, track_of(lane).more) == (4, True)
    assert bench.one.pick() == []


def test_a_lane_with_workers_moves_at_once() -> None:
    """It shares the upstream's window before its first cast has completed."""
    bench = Bench(0)
    lane = bench.lane(1, 5, 6, 7)
    bench.learn(0, {lane.function: 2})
    assert lane.moving
    assert lane.workers == 2
    assert bench.one.pick() == [5, 6, 7]


def test_workers_that_come_end_the_parking() -> None:
    """At the next census; the casts are read again."""
    bench = Bench(0)
    lane = bench.lane(1, 5)
    bench.learn(0, {})
    assert bench.learn(0, {lane.function: 1})
    assert not lane.parked
    assert track_of(lane).wanted


def test_a_verdict_ends_what_was_known_of_workers() -> None:
    """A lane that was parked while a cast of its was out moves again with that cast's verdict, done or not."""
    bench = Bench(0)
    lane = bench.lane(1, 5)
    bench.learn(0, {})
    assert lane.parked
    bench.routing.heard(bench.one.schedule.share(lane), 100.0)
    assert not lane.parked
    assert track_of(lane).wanted


def test_what_moves_is_never_parked() -> None:
    """A census that was taken while its workers came back says nobody is there: it moves on."""
    bench = Bench(0)
    lane = bench.lane(1, 5, 6)
    assert bench.one.pick() == [5, 6]
    bench.one.schedule.completed(bench.one.schedule.share(lane), 1, 1, 100.0)
    bench.learn(0, {})
    assert not lane.parked


def test_a_lane_goes_where_workers_are() -> None:
    """Parked at the upstream in use, it wants the one that has workers; once that is open its casts go there."""
    bench = Bench(0)
    lane, other = bench.lane(1, 5, 6), bench.lane(2, 7)
    bench.learn(0, {other.function: 1})
    track_of(lane).fresh.extend([(8, None, b"x", 0)])
    assert bench.routing.concerned(bench.real(1)[0])
    assert bench.learn(1, {lane.function: 1, other.function: 1}) is False
    assert bench.routing.wanted == {bench.two}
    bench.two.is_open = bench.two.sends = True
    assert bench.learn(1, {lane.function: 1, other.function: 1})
    assert not bench.routing.wanted
    assert not lane.parked
    assert (bench.one.pick(), bench.two.pick()) == ([7], [8])
    assert not bench.routing.concerned(bench.real(1)[0])


def test_a_lane_comes_back_when_the_upstream_in_use_has_workers_again() -> None:
    """From then on its casts go there, and what is in flight elsewhere ends there."""
    bench = Bench(0)
    lane = bench.lane(1, 5)
    bench.learn(0, {})
    bench.two.is_open = bench.two.sends = True
    bench.learn(1, {lane.function: 1})
    bench.learn(0, {lane.function: 1})
    track_of(lane).fresh.extend([(8, None, b"x", 0)])
    bench.routing.enter(lane, 100.0)
    assert (bench.two.pick(), bench.one.pick()) == ([], [8])


def test_an_upstream_that_goes_takes_its_lanes_to_the_others() -> None:
    """What was known there holds no longer; a lane that only had workers there is parked again."""
    bench = Bench(0)
    lane = bench.lane(1, 5)
    bench.learn(0, {})
    bench.two.is_open = bench.two.sends = True
    bench.learn(1, {lane.function: 1})
    bench.two.is_open = bench.two.sends = False
    bench.two.schedule.clear()
    bench.use(0)
    assert lane.parked
    assert lane.routes == [bench.one.schedule.share(lane)]


def test_with_several_in_use_a_lane_goes_to_all_that_have_workers() -> None:
    """Round robin: both, until one of them has none for it."""
    bench = Bench(0, 1)
    lane = bench.lane(1, *range(5, 5 + 3 * START))
    bench.learn(0, {lane.function: 1})
    bench.learn(1, {lane.function: 1})
    assert len(bench.one.pick()) == len(bench.two.pick()) == START
    lane.routes[0].window.proven = False
    bench.learn(0, {})
    assert lane.routes == [bench.two.schedule.share(lane)]
    assert not lane.parked


@pytest.mark.parametrize("left", ["waiting", "in flight", "nothing"])
def test_only_lanes_with_casts_concern_anybody(left: str) -> None:
    """Neither an idle lane nor one that moves is asked about."""
    bench = Bench(0)
    lane = bench.lane(1, 5)
    if left != "waiting":
        assert bench.one.pick() == [5]
    if left == "nothing":
        bench.one.schedule.failed(bench.one.schedule.share(lane), 1, 100.0)
    assert bench.routing.concerned(bench.real(0)[0]) == (left != "nothing")


def test_a_census_that_says_the_same_of_lanes_that_stand_still_costs_them_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Parked once, they are routed anew only when it has workers for them, or they have nothing left to send."""
    bench = Bench(0)
    lanes = [bench.lane(number, number) for number in range(3)]
    assert bench.learn(0, {})
    routed: list[Lane] = []
    route = bench.routing.route
    monkeypatch.setattr(bench.routing, "route", lambda lane, now: (routed.append(lane), route(lane, now)))
    assert not bench.learn(0, {})
    assert routed == []
    for track in lanes[1].tracks:
        track.more = False
    assert bench.learn(0, {lanes[2].function: 1})
    assert routed == lanes[1:]
    assert [lane.parked for lane in lanes] == [True, False, False]
