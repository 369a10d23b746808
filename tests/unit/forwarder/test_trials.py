"""Casts that may be what links are lost by: tried alone, each on a link of its own.

The forwarder stands between the fakes of `test_loop`.
"""

from __future__ import annotations

import pytest

from relay.forwarder import trials
from relay.protocol.upstream import News
from tests.unit.forwarder.test_loop import SERVERS, Bench, F, FakeLink, run


async def suspected(bench: Bench) -> FakeLink:
    """Cast 1 was in flight at SUSPECT losses in a row; the link of the upstream in use has held since."""
    bench.accept(1)
    for _ in range(trials.SUSPECT):
        main = await bench.open()
        assert bench.sent() == [1]
        main.break_()
        bench.later(60)
    main = await bench.open()
    bench.later(0.1)
    assert bench.sent() == []
    assert bench.link is main
    bench.later(trials.KILL_S)
    assert bench.link is not main
    return main


def test_a_cast_in_flight_at_losses_in_a_row_is_tried_alone_and_dead_if_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a link of its own, beside the others' work, GUILTY times; then it is dead, and nothing of it leaks."""

    async def scenario(bench: Bench) -> None:
        main = await suspected(bench)
        for number in range(1, trials.GUILTY + 1):
            trial = await bench.open()
            assert [job[0].cast[0] for job in trial.sent] == [1]
            assert bench.forwarder.is_in_flight(1)
            assert bench.spool.setbacks == []
            trial.break_()
            assert not bench.forwarder.is_in_flight(1)
            bench.accept(1 + number)
            assert [job[0].cast[0] for job in main.sent] == list(range(2, 2 + number))
            bench.later(0.1)
        (setback,) = bench.spool.setbacks
        assert (setback.id, setback.due_at, setback.reason, setback.failed) == (1, None, "kills_link", False)
        assert setback.doubts == trials.SUSPECT + trials.GUILTY
        bench.stored()
        facts = bench.forwarder.facts()
        assert facts.in_flight_ready == sum(one.in_flight for one in facts.upstreams) == trials.GUILTY

    run(monkeypatch, scenario, SERVERS[:1])


def test_the_end_of_a_trial_lets_its_lane_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suspect may fill its function's window; what waits behind it goes once the link of the trial is lost."""

    async def scenario(bench: Bench) -> None:
        main = await suspected(bench)
        trial = await bench.open()
        bench.accept(2)
        assert main.sent == []
        trial.break_()
        assert [job[0].cast[0] for job in main.sent] == [2]

    run(monkeypatch, scenario, SERVERS[:1], function_window=1)


@pytest.mark.parametrize("verdict", [True, False])
def test_a_suspect_is_acquitted_by_a_verdict_or_by_a_link_that_holds(
    monkeypatch: pytest.MonkeyPatch, verdict: bool
) -> None:
    """Done, or out again the usual way after KILL_S; its losses are forgotten."""

    async def scenario(bench: Bench) -> None:
        main = await suspected(bench)
        trial = await bench.open()
        if verdict:
            bench.tell(done=[1])
            assert [one[0] for one in bench.spool.done] == [1]
            assert main.sent == []
        else:
            bench.later(trials.KILL_S)
            assert [job[0].cast[0] for job in main.sent] == [1]
        assert not trial.is_open
        facts = bench.forwarder.facts()
        assert sum(one.in_flight for one in facts.upstreams) == (0 if verdict else 1)

    run(monkeypatch, scenario, SERVERS[:1])


def test_losses_long_after_a_send_make_no_suspect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that takes its time is in flight at many losses, and is none of their causes."""

    async def scenario(bench: Bench) -> None:
        bench.accept(1)
        for _ in range(3 * trials.SUSPECT):
            main = await bench.open()
            assert bench.sent() == [1]
            bench.later(trials.KILL_S)
            main.break_()
            bench.later(60)

    run(monkeypatch, scenario, SERVERS[:1])


@pytest.mark.parametrize("change", ["fenced", "dropped", "disk fails", "stopping"])
def test_a_suspect_is_not_sent_when_its_link_opens_too_late(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Held or buried while the link of its trial connects, or with the disk failing or the agent stopping by then."""

    async def scenario(bench: Bench) -> None:
        await suspected(bench)
        trial = bench.link
        if change == "disk fails":
            bench.spool.failing = "disk I/O error"
        elif change == "stopping":
            bench.forwarder._stopping = True
        else:
            assert bench.forwarder.fence([F]) == set()
            if change == "dropped":
                bench.forwarder._heads.drop(F, {1})
                bench.forwarder.unfence([F])
        await bench.open()
        assert trial.sent == []
        assert not trial.is_open
        bench.later(0.1)
        assert bench.link is trial
        bench.spool.failing = None
        if change == "fenced":
            bench.forwarder.unfence([F])
        if change in ("fenced", "disk fails"):
            bench.later(0.1)
            await bench.open()
            assert bench.link is not trial
            assert bench.sent() == [1]

    run(monkeypatch, scenario, SERVERS[:1])


def test_a_late_completion_ends_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier attempt has done the suspect while it is tried: retired once, and neither guilty nor sent again."""

    async def scenario(bench: Bench) -> None:
        main = await suspected(bench)
        trial = await bench.open()
        (flight,) = trial.flying
        outlet = bench.forwarder._rotation.outlets[main.server]
        outlet.told(main, News(late=[flight]))  # type: ignore[arg-type]
        assert [one[0] for one in bench.spool.done] == [1]
        assert bench.spool.late == []
        bench.later(0.1)
        assert not trial.is_open
        bench.later(trials.KILL_S)
        assert bench.link is trial
        assert bench.spool.setbacks == main.sent == []
        assert outlet.in_flight == 0
        bench.stored()
        assert bench.forwarder.facts().in_flight_ready == 0

    run(monkeypatch, scenario, SERVERS[:1])


@pytest.mark.parametrize("loss", ["its own", "the upstream's"])
def test_a_link_that_is_lost_after_a_late_completion_speaks_against_nothing(
    monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    """The cast is done: it does not come back as a suspect, and its place in the windows is given back once."""

    async def scenario(bench: Bench) -> None:
        main = await suspected(bench)
        trial = await bench.open()
        outlet = bench.forwarder._rotation.outlets[main.server]
        outlet.told(main, News(late=list(trial.flying)))  # type: ignore[arg-type]
        (trial if loss == "its own" else main).break_()
        assert outlet.in_flight == 0
        bench.stored()
        assert bench.forwarder.facts().in_flight_ready == 0
        sends = sum(len(link.sent) for link in bench.links)
        bench.later(60)
        await bench.open()
        bench.later(trials.KILL_S)
        assert sum(len(link.sent) for link in bench.links) == sends

    run(monkeypatch, scenario, SERVERS[:1])


def test_a_suspect_expires_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lifetime is over before its turn: dead with that reason, and tried no more."""

    async def scenario(bench: Bench) -> None:
        await suspected(bench)
        trial = bench.link
        bench.later(1000)
        assert [(one.id, one.reason) for one in bench.spool.setbacks] == [(1, "expired")]
        await bench.open()
        assert trial.sent == []

    run(monkeypatch, scenario, SERVERS[:1], lifetime=1000.0)
