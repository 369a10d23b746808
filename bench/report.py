"""`python -m bench.report BENCH.json [SCALE.json]`: writes docs/performance.md's figures and plots from what runs kept.

What stands between the two marks in the page is replaced; what stands around it is left as it is.  Plots need
matplotlib; without it they are left as they are, and that is said.
"""

import json
import sys
from pathlib import Path
from typing import Any

from bench import plots, scale
from bench.rows import ROWS
from bench.table import COST_HEAD, COSTS, HEAD, Cost, Line, cells, cost_cells, markdown, number

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- figures of the benchmark, written by bench/report.py -->", "<!-- end of these figures -->"
PLOT_SAYS = {
    "accept.svg": "casts accepted a second, against the number of callers",
    "waits.svg": "how long a caller waits for its answer, of all that were measured",
    "backlog.svg": "processor time and bytes of a cast, against what is in the spool",
}


def by_round(found: dict[str, Any], metric: str) -> dict[int, float]:
    return {int(number): figures[metric] for number, figures in found["rounds"].items() if metric in figures}


def tables(report: dict[str, Any]) -> str:
    """The table of figures and that of costs."""
    kept = {(found["row"], found["who"]): found for found in report["rows"]}
    lines, costs = [], []
    for row in ROWS:
        who = [name for name in row.contenders if (row.name, name) in kept]
        for metric, unit in row.metrics.items():
            figures = {name: by_round(kept[row.name, name], metric) for name in who}
            reference = figures[who[0]] if who else {}
            lines += [
                Line(row.name, unit, name, figures[name], reference, kept[row.name, name]["note"]) for name in who
            ]
        for name in who:
            found = {cost: by_round(kept[row.name, name], cost) for cost in COSTS}
            if all(found.values()):
                costs.append(Cost(row.name, name, row.contenders[name].worth, found))
    rows = {found["row"] for found in report["rows"]}
    says = "\n".join(f"- *{row.name}*: {' '.join(row.says.split())}" for row in ROWS if row.name in rows)
    return "\n\n".join(
        (
            about(report["machine"]),
            says,
            markdown(HEAD, map(cells, lines)),
            "What a cast costs, and what an answer is worth:",
            markdown(COST_HEAD, map(cost_cells, costs)),
        )
    )


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
            f"With {report['part']:,} casts measured at each backlog:",
            about(report["machine"]),
            markdown(head, lines),
        )
    )


def main(arguments: list[str]) -> int:
    reports = [json.loads(Path(name).read_text()) for name in arguments]
    parts = ["## Beside others", *(scaled(one) if "figures" in one else tables(one) for one in reports)]
    drawn = plots.draw(reports, PAGE.parent)
    parts += [f"![{PLOT_SAYS[name]}]({name})" for name in drawn]
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    text = "\n\n".join(parts)
    PAGE.write_text(f"{before.rstrip()}\n\n{BEGIN}\n\n{text}\n\n{END}\n{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
