"""Where the processor time of a cast goes: `python -m bench.stages [--seconds S] [--json FILE] [--dir DIR] [KIND...]`.

KIND is accept or uuid7 (no upstream) or through (a gearmand with a worker).  One caller casts as fast as it is
answered, 1,000 unanswered, 100 bytes each, while py-spy samples the agent's threads that run, native calls and the
kernel's work on their behalf included.  A sample counts for the stage of its innermost frame that STAGES knows, or if
none, LOOP; times are the stage's part of the agent's processor time for each cast that was accepted meanwhile, or with
through completed.  py-spy stops nothing while it looks, so that a few samples are wrong; parts under 1 % say nothing.
Exit 2 where it is not installed.
"""

import argparse
import collections
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from bench import costs, machine
from bench.peers import Absent, Broken, Relay, closed_port, program
from bench.plan import Load, Plan
from bench.scratch import scratch
from bench.table import aligned, number
from bench.through import chain
from bench.timing import BESIDE_S, Beside, command

KINDS = {"accept": "relay", "uuid7": "relay-uuid7", "through": "relay"}
RATE = 400  # samples a second
REST = "the rest"
UUIDS, UUIDS_S = 1_500_000, 5  # requests with uniques are built before the first is sent: enough for so long
WINDOW = 1000

#: what a frame is called, `path function`, from its beginning on: stage.  The first that fits counts.
STAGES = (
    ("relay/spool/accepting.py", "insert: SQLite takes the rows"),
    ("relay/spool/preparing.py", "prepare: checksums, digests, rows"),
    ("relay/spool/taking.py", "take: rows read back, checksums"),
    ("relay/spool/ending.py", "retire: SQLite deletes"),
    ("relay/spool/committer.py Committer._commit", "commit: BEGIN, counts, COMMIT with its fsync"),
    ("relay/spool/", "the writer's queue"),
    ("relay/protocol/caller.py Answers", "answer"),
    ("relay/intake/connection.py Connection._answer", "answer"),
    ("relay/intake/", "read and parse a caller's bytes"),
    ("relay/protocol/caller.py", "read and parse a caller's bytes"),
    ("relay/forwarder/sending.py", "send: jobs made, written to the socket"),
    ("relay/upstream/link.py Link.submit", "send: jobs made, written to the socket"),
    ("relay/protocol/upstream.py Conversation.submit", "send: jobs made, written to the socket"),
    ("relay/upstream/", "read an upstream's answers, verdicts"),
    ("relay/protocol/upstream.py", "read an upstream's answers, verdicts"),
    ("relay/forwarder/settling.py", "read an upstream's answers, verdicts"),
    ("relay/forwarder/", "schedule, heads"),
)
#: the same of what runs between relay's frames, or under none of them
LOOP = (
    ("selectors.py", "waiting for sockets (the calls themselves)"),
    ("asyncio/", "the event loop, and its reads from sockets"),
)
FRAME = re.compile(r"(?P<function>.*) \((?P<path>[^()]*?)(:\d+)?\)$")


def stage(frames: list[str]) -> str:
    """That of the innermost frame that has one; frames as py-spy writes them, `function (path:line)`."""
    names = [f"{found['path']} {found['function']}" for frame in reversed(frames) if (found := FRAME.match(frame))]
    for stages in (STAGES, LOOP):
        for name in names:
            for begin, its in stages:
                if name.startswith(begin):
                    return its
    return REST


def parts(lines: Iterable[str]) -> dict[str, float]:
    """The stages of what py-spy wrote, `frame;frame;... count` a line, as parts of 1, the largest first."""
    counts: collections.Counter[str] = collections.Counter()
    for line in lines:
        stack, _, count = line.rstrip().rpartition(" ")
        counts[stage(stack.split(";"))] += int(count)
    return {its: count / counts.total() for its, count in counts.most_common()}


def sampled(relay: Relay, kind: str, seconds: float, out: Path) -> dict[str, float]:
    """Microseconds a cast, by stage."""
    done = "completed" if kind == "through" else "accepted"
    many, seconds = (UUIDS, min(seconds, UUIDS_S)) if kind == "uuid7" else (1 << 40, seconds)
    caller = command(KINDS[kind], relay.address, many, Load(), WINDOW, BESIDE_S)
    pid = relay.process.pid
    spy = [program("py-spy"), "record", "--format", "raw", "--rate", str(RATE), "--nonblocking"]
    with Beside(relay, caller) as going:
        before, ran = relay.status()[done], costs.ran_s(pid)
        told = subprocess.run(
            [*spy, "--duration", f"{seconds:g}", "--pid", str(pid), "--output", str(out)],
            check=False,
            capture_output=True,
            text=True,
        )
        casts, ran = relay.status()[done] - before, costs.ran_s(pid) - ran
        going.end()
    if told.returncode:
        raise Broken(f"py-spy exits {told.returncode}: {told.stderr[-1000:]}")
    with out.open(errors="replace") as lines:
        return {its: part * ran / casts * 1e6 for its, part in parts(lines).items()}


def measure(disk: Path, kind: str, seconds: float) -> dict[str, float]:
    with ExitStack() as stack:
        if kind == "through":
            plan = Plan(disk, 0, 0.0, 0, WINDOW, 128, 0, 0.0)
            relay = stack.enter_context(chain(plan)).relay
        else:
            relay = stack.enter_context(Relay(disk, f"127.0.0.1:{stack.enter_context(closed_port())}"))
        return sampled(relay, kind, seconds, disk / "samples")


def lines(found: dict[str, dict[str, float]]) -> list[list[str]]:
    """A line for each stage: its microseconds and its part, for each kind; the largest first, the sum last."""
    totals = {kind: sum(each.values()) for kind, each in found.items()}
    names = dict.fromkeys(its for each in found.values() for its in each)
    order = sorted(
        names, key=lambda its: (its == REST, -max(each.get(its, 0) / totals[k] for k, each in found.items()))
    )
    made = []
    for its in order:
        cells = [(each[its], each[its] / totals[kind]) if its in each else None for kind, each in found.items()]
        made.append([its, *("" if cell is None else f"{number(cell[0])} us, {cell[1]:.0%}" for cell in cells)])
    return [*made, ["in all", *(f"{number(total)} us" for total in totals.values())]]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.stages", description="where the time of a cast goes")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--seconds", type=float, default=10, help="that each is sampled (10; uuid7 5 at most)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    parser.add_argument("--dir", type=Path, default=Path("build"), help="where the spools lie (build/)")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(unknown)}")
    try:
        program("py-spy")
    except Absent:
        parser.error("py-spy is not installed (pip install py-spy)")
    with scratch(chosen.dir) as disk:
        facts = {"command": shlex.join(["python", "-m", "bench.stages", *arguments])} | machine.describe(disk)
        found = {kind: measure(disk, kind, chosen.seconds) for kind in chosen.kinds or KINDS}
    print(aligned(("stage", *found), lines(found)))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"machine": facts, "stages": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
