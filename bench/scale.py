"""What a backlog costs: `python -m bench.scale [--casts N]... [--part N] [--json FILE] [--dir DIR]`.

For each backlog, the agent is fresh: it accepts that many casts of 100 bytes (the rate at which it is filled tells of
itself), and then is measured with them in its spool: 3 times PART casts more with UUIDv7 uniques accepted (the median
of the three), `status` of relay-cli, the agent's resident memory, the time from its start after a SIGKILL until it
accepts, and as many casts executed and retired once a gearmand with a worker has appeared, by the worker's clock.
Counts are checked exactly; a run whose counts are wrong ends there, and what was measured before is kept.

It takes as long as the agent needs to accept the backlogs, and some 15 s for each: 10,000,000 are 2 minutes where it
accepts 100,000 a second.  In the spool they are some 160 bytes each; where the disk has less than ROOM_BYTES free for
each cast, exit 2.
"""

import argparse
import json
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench import costs, machine
from bench.peers import Broken, Gearmand, Relay, Worker, accepts, free_port
from bench.scratch import scratch
from bench.table import aligned, number
from bench.timing import filled

WARM, PARTS = 1000, 3
ROOM_BYTES = 400
COLUMNS = {
    "filled": "filled, casts/s",
    "accept": "accept, UUIDv7, casts/s",
    "accept_cpu_us": "cpu us a cast",
    "accept_written": "bytes written a cast",
    "through": "through, casts/s",
    "through_cpu_us": "cpu us a cast",
    "status_s": "status, s",
    "start_s": "start after SIGKILL, s",
    "rss_mib": "resident MiB",
    "rss_started_mib": "after the start",
    "spool_mib": "spool MiB",
}


def accept(relay: Relay, kind: str, casts: int) -> dict[str, float]:
    before = costs.of(relay.process.pid)
    rate = filled(relay, casts, kind)
    return {"rate": rate} | costs.each(before, costs.of(relay.process.pid), casts)


def start_again(relay: Relay) -> float:
    """Kill it, and see after how many seconds a new one accepts."""
    relay.process.kill()
    relay.process.wait()
    with relay.log.open("ab") as log:
        began = time.monotonic()
        relay.process = subprocess.Popen([relay.binary, "--config-file", str(relay.conf)], stdout=log, stderr=log)
    while not accepts(relay.address):
        if relay.process.poll() is not None or time.monotonic() - began > 120:
            raise Broken(f"relay does not start again:\n{relay.end_of_log()}")
        time.sleep(0.005)
    return time.monotonic() - began


def drain(relay: Relay, disk: Path, port: int, casts: int) -> dict[str, float]:
    """The rate at which so many are executed, once a server has appeared, from the first on by the worker's clock."""
    before = costs.of(relay.process.pid)
    with Gearmand(disk, port) as server, Worker(server.address, 128) as worker:
        told = worker.executed(casts)
        cpu = costs.each(before, costs.of(relay.process.pid), int(told["executed"]))
        rate = told["executed"] / (told["at"] - told["began"])
        return {"executed": told["executed"], "through": rate, "through_cpu_us": cpu["cpu_us"]}


def measure(disk: Path, backlog: int, part: int) -> dict[str, float]:
    port, casts = free_port(), WARM + backlog + PARTS * part
    with Relay(disk, f"127.0.0.1:{port}") as relay:
        filled(relay, WARM)
        found = {"filled": filled(relay, backlog) if backlog else 0.0}
        parts = [accept(relay, "relay-uuid7", part) for _ in range(PARTS)]
        for name, key in (("rate", "accept"), ("cpu_us", "accept_cpu_us"), ("written", "accept_written")):
            found[key] = statistics.median(one[name] for one in parts)
        began = time.monotonic()
        relay.asked_by_cli()
        found["status_s"] = time.monotonic() - began
        status = relay.status()
        if status["accepted"] != casts:
            raise Broken(f"{status['accepted']} accepted of {casts}")
        found["accepted"] = status["accepted"]
        found |= {"rss_mib": costs.of(relay.process.pid).resident / 2**20, "spool_mib": status["spool_bytes"] / 2**20}
        found["start_s"] = start_again(relay)
        found["rss_started_mib"] = costs.of(relay.process.pid).resident / 2**20
        if relay.kept() != casts:
            raise Broken(f"{relay.kept()} of {casts} after the start")
        return found | drain(relay, disk, port, PARTS * part)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description="what a backlog costs")
    parser.add_argument("--casts", type=int, action="append", help="a backlog; may repeat (0, 10,000 to 1,000,000)")
    parser.add_argument("--part", type=int, default=50_000, help="casts that are measured with it, 3 times (50,000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    parser.add_argument("--dir", type=Path, default=Path("build"), help="the disk that is measured (build/)")
    chosen = parser.parse_args(arguments)
    backlogs = chosen.casts or [0, 10_000, 100_000, 1_000_000]
    figures: dict[int, dict[str, float]] = {}
    with scratch(chosen.dir) as disk:
        if shutil.disk_usage(disk).free < ROOM_BYTES * max(backlogs):
            parser.error(f"{chosen.dir} has no room for {max(backlogs):,} casts")
        facts = {"command": shlex.join(["python", "-m", "bench.scale", *arguments])} | machine.describe(disk)
        for backlog in backlogs:
            figures[backlog] = measure(disk, backlog, chosen.part)
            said = ", ".join(f"{heading} {number(figures[backlog][name])}" for name, heading in COLUMNS.items())
            print(f"{backlog:,}: {said}", file=sys.stderr, flush=True)
            keep(chosen.json, facts, chosen.part, figures)
    print("\n".join(f"{name:12}  {fact}" for name, fact in facts.items()))
    head = ("in the spool", *(f"{backlog:,}" for backlog in figures))
    print(aligned(head, [[title, *(number(one[name]) for one in figures.values())] for name, title in COLUMNS.items()]))
    return 0


def keep(path: Path | None, facts: dict[str, str], part: int, figures: dict[int, dict[str, float]]) -> None:
    if path is not None:
        path.write_text(json.dumps({"machine": facts, "part": part, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
