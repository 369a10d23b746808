"""The plots of docs/performance.md, by matplotlib, as SVG: what the figures of a run allow, and no more."""

import importlib
import importlib.util
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


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


def waits(axes: Any, report: dict[str, Any]) -> bool:
    parts = {"p50_us": 0.5, "p99_us": 0.01, "p999_us": 0.001}
    found = {metric: medians(report, metric) for metric in parts}
    keys = [key for key in found["p50_us"] if key[0] in ("waiting", "64 x 1") and key[1] in ("redis", "relay")]
    for key in keys:
        axes.plot([found[m][key] for m in parts], parts.values(), marker="o", label=f"{key[1]}, {key[0]}")
    axes.set(xscale="log", yscale="log", xlabel="microseconds", ylabel="part of the casts that wait longer")
    return bool(keys)


def backlog(axes: Any, report: dict[str, Any]) -> bool:
    names = {"accept_cpu_us": "accept, cpu us", "through_cpu_us": "through, cpu us", "accept_written": "accept, bytes"}
    for name, label in names.items():
        points = [(max(1, int(size)), one[name]) for size, one in report["figures"].items()]
        axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set(xscale="log", yscale="log", xlabel="casts in the spool", ylabel="of a cast")
    return True


def draw(reports: Sequence[dict[str, Any]], directory: Path) -> list[str]:
    """Draw what can be drawn; the names of the files that were written."""
    if importlib.util.find_spec("matplotlib") is None:
        print("matplotlib is not installed: no plots", file=sys.stderr)
        return []
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "relay"
    pyplot = importlib.import_module("matplotlib.pyplot")
    drawn = []
    for report in reports:
        kinds: dict[str, Callable[[Any, dict[str, Any]], bool]] = {"accept.svg": accept, "waits.svg": waits}
        for name, plot in ({"backlog.svg": backlog} if "figures" in report else kinds).items():
            figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
            if plot(axes, report):
                axes.grid(visible=True, which="both", alpha=0.2)
                axes.legend(fontsize="small")
                figure.savefig(directory / name, metadata={"Date": None})
                drawn.append(name)
            pyplot.close(figure)
    return drawn
