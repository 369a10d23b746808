"""`python -m bench [--quick | --full] [--only ROW]... [--rounds N] [--casts N] [--seconds S] [--json FILE] [--dir DIR]`

Runs the rows in alternating rounds, prints the machine, one table, one of what each contender costs and what its
answer is worth, and the path of the JSON with every figure of every round. Exit 0: every contender that is installed
was measured and its counts were right; 1: one was not (the table says which); 2: wrong usage. A contender that fails
is not tried again in later rounds; the others go on. --quick leaves out what takes long to start, or is much like
another. What would end after the limit of time (12 minutes, with --full 35) is not begun, and that is said. The JSON
is written after each measurement.
"""

import argparse
import json
import resource
import shlex
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import machine, rows, table, targets
from bench.peers import Absent
from bench.plan import Figures, Plan, Row
from bench.scratch import scratch

LIMIT_S = 12 * 60  # nothing starts that would end after it, by how long it took before; with --full FULL_S
FULL_S = 35 * 60


def options(arguments: list[str]) -> argparse.Namespace:
    names = [row.name for row in rows.ROWS]
    parser = argparse.ArgumentParser(prog="python -m bench", description="relay beside the peers that are installed")
    parser.add_argument(
        "--quick", action="store_true", help="one small round that shows that everything works; no figure"
    )
    parser.add_argument("--full", action="store_true", help="every row there is, not just the core")
    parser.add_argument("--rounds", type=int, help="5 unless --quick; with --full 3")
    parser.add_argument("--casts", type=int, help="of each timed stream, at most; 400,000 unless --quick")
    parser.add_argument("--seconds", type=float, help="that each timed stream takes, at most; 2 unless --quick")
    parser.add_argument(
        "--backlog", type=int, help="casts that wait, in the row of that name; 1,000,000 unless --quick"
    )
    parser.add_argument(
        "--long", type=float, metavar="SECONDS", help="of payloads of 1 MiB; 120 unless --quick; idle for 60 of them"
    )
    parser.add_argument(
        "--only", action="append", default=[], choices=names, metavar="ROW", help=f"of {', '.join(names)}; may repeat"
    )
    parser.add_argument("--grabs", type=int, default=128, help="the worker's pipelined grabs a connection (128)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go; build/bench-<time>.json")
    parser.add_argument("--dir", type=Path, default=Path("build"), help="the disk that is measured (build/)")
    chosen = parser.parse_args(arguments)
    chosen.rounds = chosen.rounds or (1 if chosen.quick else 3 if chosen.full else 5)
    chosen.casts = chosen.casts or (3_000 if chosen.quick else 400_000)
    chosen.seconds = chosen.seconds or (0.3 if chosen.quick else 2.0)
    chosen.backlog = chosen.backlog or (3_000 if chosen.quick else 1_000_000)
    chosen.long = chosen.long or (0.3 if chosen.quick else 120.0)
    chosen.json = chosen.json or Path("build") / f"bench-{time.strftime('%Y%m%d-%H%M%S')}.json"
    return chosen


def some_rows(only: list[str], *, quick: bool, full: bool) -> list[Row]:
    """The rows named, or all that these forms of a run have; each with the contenders that they have."""
    made = []
    for row in rows.ROWS:
        if row.name in only or not (only or (quick and not row.quick) or (row.full and not (quick or full))):
            contenders = {
                who: one for who, one in row.contenders.items() if (one.quick or not quick) and (full or not one.full)
            }
            made.append(replace(row, contenders=contenders))
    return made


class Run:
    """Every figure measured so far, by row, contender and round; and why a contender has none."""

    def __init__(
        self, chosen: list[Row], plan: Plan, limit_s: float, keep: Callable[["Run"], None] = lambda _run: None
    ) -> None:
        """`keep` is called after each measurement."""
        self.rows, self.plan, self.keep = chosen, plan, keep
        self.end, self.late = time.monotonic() + limit_s, 0
        self.took: dict[tuple[str, str], float] = {}  # seconds of the last measurement
        self.figures: dict[tuple[str, str], dict[int, Figures]] = {}
        self.notes: dict[tuple[str, str], str] = {}  # for the table
        self.reasons: dict[tuple[str, str], str] = {}  # the same, at length, where something failed
        self.failed = False

    def round(self, number: int, together: int = 1) -> None:
        """Each in turn, forwards or backwards; or so many at a time, where no figure is asked for."""
        with ThreadPoolExecutor(together) as pool:
            for row in self.rows:
                order = list(row.contenders)
                for who in order if number % 2 else reversed(order):
                    if (row.name, who) in self.notes or number > row.times(who):
                        continue
                    if time.monotonic() + self.took.get((row.name, who), 0) > self.end:
                        self.late += 1
                    elif together > 1:
                        pool.submit(self.measure, row, who, number)
                    else:
                        self.measure(row, who, number)
                        self.keep(self)

    def measure(self, row: Row, who: str, number: int) -> None:
        key, began = (row.name, who), time.monotonic()
        try:
            figures = row.contenders[who](self.plan)
        except Absent as program:
            self.notes[key] = f"not installed: {program}"
        except Exception as error:  # noqa: BLE001  # whatever it is, the others still have their say
            self.notes[key] = f"failed in round {number}"
            self.failed = True
            self.reasons[key] = f"{type(error).__name__}: {error}"
            print(f"{row.name}, {who}: {self.reasons[key]}", file=sys.stderr)
        else:
            self.figures.setdefault(key, {})[number] = figures
        said = self.notes.get(key) or ", ".join(f"{m} {table.number(figures[m])}" for m in row.metrics if m in figures)
        self.took[key] = time.monotonic() - began
        print(f"round {number}  {row.name}: {who}: {said} ({self.took[key]:.1f} s)", file=sys.stderr, flush=True)

    def lines(self) -> list[table.Line]:
        made = []
        for row in self.rows:
            for metric, unit in row.metrics.items():
                by_who = {who: self.by_round(row.name, who, metric) for who in row.contenders}
                reference = by_who[next(iter(row.contenders))]
                for who, figures in by_who.items():
                    note = self.notes.get((row.name, who), "")
                    if not (figures or note) and (row.name, who) in self.figures:
                        continue  # it has no such figure
                    made.append(table.Line(row.name, unit, who, figures, reference, note))
        return made

    def costs(self) -> list[table.Cost]:
        made = []
        for row in self.rows:
            for who, contender in row.contenders.items():
                found = {name: self.by_round(row.name, who, name) for name in table.COSTS}
                if all(found.values()):
                    made.append(table.Cost(row.name, who, contender.worth, found))
        return made

    def by_round(self, row: str, who: str, metric: str) -> table.ByRound:
        found = self.figures.get((row, who), {})
        return {number: figures[metric] for number, figures in found.items() if metric in figures}

    def kept(self) -> list[dict[str, Any]]:
        return [
            {
                "row": row.name,
                "who": who,
                "reference": next(iter(row.contenders)),
                "note": self.notes.get((row.name, who), ""),
                "reason": self.reasons.get((row.name, who), ""),
                "rounds": self.figures.get((row.name, who), {}),
            }
            for row in self.rows
            for who in row.contenders
        ]


def printed(run: Run, facts: dict[str, str]) -> str:
    about = "\n".join(f"{name:12}  {fact}" for name, fact in facts.items())
    says = "\n".join(f"  {row.name}: {row.says}" for row in run.rows)
    return f"{about}\n\n{table.layout(run.lines())}\n\n{says}\n\n{table.costs(run.costs())}\n"


def main(arguments: list[str]) -> int:
    chosen = options(arguments)
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    warm, window = (100, 100) if chosen.quick else (2_000, 1_000)
    limit_s = FULL_S if chosen.full else LIMIT_S
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a thousand callers are as many descriptors
    with scratch(chosen.dir) as disk:
        plan = Plan(disk, chosen.casts, chosen.seconds, warm, window, chosen.grabs, chosen.backlog, chosen.long)
        facts = {"command": shlex.join(["python", "-m", "bench", *arguments])} | machine.describe(disk)

        def keep(run: Run) -> None:
            report = {"machine": facts, "plan": vars(plan) | {"disk": str(chosen.dir)}, "rows": run.kept()}
            chosen.json.write_text(json.dumps(report, indent=1) + "\n")

        run = Run(some_rows(chosen.only, quick=chosen.quick, full=chosen.full), plan, limit_s, keep)
        started, rounds = time.monotonic(), 0
        try:
            for number in range(1, chosen.rounds + 1):
                run.round(number, 4 if chosen.quick else 1)
                rounds = number
        except KeyboardInterrupt:
            print("interrupted: what was measured so far", file=sys.stderr)
            run.failed = True
    if run.late:
        print(f"no time for {run.late} measurements: {limit_s} s is the limit", file=sys.stderr)
    took = f"{time.monotonic() - started:.0f} s, load average then {machine.load_average()}"
    facts["streams"] = (
        f"{plan.casts:,} casts or {plan.seconds:g} s, whichever is less, of 100 bytes, {plan.window:,} unanswered,"
        " unless the row says otherwise"
    )
    if chosen.full:
        facts["at length"] = f"a backlog of {plan.backlog:,}, payloads of 1 MiB for {plan.long_s:g} s"
    late = f", {run.late} measurements left out for want of time" if run.late else ""
    facts["rounds"] = f"{rounds}, alternating, {took}{late}; a ratio is taken within a round, to its row's first"
    print(printed(run, facts))
    keep(run)
    print(f"every figure of every round: {chosen.json}")
    if reached := [line for line in targets.table([{"rows": run.kept()}]) if line[3] != targets.UNKNOWN]:
        print(f"\n{table.aligned(targets.HEAD, reached)}")
    if chosen.quick:
        print("--quick shows that everything works; its figures mean nothing")
    return int(run.failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
