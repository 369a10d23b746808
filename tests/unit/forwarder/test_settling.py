"""What becomes of casts that take too long, are done late, are only to be accepted, or are refused as low ones.

The forwarder stands between the fakes of `test_loop`.
"""

from __future__ import annotations

import pytest

from relay.protocol.packets import Kind
from relay.protocol.upstream import News
from relay.settings import Policy
from tests.unit.forwarder.test_loop import NAMES, Bench, F, G, run


def late(bench: Bench, *flights: object) -> None:
    """The server says that these were done after all."""
    bench.forwarder._rotation.outlets[bench.link.server].told(bench.link, News(late=list(flights)))  # type: ignore[arg-type]


def test_an_attempt_that_takes_too_long_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """After attempt_timeout, not before: counted, with its reason, due again by its backoff, and room for another."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(5, lane=F)
        bench.later(4.9)
        assert bench.spool.setbacks == []
        bench.later(0.2)
        (setback,) = bench.spool.setbacks
        assert (setback.id, setback.reason, setback.failures, setback.failed) == (5, "attempt_timeout", 1, True)
        assert setback.error == "no verdict within 5 s"
        assert setback.due_at is not None
        assert bench.link.flying == []
        bench.later(10)
        assert len(bench.spool.setbacks) == 1

    run(monkeypatch, scenario, attempt_timeout=5.0)


def test_only_functions_with_a_timeout_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy may time one function and leave all others alone."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(5, lane=F)
        bench.accept(6, lane=G)
        bench.later(60)
        assert [setback.id for setback in bench.spool.setbacks] == [6]

    policy = Policy("g", ("g",), None, None, None, 5.0, None)
    run(monkeypatch, scenario, policies=(policy,))


def test_a_late_completion_retires_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up and done late: the spool is told to retire it, by its own look at it, once, and it is not sent again."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(5)
        (flight,) = bench.link.flying
        bench.later(5)
        assert flight.cast[:3] == (5, None, b"")
        late(bench, flight)
        late(bench, flight)
        assert bench.spool.late == [5]
        assert bench.spool.done == []

    run(monkeypatch, scenario, attempt_timeout=5.0)


def test_the_history_gets_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one is wanted: when the attempt began, when it was done, where, and the how manieth; late ones too."""

    async def scenario(bench: Bench) -> None:
        bench.spool.keeps_done = True
        await bench.open()
        bench.accept(5)
        began = bench.link.flying[0].began_us
        bench.later(1)
        bench.tell(done=[5])
        bench.accept(6)
        (flight,) = bench.link.flying
        bench.later(6)
        late(bench, flight, flight)
        assert bench.spool.late == [6]
        server = str(bench.link.server)
        first, second = bench.spool.kept
        assert first == (5, 1, 1, 0, began, began + 1_000_000, server)
        assert second == (6, 1, 1, 0, flight.began_us, flight.began_us + 6_000_000, server)

    run(monkeypatch, scenario, attempt_timeout=5.0)


def test_without_a_history_it_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off is off."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(5)
        bench.tell(done=[5])
        assert [one[0] for one in bench.spool.done] == [5]
        assert bench.spool.kept == []

    run(monkeypatch, scenario)


def test_a_late_completion_ends_the_attempt_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Done late while it is in flight again, after a lost link: that attempt is done; a second late answer is not."""

    async def scenario(bench: Bench) -> None:
        first = await bench.open()
        bench.accept(5)
        (old,) = first.flying
        first.break_()
        await bench.open()
        assert bench.sent() == [5]
        late(bench, old)
        assert [one[0] for one in bench.spool.done] == [5]
        assert bench.link.flying == []
        assert bench.spool.late == []

    run(monkeypatch, scenario)


@pytest.mark.parametrize(("confirm", "kind"), [("completed", Kind.SUBMIT_JOB), ("accepted", Kind.SUBMIT_JOB_BG)])
def test_confirm_says_which_job_is_submitted(monkeypatch: pytest.MonkeyPatch, confirm: str, kind: Kind) -> None:
    """Background where accepted is enough, foreground otherwise; and a policy may say so for one function."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(5, lane=F)
        bench.accept(6, lane=G)
        assert [job[4] for job in bench.link.sent] == [Kind.SUBMIT_JOB, kind]

    run(monkeypatch, scenario, policies=(Policy("g", ("g",), confirm, None, None, None, None),))


def test_low_is_tried_as_normal_where_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refused ones go as normal at once, later ones from the start; on the next link low is tried again."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(5, 6)
        troubles = [(id_, Kind.ERROR, b"server_error\0no CMD_submit_job_low") for id_ in (5, 6)]
        bench.tell(troubles=troubles)
        bench.accept(7)
        kinds = [(job[0].cast[0], job[4]) for job in bench.link.sent]
        low, normal = Kind.SUBMIT_JOB_LOW, Kind.SUBMIT_JOB
        assert kinds == [(5, low), (6, low), (5, normal), (6, normal), (7, normal)]
        assert bench.spool.setbacks == []
        bench.link.break_()
        await bench.open()
        assert bench.link.sent[0][4] == low

    monkeypatch.setitem(NAMES, F, NAMES[F]._replace(priority=2))
    run(monkeypatch, scenario)


def test_a_refusal_of_the_normal_one_is_the_servers_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails as a normal one, too, waits: it was not for its priority."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(5)
        for _ in range(2):
            bench.tell(troubles=[(5, Kind.ERROR, b"server_error\0broken")])
        assert len(bench.sent()) == 2
        bench.later(60)
        assert bench.link.sent[2][4] == Kind.SUBMIT_JOB

    monkeypatch.setitem(NAMES, F, NAMES[F]._replace(priority=2))
    run(monkeypatch, scenario)


def test_what_is_out_twice_and_refused_as_low_is_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The send that was refused is forgotten, the other one is the cast's: no memory and no count is left behind."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(5)
        lane = bench.link.flying[0].track.lane
        bench.forwarder._sends.double(bench.link.outstanding(), [lane])
        bench.forwarder._go_on(lane)
        first, second = bench.link.flying
        assert second.shared
        bench.tell(troubles=[(5, Kind.ERROR, b"server_error\0no CMD_submit_job_low")])
        (left,) = {first, second} - {flight for flight in (first, second) if flight not in bench.link.flying}
        bench.tell(done=[5])
        assert [one[0] for one in bench.spool.done] == [5]
        assert not left.shared
        bench.stored()
        bench.later(1)
        assert bench.sent() == [5, 5]
        assert bench.forwarder._heads.buffered == 0
        assert bench.forwarder.facts().in_flight_ready == 0

    monkeypatch.setitem(NAMES, F, NAMES[F]._replace(priority=2))
    run(monkeypatch, scenario)


def test_a_cast_counts_as_completed_where_it_was_with_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with its verdict, which may never be stored; what comes in between is the next COMMIT's."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(5, 6, 7)

        def completed() -> int:
            return sum(one.completed for one in bench.forwarder.facts().upstreams)

        bench.tell(done=[5], troubles=[(6, Kind.WORK_FAIL, b"")])
        assert completed() == 0
        bench.stored()
        assert completed() == 1
        bench.tell(done=[7])
        assert completed() == 1
        bench.stored()
        assert completed() == 2

    run(monkeypatch, scenario)


# -- lifetimes ---------------------------------------------------------------------------------------------------------


def test_what_waits_in_memory_expires_and_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no upstream at all: after its lifetime it is dead with its reason, uncounted as a failure, and not sent."""

    async def scenario(bench: Bench) -> None:
        bench.accept(5, 6)
        bench.later(59)
        assert bench.spool.setbacks == []
        bench.accept(7)
        bench.later(2)
        assert [(one.id, one.reason, one.due_at, one.failed) for one in bench.spool.setbacks] == [
            (5, "expired", None, False),
            (6, "expired", None, False),
        ]
        assert bench.forwarder.facts().in_flight_ready == 2
        bench.stored()
        assert bench.forwarder.facts().in_flight_ready == 0
        await bench.open()
        assert bench.sent() == [7]

    run(monkeypatch, scenario, lifetime=60.0)


def test_what_is_too_old_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at once more when it is its turn, whenever the last sweep was; its place in the windows is free again."""

    async def scenario(bench: Bench) -> None:
        bench.accept(5)
        bench.now += 61
        bench.wall += 61 * 10**6
        bench.accept(6)
        await bench.open()
        assert bench.sent() == [6]
        assert [one.reason for one in bench.spool.setbacks] == ["expired"]
        bench.tell(done=[6])
        assert [upstream.in_flight for upstream in bench.forwarder.facts().upstreams] == [0, 0]

    run(monkeypatch, scenario, lifetime=60.0)


def test_a_step_of_the_clock_is_written_down_and_expires_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten years on: nothing is too old, deferred casts on disk are looked at, and the step is remembered."""

    async def scenario(bench: Bench) -> None:
        bench.accept(5)
        bench.spool.counts[NAMES[F]].deferred = 1
        bench.later(1)
        bench.wall += 10 * 365 * 86400 * 10**6
        bench.later(0.1)
        bench.later(2)
        assert bench.spool.setbacks == []
        assert bench.spool.steps is not None
        assert len(bench.spool.due_takes) == 1

    run(monkeypatch, scenario, lifetime=60.0)


def test_the_disk_is_swept_beyond_what_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where casts have a lifetime, and only for lanes with something on disk that memory does not have."""

    async def scenario(bench: Bench) -> None:
        bench.accept(*range(5, 500), lane=F)
        bench.accept(*range(500, 900), lane=G)
        bench.later(2)
        (kept,) = [lane for lane in bench.forwarder._heads.lanes.values() if lane.function == b"g"]
        assert bench.spool.sweeps == [(G, kept.tracks[0].cursor)]
        assert kept.tracks[0].cursor < 899

    policy = Policy("g", ("g",), None, 60.0, None, None, None)
    run(monkeypatch, scenario, policies=(policy,))


def test_what_waits_where_nobody_works_on_it_expires_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent to find out, and too old by now: given up and buried; one that a worker may have is left alone."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(5, lane=F)
        bench.accept(6, lane=G)
        (outlet,) = [one for one in bench.forwarder._rotation.outlets.values() if one.link is not None]
        outlet.schedule.share(bench.link.flying[0].track.lane).workers = 0
        bench.later(61)
        assert [(one.id, one.reason, one.due_at, one.attempts) for one in bench.spool.setbacks] == [
            (5, "expired", None, 1)
        ]
        assert [flight.cast[0] for flight in bench.link.flying] == [6]
        assert outlet.in_flight == 1

    run(monkeypatch, scenario, lifetime=60.0)


def test_a_lane_goes_on_when_all_that_was_picked_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    """No verdict will come of those, and what waits behind them in memory goes out all the same."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(*range(1, 9))
        bench.tell(done=range(1, 9))
        bench.accept(*range(20, 36))
        bench.accept(*range(36, 100))
        bench.now += 61
        bench.wall += 61_000_000
        bench.accept(100)
        bench.tell(done=range(20, 36))
        for _ in range(9):
            bench.stored()
        assert {one for one in bench.sent() if one >= 36} == {100}

    run(monkeypatch, scenario, lifetime=60.0)


def test_a_lane_reads_on_when_all_that_was_picked_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing in memory behind them, the next ones are read from disk."""

    async def scenario(bench: Bench) -> None:
        bench.accept(*range(1, 10))
        bench.now += 61
        bench.wall += 61_000_000
        await bench.open()
        assert len(bench.spool.setbacks) == 8
        assert [lane for lane, _ in bench.spool.takes] == [F]

    run(monkeypatch, scenario, lifetime=60.0)


def test_what_failed_after_its_cast_was_done_elsewhere_keeps_no_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handle is remembered for a late answer; 4,096 payloads beside them would be memory without bound."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(5)
        (flight,) = bench.link.flying
        flight.over = True
        bench.tell(troubles=[(5, Kind.WORK_FAIL, b"")])
        assert bench.spool.setbacks == []
        assert flight.cast[:3] == (5, None, b"")

    run(monkeypatch, scenario)
