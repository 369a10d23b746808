"""How many instructions a cast costs the agent: `python -m bench.instructions [--casts N] [--tree DIR]... KIND...`.

KIND is plain, uuid7, random (accept, by the uniques), through, or kept (through, with a history of retired casts that
is full: for each cast that comes into it one leaves).  The agent runs under valgrind's cachegrind with N and with 3 N
casts, and the difference is divided by 2 N, so that starting and stopping do not count; callers, server and worker run
outside.  Whatever else the machine does, the figure stays within some 1 %, which no rate does: so two trees can be
compared (`--tree`, directories that have a `relay`; the first is the reference).  What the kernel does does not show,
nor do the disk and waiting.
"""

import argparse
import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path

from bench.peers import Gearmand, Relay, Worker, closed_port, program
from bench.scratch import scratch
from bench.table import aligned
from bench.timing import filled

KINDS = {"plain": "relay", "uuid7": "relay-uuid7", "random": "relay-random", "through": "relay", "kept": "relay"}
HISTORY = "[spool]\nkeep_done = 1h\nkeep_done_max = 1000\n"
WAIT_S = 600


class Counted(Relay):
    """relay-agent under cachegrind, of a tree."""

    start_s = 300
    stop_s = 300

    def __init__(self, disk: Path, upstream: str, tree: Path, more: str = "") -> None:
        super().__init__(disk, upstream, more)
        self.out = disk / "cachegrind.out"
        self.environment = {"PYTHONPATH": str(tree), "PYTHONHASHSEED": "1"}

    def command(self) -> list[str]:
        # threads take fair turns, or one would wait for the other for long
        valgrind = [program("valgrind"), "--tool=cachegrind", "--cache-sim=no", "--fair-sched=yes"]
        return [*valgrind, f"--cachegrind-out-file={self.out}", sys.executable, *super().command()]

    def counted(self) -> int:
        """Instructions of the whole run, once it has stopped."""
        found = re.search(r"^summary:\s+(\d+)", self.out.read_text(), re.MULTILINE)
        assert found is not None, "cachegrind has written no summary"
        return int(found[1])


def run(disk: Path, kind: str, casts: int, tree: Path) -> int:
    with ExitStack() as stack:
        done = kind in ("through", "kept")
        if done:
            server = stack.enter_context(Gearmand(disk))
            stack.enter_context(Worker(server.address, 128))
            upstream = server.address
        else:
            upstream = f"127.0.0.1:{stack.enter_context(closed_port())}"
        relay = stack.enter_context(Counted(disk, upstream, tree, HISTORY if kind == "kept" else ""))
        filled(relay, casts, KINDS[kind])
        if done:
            relay.wait_for("completed", casts, WAIT_S)
    return relay.counted()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description="instructions of a cast")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--casts", type=int, default=8000, help="N (8,000)")
    parser.add_argument("--tree", type=Path, action="append", help="a directory with a relay (this one)")
    parser.add_argument("--dir", type=Path, default=Path("build"), help="where the spools lie (build/)")
    chosen = parser.parse_args(arguments)
    trees = chosen.tree or [Path(__file__).resolve().parents[1]]
    lines = []
    with scratch(chosen.dir) as disk:
        for kind in chosen.kinds or KINDS:
            reference = 0.0
            for tree in trees:
                few, many = (run(disk, kind, casts, tree.resolve()) for casts in (chosen.casts, 3 * chosen.casts))
                each = (many - few) / (2 * chosen.casts)
                reference = reference or each
                lines.append([kind, os.fspath(tree), f"{each:,.0f}", f"{each / reference:.3f}"])
                print(*lines[-1], file=sys.stderr, flush=True)
    print(aligned(("kind", "tree", "instructions a cast", "ratio"), lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
