"""bench.targets: a target is met by the figures that it names, missed by others, and says so where there are none."""

from typing import Any

import pytest

from bench import scale
from bench.rows import ROWS
from bench.targets import MANY, TARGETS, Found, Target, cells


class Asked(Found):
    """Notes each figure that a target asks for."""

    def __init__(self) -> None:
        super().__init__([])
        self.rows: set[tuple[str, str, str]] = set()
        self.backlogs: set[str] = set()

    def by_round(self, row: str, who: str, metric: str) -> dict[int, float]:
        self.rows.add((row, who, metric))
        return {}

    def with_backlog(self, backlog: str, metric: str) -> float | None:
        self.backlogs.add(metric)
        return None


def report(**rounds: dict[str, dict[str, float]]) -> dict[str, Any]:
    return {"rows": [{"row": "accept", "who": who, "rounds": found} for who, found in rounds.items()]}


def test_every_target_names_figures_that_a_run_has() -> None:
    """The rows and contenders of all targets exist, each in a form of the run that measures it, and so do columns."""
    asked = Asked()
    for target in TARGETS:
        assert cells(target, asked)[3] == "not measured"
    known = {(row.name, who) for row in ROWS for who in row.contenders}
    assert {(row, who) for row, who, _ in asked.rows} <= known
    assert asked.backlogs <= set(scale.COLUMNS)
    shown = {row.name: set(row.metrics) for row in ROWS}
    assert all(metric in shown[row] for row, _, metric in asked.rows)


@pytest.mark.parametrize(
    ("least", "bound", "says"),
    [(True, 0.6, "met"), (True, 0.7, "missed"), (False, 0.5, "missed"), (False, 0.7, "met")],
)
def test_a_target_is_the_median_of_ratios_within_rounds(least: bool, bound: float, says: str) -> None:
    """0.6 here: the median of 0.5, 0.6 and 0.9, not the quotient of the medians, which is 0.5."""
    relay = {"1": {"rate": 50.0}, "2": {"rate": 6.0}, "3": {"rate": 900.0}}
    redis = {"1": {"rate": 100.0}, "2": {"rate": 10.0}, "3": {"rate": 1000.0}}
    target = Target("", least, bound, lambda found: found.ratio("accept", "relay", "rate", "redis"))
    assert cells(target, Found([report(relay=relay, redis=redis)]))[2:] == ["0.60", says]


def test_of_two_runs_the_later_one_counts() -> None:
    """Where both have a row; what only one has stays."""
    first = report(relay={"1": {"rate": 1.0}}, redis={"1": {"rate": 7.0}})
    found = Found([first, report(relay={"1": {"rate": 2.0}})])
    assert found.median("accept", "relay", "rate") == 2.0
    assert found.median("accept", "redis", "rate") == 7.0


def test_growth_is_against_an_empty_spool() -> None:
    """With ten million in it, against none."""
    figures = {"0": {"through": 10.0}, MANY: {"through": 9.0}}
    assert Found([{"figures": figures}]).grown("through") == 0.9
    assert Found([{"figures": {"0": {"through": 10.0}}}]).grown("through") is None
