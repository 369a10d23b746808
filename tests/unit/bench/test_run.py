"""bench.__main__: which rows a form of the run has, in which order they are measured, and that none begins too late."""

from pathlib import Path

import pytest

from bench.__main__ import Run, some_rows
from bench.peers import Absent, Broken
from bench.plan import Contender, Figures, Plan, Row
from bench.rows import ROWS

PLAN = Plan(Path("nowhere"), 1, 1.0, 1, 1, 1, 1, 1.0)


def run(limit_s: float, measured: list[str], rounds: dict[str, int | None]) -> Run:
    """A row with a contender for each name, which notes that it was measured."""

    def contender(who: str) -> Contender:
        def measure(_plan: Plan) -> Figures:
            measured.append(who)
            return {"rate": 1.0}

        return Contender(measure, "", rounds=rounds[who])

    return Run([Row("row", "", {"rate": "casts/s"}, {who: contender(who) for who in rounds})], PLAN, limit_s)


def test_the_order_turns_and_some_are_measured_less_often() -> None:
    """Forwards, backwards, forwards; one that is measured once is there in the first round only."""
    measured: list[str] = []
    going = run(60, measured, {"a": None, "b": 1, "c": None})
    kept: list[int] = []
    going.keep = lambda so_far: kept.append(len(so_far.figures))
    for number in (1, 2, 3):
        going.round(number)
    assert measured == ["a", "b", "c", "c", "a", "a", "c"]
    assert going.by_round("row", "a", "rate") == {1: 1.0, 2: 1.0, 3: 1.0}
    assert kept == [1, 2, 3, 3, 3, 3, 3]  # what there is, after each of the seven


def test_nothing_begins_that_would_end_after_the_limit() -> None:
    """By how long the same took before; what is left out is counted, and is no failure."""
    measured: list[str] = []
    going = run(60, measured, {"a": None, "b": None})
    going.took["row", "a"] = 61.0
    going.round(1)
    assert (measured, going.late, going.failed) == (["b"], 1, False)
    going.end -= 60
    going.round(2)
    assert (measured, going.late) == (["b"], 3)


@pytest.mark.parametrize(("error", "failed"), [(Absent("redis-server"), False), (Broken("a count is wrong"), True)])
def test_what_fails_is_not_tried_again_and_the_others_go_on(error: Exception, failed: bool) -> None:
    """A peer that is not installed is no failure of the run; one whose counts are wrong is."""
    measured: list[str] = []
    going = run(60, measured, {"a": None})

    def fails(_plan: Plan) -> Figures:
        measured.append("fails")
        raise error

    going.rows[0].contenders["fails"] = Contender(fails, "")
    for number in (1, 2):
        going.round(number)
    assert measured.count("fails") == 1
    assert measured.count("a") == 2
    assert going.failed is failed
    assert str(error) in going.notes["row", "fails"] + going.reasons.get(("row", "fails"), "")


def test_the_forms_of_a_run() -> None:
    """The core is a part of all that --full has; --quick starts no broker that takes long; --only names rows."""
    core, full = some_rows([], quick=False, full=False), some_rows([], quick=False, full=True)
    assert {row.name for row in core} < {row.name for row in full} == {row.name for row in ROWS}
    assert not any(row.full or one.full for row in core for one in row.contenders.values())
    quick = some_rows([], quick=True, full=False)
    assert quick
    assert all(one.quick and row.contenders for row in quick for one in row.contenders.values())
    assert [row.name for row in some_rows(["latency"], quick=False, full=False)] == ["latency"]
