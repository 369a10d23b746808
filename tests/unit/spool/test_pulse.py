"""What the spool measures of itself, on a clock that the test sets."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from relay.clock import Clock
from relay.spool import pulse
from relay.spool.pulse import COMPLETION_S, Pulse
from relay.spool.spool import Spool
from relay.spool.transitions import Transitions
from tests.unit.limits import unlimited
from tests.unit.spool.writing import NOW, Writer, cast


class Now:
    """A monotonic clock that stands still."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def within(measured: Pulse, bound: float) -> int:
    """How many casts took that long at most."""
    return measured.completion_seconds.cumulative()[COMPLETION_S.index(bound)]


def test_a_commit_is_measured_from_begin_to_end() -> None:
    """Its duration, and how many casts it accepted; while it runs it can be seen since when."""
    now = Now()
    measured = Pulse(now)
    measured.begin()
    assert measured.committing_since == 1000.0
    now.at += 0.03
    measured.end(7)
    assert measured.committing_since is None
    assert measured.commit_s == measured.commit_seconds.sum > 0
    assert measured.commit_seconds.cumulative()[pulse.COMMIT_S.index(0.05)] == 1
    assert measured.commit_seconds.cumulative()[pulse.COMMIT_S.index(0.02)] == 0
    assert (measured.batch_casts.sum, measured.batch_casts.cumulative()[-1]) == (7, 1)


def test_one_that_failed_or_accepted_nothing_is_no_batch() -> None:
    """A COMMIT that failed counts nowhere, one of verdicts alone as a COMMIT only."""
    measured = Pulse(Now())
    measured.begin()
    measured.end(None)
    measured.begin()
    measured.end(0)
    assert (measured.commit_seconds.cumulative()[-1], measured.batch_casts.cumulative()[-1]) == (1, 0)


def test_the_time_to_completion_is_that_of_each_cast_of_a_batch() -> None:
    """Casts accepted at three moments and done in one batch fall into the buckets of their own ages."""
    now = Now()
    measured = Pulse(now)
    for next_id in (100, 110, 120):
        measured.mark(next_id)
        now.at += 7
    # 100 to 109 are 21 s old, 110 to 119 are 14 s, those from 120 on 7 s
    measured.completed([105, 100, 111, 125, 126, 127])
    assert [within(measured, bound) for bound in (5, 10, 30)] == [0, 3, 6]
    assert measured.completion_seconds.cumulative()[-1] == 6
    assert measured.completion_seconds.sum == pytest.approx(2 * 21 + 14 + 3 * 7)


def test_batches_add_up() -> None:
    """A second batch counts on from the first, and an empty one changes nothing."""
    now = Now()
    measured = Pulse(now)
    measured.mark(1)
    now.at += 0.15
    measured.completed([1])
    measured.completed([])
    measured.completed([2, 3])
    assert (within(measured, 0.1), within(measured, 0.2), measured.completion_seconds.cumulative()[-1]) == (0, 3, 3)


def test_casts_of_an_earlier_start_have_their_age_from_disk() -> None:
    """What was remembered at the start counts, though the wall clock went back between two of them."""
    now = Now()
    measured = Pulse(now)
    measured.remember([(10, 4000.0), (20, 9000.0), (30, 40.0)])
    measured.mark(50)
    measured.completed([12, 25, 33])
    assert [within(measured, bound) for bound in (30, 60, 1800, 14_400)] == [0, 1, 1, 3]


def test_one_from_before_all_marks_is_as_old_as_the_first() -> None:
    """It is counted, once, and never as older than is known."""
    now = Now()
    measured = Pulse(now)
    measured.mark(50)
    now.at += 3
    measured.completed([7])
    assert [within(measured, bound) for bound in (2, 5)] == [0, 1]


def test_marks_are_bounded_and_still_tell_old_from_new() -> None:
    """Far more marks than are kept: the oldest cast and a new one are still told apart."""
    now = Now()
    measured = Pulse(now)
    for number in range(3 * pulse.MARKS):
        measured.mark(10 * number)
        now.at += 1
    assert len(measured._ids) <= pulse.MARKS
    assert measured._ids == sorted(set(measured._ids))
    measured.completed([1, 10 * (3 * pulse.MARKS - 2)])
    assert [within(measured, bound) for bound in (1, 5, 3600, 14_400)] == [0, 1, 1, 2]


def test_ages_are_looked_up_from_end_to_end(tmp_path: Path) -> None:
    """Some casts of many, the first among them, in order; none of none; what is no number any more says nothing."""
    writer = Writer(tmp_path / "spool" / "spool.db")
    assert writer.transitions.ages(4) == []
    ids = writer.accept(*[cast()] * 100)
    found = writer.transitions.ages(4)
    assert found == sorted(found)
    assert found[0] == (ids[0], NOW)
    assert 2 <= len(found) <= 4
    writer.conn.execute("UPDATE casts SET accepted_at = 'rotten'")
    assert writer.transitions.ages(4) == []
    writer.close()


def test_a_spool_whose_ages_cannot_be_read_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is broken costs a measure, not the agent."""

    def broken(self: Transitions, casts: int) -> list[tuple[int, int]]:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(Transitions, "ages", broken)

    async def story() -> None:
        spool = Spool(unlimited(tmp_path / "spool" / "spool.db"), Clock())
        spool.start(asyncio.get_running_loop(), lambda error: None)
        await spool.finish()
        spool.close()

    asyncio.run(story())
