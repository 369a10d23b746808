"""What the log says of an upstream, and what is told of one that failed.

The forwarder stands between the fakes of `test_loop`.
"""

from __future__ import annotations

import pytest

from tests.unit.forwarder.test_loop import SERVERS, Bench, run


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of upstreams, without who it is."""
    found = [record.getMessage() for record in caplog.records if record.name.endswith("outlet")]
    return [line.removeprefix("upstream one:4730 ") for line in found]


def test_one_that_comes_back_is_said_to_be_in_use_once_it_has_shown_that_it_works(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A link that is lost again at once is no news; the first cast that is done on the next one is, once."""
    caplog.set_level("INFO")

    async def scenario(bench: Bench) -> None:
        (await bench.open()).break_()
        bench.later(20)
        (await bench.open()).break_()
        bench.later(20)
        await bench.open()
        assert lines(caplog)[2:] == []
        bench.accept(1, 2)
        bench.tell(done=[1])
        bench.tell(done=[2])
        assert lines(caplog)[2:] == ["is in use: back after 40 s, 0 casts completed elsewhere since"]

    run(monkeypatch, scenario, SERVERS[:1])


def test_tries_are_said_once_whatever_is_done_between(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Reached after tries, worked, paused and resumed: nothing was tried for that."""
    caplog.set_level("INFO")

    async def scenario(bench: Bench) -> None:
        for _ in range(3):
            bench.link.break_("Connection refused")
            bench.later(20)
        await bench.open()
        bench.accept(1, 2)
        bench.tell(done=[1])
        for paused in (True, False):
            bench.forwarder.pause(str(SERVERS[0]), paused)
        assert lines(caplog) == [
            "cannot be reached: Connection refused",
            "is in use: reached after 3 tries",
            "is in use",
        ]

    run(monkeypatch, scenario, SERVERS[:1])


def test_an_error_is_told_no_longer_than_it_is_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that failed one is in use again; the other one is tried all the same, and was reached: it has no error."""

    async def scenario(bench: Bench) -> None:
        bench.link.break_("Connection refused")
        bench.link.break_("Connection refused")
        bench.later(20)
        for link in bench.links[2:]:
            link.is_open = True
            link.listener.opened(link)  # type: ignore[arg-type]
        facts = bench.forwarder.facts().upstreams
        assert [one.role for one in facts].count("in use") == 1
        assert [one.last_error for one in facts] == ["", ""]

    run(monkeypatch, scenario)
