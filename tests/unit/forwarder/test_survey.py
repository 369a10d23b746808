"""What a census does to lanes: parked, staffed, or left to find out; and that nothing stays parked for ever."""

import asyncio
from collections.abc import Callable, Mapping
from random import Random

import pytest

from relay.clock import Clock
from relay.forwarder import survey
from relay.forwarder.heads import Heads
from relay.forwarder.lanes import Lane
from relay.forwarder.schedule import Schedule
from relay.forwarder.survey import Survey
from relay.settings import Server
from relay.upstream import census
from tests.unit.forwarder.flying import LIMITS, lane_of, track_of, until

SERVER = Server("127.0.0.1", 4730)


class Bench:
    """A survey with a fake census, lanes of its own, and no spool: nothing here reads from disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A clock that stands still until it is set."""
        self.now = 100.0
        self.said: Mapping[bytes, int] | None = {}
        self.asked = 0
        clock = Clock(lambda: 0, lambda: self.now)
        self.schedule = Schedule(LIMITS)
        self.heads = Heads(None, self.schedule, clock, 900.0, lambda: None)  # type: ignore[arg-type]  # no spool
        self.survey = Survey(self.heads, self.schedule, clock, Random(1), lambda: None)

        async def ask(_: Server) -> Mapping[bytes, int] | None:
            self.asked += 1
            return self.said

        monkeypatch.setattr(census, "ask", ask)

    def lane(self, number: int, *ids: int) -> Lane:
        """A lane with these casts in memory."""
        lane = lane_of(number, *ids)
        self.heads.lanes[lane.function] = lane
        return lane

    async def take(self, said: Mapping[bytes, int] | None) -> None:
        """A link opens, and the census says this."""
        self.said = said
        self.survey.open(SERVER)
        await until(lambda: self.survey.done)


def run(monkeypatch: pytest.MonkeyPatch, scenario: Callable[[Bench], object]) -> None:
    """A scenario in an event loop."""

    async def whole() -> None:
        await scenario(Bench(monkeypatch))  # type: ignore[misc]

    asyncio.run(whole())


def test_a_lane_without_workers_is_parked_and_its_casts_leave_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is sent; its new casts are left to the disk, to be read again from where they began."""

    async def scenario(bench: Bench) -> None:
        lane = bench.lane(1, 5, 6, 7)
        await bench.take({b"other": 1})
        assert lane.parked
        assert not lane.waiting
        assert (track_of(lane).cursor, track_of(lane).more) == (4, True)
        assert bench.schedule.pick(bench.now) == []

    run(monkeypatch, scenario)


def test_a_lane_with_workers_moves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shares the upstream's window before its first cast has completed."""

    async def scenario(bench: Bench) -> None:
        lane = bench.lane(1, 5, 6, 7)
        await bench.take({lane.function: 2})
        assert lane.window.moving
        assert [flight.cast[0] for flight in bench.schedule.pick(bench.now)] == [5, 6, 7]

    run(monkeypatch, scenario)


def test_without_a_usable_census_lanes_find_out_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is parked, nothing is taken to move, and the casts go."""

    async def scenario(bench: Bench) -> None:
        lane = bench.lane(1, 5, 6, 7)
        await bench.take(None)
        assert not lane.parked
        assert not lane.window.moving
        assert len(bench.schedule.pick(bench.now)) == 3

    run(monkeypatch, scenario)


def test_what_is_parked_is_asked_about_until_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less and less often, never less than every MOST_S; a worker that comes ends it."""

    async def scenario(bench: Bench) -> None:
        lane = bench.lane(1, 5)
        await bench.take({})
        assert lane.parked
        for _ in range(10):
            asked = bench.asked
            bench.now += survey.MOST_S
            bench.survey.tick(bench.now)
            await until(lambda: bench.survey._task is None)
            assert bench.asked == asked + 1
        bench.said = {lane.function: 1}
        bench.now += survey.MOST_S
        bench.survey.tick(bench.now)
        await until(lambda: bench.survey._task is None)
        assert not lane.parked

    run(monkeypatch, scenario)


def test_a_verdict_ends_what_was_known_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that was parked while a cast of its was out moves again with that cast's verdict, done or not."""

    async def scenario(bench: Bench) -> None:
        lane = bench.lane(1, 5)
        await bench.take({})
        assert lane.parked
        bench.heads.forget_workers(lane, bench.now)
        assert not lane.parked
        assert track_of(lane).wanted

    run(monkeypatch, scenario)
