"""`python -m bench [--quick | --full] [--rounds N] [--casts N] [--only ROW] [--json FILE] [--dir DIR]`

Runs the rows in alternating rounds, prints the machine, one table, one of what each contender costs and what its answer
is worth, and the path of the JSON with every figure of every round. Exit 0: every contender that is installed was
measured and its counts were right; 1: one was not (the table says which); 2: wrong usage. A contender that fails is not
tried again in later rounds; the others go on. --quick leaves out what takes long to start.
"""

import argparse
import json
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import machine, rows, table
from bench.peers import Absent
from bench.plan import Figures, Plan, Row

LIMIT_S = 14 * 60  # no round starts that would end after it, by the rounds before; with --full FULL_S
FULL_S = 3 * 3600


def options(arguments: list[str]) -> argparse.Namespace:
    names = [row.name for row in rows.ROWS]
    parser = argparse.ArgumentParser(prog="python -m bench", description="relay beside the peers that are installed")
    parser.add_argument(
        "--quick", action="store_true", help="one small round that shows that everything works; no figure"
    )
    parser.add_argument("--full", action="store_true", help="every row there is, not just the core")
    parser.add_argument("--rounds", type=int, help="7 unless --quick; with --full 5")
    parser.add_argument("--casts", type=int, help="of each timed stream; 300,000 unless --quick")
    parser.add_argument(
        "--only", action="append", choices=names, metavar="ROW", help=f"of {', '.join(names)}; may repeat"
    )
    parser.add_argument("--grabs", type=int, default=128, help="the worker's pipelined grabs a connection (128)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go; build/bench-<time>.json")
    parser.add_argument("--dir", type=Path, default=Path("build"), help="the disk that is measured (build/)")
    chosen = parser.parse_args(arguments)
    chosen.rounds = chosen.rounds or (1 if chosen.quick else 5 if chosen.full else 7)
    chosen.casts = chosen.casts or (5_000 if chosen.quick else 300_000)
    chosen.only = chosen.only or [row.name for row in rows.ROWS if chosen.full or not row.full]
    chosen.json = chosen.json or Path("build") / f"bench-{time.strftime('%Y%m%d-%H%M%S')}.json"
    return chosen


class Run:
    """Every figure measured so far, by row, contender and round; and why a contender has none."""

    def __init__(self, chosen: list[Row], plan: Plan, *, quick: bool) -> None:
        self.rows, self.plan, self.quick = chosen, plan, quick
        self.figures: dict[tuple[str, str], dict[int, Figures]] = {}
        self.notes: dict[tuple[str, str], str] = {}  # for the table
        self.reasons: dict[tuple[str, str], str] = {}  # the same, at length, where something failed
        self.failed = False

    def round(self, number: int) -> None:
        for row in self.rows:
            order = list(row.contenders)
            for who in order if number % 2 else reversed(order):
                if self.quick and row.contenders[who].slow:
                    self.notes.setdefault((row.name, who), "left out by --quick")
                if (row.name, who) not in self.notes:
                    self.measure(row, who, number)

    def measure(self, row: Row, who: str, number: int) -> None:
        key = row.name, who
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
        said = self.notes.get(key) or ", ".join(f"{m} {table.number(figures[m])}" for m in row.metrics)
        print(f"round {number}  {row.name}: {who}: {said}", file=sys.stderr, flush=True)

    def lines(self) -> list[table.Line]:
        made = []
        for row in self.rows:
            for metric, unit in row.metrics.items():
                by_who = {who: self.by_round(row.name, who, metric) for who in row.contenders}
                reference = by_who[next(iter(row.contenders))]
                for who, figures in by_who.items():
                    note = self.notes.get((row.name, who), "")
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
    chosen.dir.mkdir(parents=True, exist_ok=True)
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is stopped
    disk = Path(tempfile.mkdtemp(prefix="bench-", dir=chosen.dir)).resolve()
    waits, warm = (100, 100) if chosen.quick else (3_000, 2_000)
    plan = Plan(disk, chosen.casts, waits, warm, 1_000, chosen.grabs)
    run = Run([row for row in rows.ROWS if row.name in chosen.only], plan, quick=chosen.quick)
    facts = {"command": shlex.join(["python", "-m", "bench", *arguments])} | machine.describe(disk)
    started, rounds = time.monotonic(), 0
    try:
        for number in range(1, chosen.rounds + 1):
            limit_s = FULL_S if chosen.full else LIMIT_S
            if (spent := time.monotonic() - started) + spent / max(number - 1, 1) > limit_s:
                print(f"no time for round {number}: {limit_s} s is the limit", file=sys.stderr)
                break
            run.round(number)
            rounds = number
    except KeyboardInterrupt:
        print("interrupted: what was measured so far", file=sys.stderr)
        run.failed = True
    finally:
        shutil.rmtree(disk, ignore_errors=True)
    took = f"{time.monotonic() - started:.0f} s, load average then {machine.load_average()}"
    facts["streams"] = f"{plan.casts:,} casts of 100 bytes, {plan.window:,} unanswered, unless the row says otherwise"
    facts["rounds"] = f"{rounds}, alternating, {took}; a ratio is taken within a round, to its row's first"
    print(printed(run, facts))
    report = {"machine": facts, "plan": vars(plan) | {"disk": str(chosen.dir)}, "rows": run.kept()}
    chosen.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"every figure of every round: {chosen.json}")
    if chosen.quick:
        print("--quick shows that everything works; its figures mean nothing")
    return int(run.failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
