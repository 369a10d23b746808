"""Medians, ratios and their layout: pure functions of what was measured.

A ratio is taken within a round, between figures measured seconds apart, and the median is of these ratios:
what slows the machine for a while slows both sides of a round. The quotient of the two medians would not
have that.
"""

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

ByRound = dict[int, float]  # round -> figure; a round that failed is not there


class Spread(NamedTuple):
    median: float
    low: float
    high: float


#: what a contender costs: figure -> its heading
COSTS = {"cpu_us": "cpu us a cast", "written": "bytes written a cast", "rss_mib": "resident MiB"}


class Cost(NamedTuple):
    """One line of the table of costs: medians of what each of COSTS was by round."""

    row: str
    contender: str
    worth: str
    found: dict[str, ByRound]


class Line(NamedTuple):
    """One line of the table: one metric of one contender; `note` stands where there is no figure."""

    row: str
    unit: str
    contender: str
    figures: ByRound
    reference: ByRound
    note: str = ""


def spread(figures: Iterable[float]) -> Spread | None:
    known = sorted(figures)
    return Spread(statistics.median(known), known[0], known[-1]) if known else None


def ratios(figures: ByRound, reference: ByRound) -> ByRound:
    """By round, for the rounds that both have."""
    return {number: figures[number] / reference[number] for number in sorted(figures.keys() & reference.keys())}


def number(value: float) -> str:
    """Three figures that mean something: 271,598 is 272,000."""
    if value >= 100:
        digits = 3 - len(str(int(value)))
        return f"{round(value, min(digits, 0)):,.0f}"
    if 0 < value < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def shown(found: Spread | None) -> tuple[str, str]:
    if found is None:
        return "-", ""
    return number(found.median), f"{number(found.low)} .. {number(found.high)}"


def cells(line: Line) -> list[str]:
    figure, figure_spread = shown(spread(line.figures.values()))
    if line.figures is line.reference:
        ratio, ratio_spread = "1", ""
    else:
        ratio, ratio_spread = shown(spread(ratios(line.figures, line.reference).values()))
    if not line.figures:
        figure, figure_spread, ratio, ratio_spread = line.note or "not measured", "", "", ""
    return [line.row, line.contender, line.unit, figure, figure_spread, ratio, ratio_spread]


HEAD = ("row", "who", "what", "median", "min .. max", "ratio", "min .. max")


COST_HEAD = ("row", "who", *COSTS.values(), "what its answer is worth")


def cost_cells(cost: Cost) -> list[str]:
    figures = [number(statistics.median(cost.found[name].values())) for name in COSTS]
    return [cost.row, cost.contender, *figures, cost.worth]


def aligned(head: Sequence[str], lines: Iterable[list[str]]) -> str:
    rows = [list(head), *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    rows.insert(1, ["-" * width for width in widths])
    text = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(text)


def layout(lines: Sequence[Line]) -> str:
    return aligned(HEAD, map(cells, lines))


def costs(found: Sequence[Cost]) -> str:
    return aligned(COST_HEAD, map(cost_cells, found))


def markdown(head: Sequence[str], lines: Iterable[list[str]]) -> str:
    rows = [list(head), ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
