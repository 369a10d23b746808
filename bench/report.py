"""`python -m bench.report FILE.json...`: writes docs/performance.md's figures and plots from what runs kept.

The files are those of `python -m bench` (whole, or some rows each), `bench.scale` and `bench.stages`.

What stands between the two marks in the page is replaced; what stands around it is left as it is.  Plots need
matplotlib; without it they are left as they are, and that is said.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from bench import plots, scale, stages, targets
from bench.plan import Figures, Row
from bench.rows import ROWS
from bench.table import COSTS, markdown, number, ratios, shown, spread

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- figures of the benchmark, written by bench/report.py -->", "<!-- end of these figures -->"
PLOT_SAYS = {
    "accept.svg": "casts accepted a second, against the number of callers",
    "waits.svg": "how long a waiting caller waits for its answer, and each of 64, beside Redis",
    "latency.svg": "how long a waiting caller waits while something else goes on",
    "backlog.svg": "processor time and bytes of a cast, against what is in the spool",
    "scale.svg": "casts accepted and executed a second, against what is in the spool",
}


def of_row(row: Row, rounds: dict[str, dict[str, Figures]]) -> list[list[str]]:
    """A line for each contender: medians, what its first figure is to that of the first of them, and what it costs."""
    told = {name for each in rounds.values() for figures in each.values() for name in figures}
    costs = [name for name in COSTS if name in told and name not in row.metrics]
    names = [*row.metrics, *costs]
    found = {who: {name: by_round(one, name) for name in names} for who, one in rounds.items()}
    first, reference = names[0], next(iter(found.values()))
    lines = [["who", *(unit.partition(", ")[0] for unit in row.metrics.values()), *(COSTS[name] for name in costs)]]
    lines[0][2:2] = ["to the first", "min .. max"]
    for who, figures in found.items():
        medians = [number(statistics.median(figures[name].values())) if figures[name] else "" for name in names]
        compared = spread(ratios(figures[first], reference[first]).values())
        lines.append([who, medians[0], *shown(compared), *medians[1:]])
    return lines


def by_round(rounds: dict[str, Figures], metric: str) -> dict[int, float]:
    return {int(number): figures[metric] for number, figures in rounds.items() if metric in figures}


def tables(report: dict[str, Any]) -> str:
    """One for each row, and what the answers are worth."""
    parts, worth = [about(report["machine"])], dict[str, str]()
    for row in ROWS:
        kept = {one["who"]: one for one in report["rows"] if one["row"] == row.name}
        rounds = {who: kept[who]["rounds"] for who in row.contenders if who in kept and kept[who]["rounds"]}
        absent = [f"{who} ({kept[who]['note']})" for who in row.contenders if who in kept and who not in rounds]
        if rounds:
            head, *lines = of_row(row, rounds)
            parts += [f"#### {row.name}", f"{' '.join(row.says.split())}:", markdown(head, lines)]
            worth |= {who: row.contenders[who].worth for who in rounds}
        if absent:
            parts.append(f"Not measured: {', '.join(absent)}.")
    parts += ["#### What an answer is worth", "\n".join(f"- {who}: {says}" for who, says in worth.items())]
    return "\n\n".join(parts)


def about(facts: dict[str, str]) -> str:
    return (
        "`"
        + facts["command"]
        + "`\n\n"
        + markdown(("what", "is"), [[k, v] for k, v in facts.items() if k != "command"])
    )


def scaled(report: dict[str, Any]) -> str:
    figures = report["figures"]
    head = ("in the spool", *(f"{int(backlog):,}" for backlog in figures))
    lines = [[title, *(number(one[name]) for one in figures.values())] for name, title in scale.COLUMNS.items()]
    return "\n\n".join(
        (
            "### As the backlog grows",
            f"Measured at each backlog: {scale.PARTS} times {report['part']:,} casts accepted, and as many executed.",
            about(report["machine"]),
            markdown(head, lines),
        )
    )


def staged(report: dict[str, Any]) -> str:
    head, *rows = ("stage", *report["stages"]), *stages.lines(report["stages"])
    says = (
        "Microseconds of the agent's processor time for each cast, that of the kernel on its behalf included, and the"
        f" stage's part of it; {stages.RATE} samples a second by py-spy, with one caller, 1,000 casts unanswered,"
        " 100 bytes each:"
    )
    title = "### Where the processor time of a cast goes"
    return "\n\n".join((title, says, about(report["machine"]), markdown(head, rows)))


def section(report: dict[str, Any]) -> str:
    if "stages" in report:
        return staged(report)
    return scaled(report) if "figures" in report else tables(report)


def main(arguments: list[str]) -> int:
    reports = [json.loads(Path(name).read_text()) for name in arguments]
    parts = ["## What it is to reach", markdown(targets.HEAD, targets.table(reports)), "## Figures"]
    drawn = plots.draw(reports, PAGE.parent)
    parts += [f"![{PLOT_SAYS[name]}]({name})" for name in drawn]
    parts += [section(one) for one in reports]
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    text = "\n\n".join(parts)
    PAGE.write_text(f"{before.rstrip()}\n\n{BEGIN}\n\n{text}\n\n{END}\n{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
