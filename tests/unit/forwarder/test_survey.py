"""When a server is asked where workers are: once for a link, then as long as there is reason to."""

import asyncio
from collections.abc import Callable
from random import Random

import pytest

from relay.clock import Clock
from relay.forwarder import survey
from relay.forwarder.survey import Survey
from relay.settings import Server
from relay.upstream import census
from relay.upstream.census import Census
from tests.unit.forwarder.flying import until

SERVER = Server("127.0.0.1", 4730)


class Bench:
    """A survey with a fake census and a clock that stands still until it is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Somebody is concerned, and nothing is changed by what is learned."""
        self.now = 100.0
        self.concerned, self.changed = True, False
        self.said = Census({b"f": 1})
        self.asked = self.knocked = 0
        self.told: list[Census] = []
        clock = Clock(lambda: 0, lambda: self.now)
        self.survey = Survey(SERVER, clock, Random(1), lambda: self.concerned, self.learned)

        async def ask(_: Server) -> Census:
            self.asked += 1
            return self.said

        async def knock(_: Server) -> Census:
            self.knocked += 1
            return Census(None)

        monkeypatch.setattr(census, "ask", ask)
        monkeypatch.setattr(census, "knock", knock)

    def learned(self, answer: Census) -> bool:
        """Keep what was told."""
        self.told.append(answer)
        return self.changed

    async def open(self) -> None:
        """A link opens, and is surveyed."""
        self.survey.open()
        await until(lambda: self.survey.done)

    async def wait(self, seconds: float) -> int:
        """Time passes: how many times it asked meanwhile, looked at ten times a second."""
        asked = self.asked
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.survey.tick(self.now)
            await until(lambda: self.survey._task is None)
        return self.asked - asked


def run(monkeypatch: pytest.MonkeyPatch, scenario: Callable[[Bench], object]) -> None:
    """A scenario in an event loop."""

    async def whole() -> None:
        await scenario(Bench(monkeypatch))  # type: ignore[misc]

    asyncio.run(whole())


@pytest.mark.parametrize("said", [Census(None), Census(None, refused=True), Census({}), Census({b"f": 1})])
def test_a_link_is_surveyed_once_whatever_comes_of_it(monkeypatch: pytest.MonkeyPatch, said: Census) -> None:
    """It is done with the first answer, or the lack of one; what was said is told."""

    async def scenario(bench: Bench) -> None:
        bench.said = said
        assert not bench.survey.done
        await bench.open()
        assert (bench.asked, bench.told) == (1, [said])

    run(monkeypatch, scenario)


def test_a_link_that_is_lost_is_to_be_surveyed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked before it was lost is not waited for, and opens nothing."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.survey.open()
        bench.survey.close()
        await asyncio.sleep(0)
        assert not bench.survey.done
        assert len(bench.told) == 1

    run(monkeypatch, scenario)


def test_it_asks_less_and_less_often_but_never_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits grow, up to MOST_S."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        first, second = await bench.wait(5), await bench.wait(30)
        assert first > second / 6
        for _ in range(5):
            assert await bench.wait(survey.MOST_S + 0.2) >= 1

    run(monkeypatch, scenario)


def test_what_changes_something_makes_it_ask_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a census that changed something it begins with short waits again."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        await bench.wait(60)
        bench.changed = True
        while not await bench.wait(0.1):
            pass
        assert await bench.wait(survey.WAIT_S + 0.2) == 1

    run(monkeypatch, scenario)


def test_without_concern_it_only_knocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and then, while there is a link; and once there is concern it asks within WAIT_S."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.concerned = False
        assert await bench.wait(3 * survey.KNOCK_S) == 0
        assert 2 <= bench.knocked <= 6
        bench.concerned = True
        await bench.wait(survey.MOST_S)
        assert bench.asked > 1

    run(monkeypatch, scenario)


def test_where_there_is_no_link_nobody_knocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks where workers are if somebody is concerned, and is not done by that."""

    async def scenario(bench: Bench) -> None:
        assert await bench.wait(survey.MOST_S + 0.2) >= 1
        assert not bench.survey.done
        bench.concerned = False
        await bench.wait(3 * survey.KNOCK_S)
        assert bench.knocked == 0

    run(monkeypatch, scenario)
