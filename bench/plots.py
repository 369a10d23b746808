"""The plots of docs/performance.md, by matplotlib, as SVG: what the figures of a run allow, and no more."""

import importlib
import importlib.util
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.load import QUANTILES


def medians(report: dict[str, Any], metric: str) -> dict[tuple[str, str], float]:
    """(row, who) -> median of its rounds."""
    return {
        (found["row"], found["who"]): statistics.median(one[metric] for one in found["rounds"].values())
        for found in report["rows"]
        if found["rounds"] and all(metric in one for one in found["rounds"].values())
    }


def by_callers(report: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """who -> (callers that wait for each answer, casts/s), by the number of callers."""
    found: dict[str, list[tuple[int, float]]] = {}
    for (row, who), rate in sorted(medians(report, "rate").items()):
        named = re.fullmatch(r"(\d+) x 1", row)
        callers = int(named[1]) if named else 1 if row == "waiting" else 0
        if callers:
            found.setdefault(who, []).append((callers, rate))
    return {who: sorted(points) for who, points in found.items() if len(points) > 1}


def accept(axes: Any, report: dict[str, Any]) -> bool:
    lines = by_callers(report)
    for who, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=who)
    axes.set(xscale="log", yscale="log", xlabel="callers, each waiting for its answer", ylabel="casts/s")
    return bool(lines)


#: (row, who) of which the distribution is drawn
WAITING = (
    ("waiting", "redis"),
    ("waiting", "relay"),
    ("64 x 1", "redis"),
    ("64 x 1", "relay"),
)


def distribution(axes: Any, report: dict[str, Any], keys: Sequence[tuple[str, str]]) -> bool:
    """A line for each: the part of its casts that waited longer, against how long; as far as there are casts enough."""
    casts, found = medians(report, "casts"), {name: medians(report, f"{name}_us") for name in QUANTILES}
    drawn = [key for key in keys if all(key in one for one in (casts, *found.values()))]
    rows = {row for row, _ in drawn}
    for row, who in drawn:
        shown = {name: 1 - part for name, part in QUANTILES.items() if (1 - part) * casts[row, who] >= 1}
        waited = [found[name][row, who] for name in shown]
        axes.plot(waited, list(shown.values()), marker=".", label=who if len(rows) == 1 else f"{who}, {row}")
    axes.set(xscale="log", yscale="log", xlabel="microseconds", ylabel="part of the casts that wait longer")
    return bool(drawn)


def waits(axes: Any, report: dict[str, Any]) -> bool:
    return distribution(axes, report, WAITING)


def latency(axes: Any, report: dict[str, Any]) -> bool:
    return distribution(axes, report, [(one["row"], one["who"]) for one in report["rows"] if one["row"] == "latency"])


def backlog(axes: Any, report: dict[str, Any]) -> bool:
    names = {"accept_cpu_us": "accept, cpu us", "through_cpu_us": "through, cpu us", "accept_written": "accept, bytes"}
    for name, label in names.items():
        points = [(max(1, int(size)), one[name]) for size, one in report["figures"].items()]
        axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set(xscale="log", yscale="log", xlabel="casts in the spool (1 is none)", ylabel="of a cast")
    return True


def rates(axes: Any, report: dict[str, Any]) -> bool:
    for name in ("accept", "through"):
        points = [(max(1, int(size)), one[name]) for size, one in report["figures"].items()]
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(xscale="log", xlabel="casts in the spool (1 is none)", ylabel="casts/s")
    axes.set_ylim(bottom=0)
    return True


Plot = Callable[[Any, dict[str, Any]], bool]
OF_ROWS: dict[str, Plot] = {"accept.svg": accept, "waits.svg": waits, "latency.svg": latency}
OF_SCALE: dict[str, Plot] = {"backlog.svg": backlog, "scale.svg": rates}


def draw(reports: Sequence[dict[str, Any]], directory: Path) -> list[str]:
    """Draw what can be drawn; the names of the files that were written."""
    if importlib.util.find_spec("matplotlib") is None:
        print("matplotlib is not installed: no plots", file=sys.stderr)
        return []
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "relay"
    pyplot = importlib.import_module("matplotlib.pyplot")
    rows = {(one["row"], one["who"]): one for report in reports for one in report.get("rows", ())}
    scales = [report for report in reports if "figures" in report]
    kinds = [(name, plot, {"rows": list(rows.values())}) for name, plot in OF_ROWS.items()]
    kinds += [(name, plot, report) for report in scales[-1:] for name, plot in OF_SCALE.items()]
    drawn = []
    for name, plot, report in kinds:
        figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
        if plot(axes, report):
            axes.grid(visible=True, which="both", alpha=0.2)
            axes.legend(fontsize="small")
            figure.savefig(directory / name, metadata={"Date": None})
            drawn.append(name)
        pyplot.close(figure)
    return drawn
