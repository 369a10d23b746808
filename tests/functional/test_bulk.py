"""Lists and changes of very many casts: what they cost the agent, relay-cli, and those who cast meanwhile.

`RELAY_BULK_CASTS=1000000` makes it a measurement (docs/performance.md has one); it prints what it found.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from relay.client import Client
from tests.rig.agent import Agent, program
from tests.rig.rig import Rig

CASTS = int(os.environ.get("RELAY_BULK_CASTS", "20000"))
#: casts of one look at how fast casts are accepted
SAMPLE = max(CASTS // 10, 5000)
LIMIT_MIB = 100
#: runs a program with its output thrown away and tells what it took: a child's peak counts from what its parent had
#: resident when it began, and that of a long run of tests is more than any limit here
LAUNCHER = """
import os, sys
child = os.posix_spawn(
    sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
)
_, status, used = os.wait4(child, 0)
print(os.waitstatus_to_exitcode(status), used.ru_maxrss)
"""


def cast(agent: Agent, number: int) -> float:
    """Cast so many; casts a second."""
    began = time.monotonic()
    with Client(agent.socket) as client:
        for handle in client.cast_many((b"f", b"x" * 100) for _ in range(number)):
            assert isinstance(handle, str)
    return number / (time.monotonic() - began)


def run(agent: Agent, *arguments: str) -> tuple[float, float]:
    """relay-cli, its output thrown away: (MiB resident at most, seconds)."""
    began = time.monotonic()
    command = [program("relay-cli"), "--config-file", str(agent.conf), *arguments]
    launched = [sys.executable, "-S", "-c", LAUNCHER, *command]
    told = subprocess.run(launched, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True).stdout
    code, peak_kib = map(int, told.split())
    assert code == 0, arguments
    return peak_kib / 1024, time.monotonic() - began


def resident(agent: Agent) -> float:
    """MiB that the agent had resident at most."""
    assert agent.process
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def test_many_casts_cost_little_memory_and_no_caller_much(rig: Rig) -> None:
    """List, bury and purge them all: agent and relay-cli stay small, and while it purges casts are accepted."""
    agent = rig.agent({"upstream": {"servers": "127.0.0.1:9"}})
    print(f"accepted {cast(agent, CASTS):,.0f}/s")
    alone = cast(agent, SAMPLE)
    took = {"bury": run(agent, "bury", "--all", "--yes")}
    for form in ("json", "jsonl", "csv"):
        took[f"dead -f {form}"] = run(agent, "dead", "-f", form)
    purge = threading.Thread(target=lambda: took.update(purge=run(agent, "purge", "--all", "--yes")))
    purge.start()
    rates = []
    while purge.is_alive() and len(rates) < 50:
        rates.append(cast(agent, SAMPLE))
    purge.join(300)
    after = [cast(agent, SAMPLE) for _ in range(5)]
    for name, (size, seconds) in took.items():
        print(f"{name}: relay-cli {size:.0f} MiB, {seconds:.1f} s")
    beside, quiet = sum(rates) / len(rates), (alone + sum(after)) / (1 + len(after))
    print(f"agent {resident(agent):.0f} MiB; accepted alone {quiet:,.0f}/s, beside the purge {beside:,.0f}/s")
    assert max(size for size, _ in took.values()) < LIMIT_MIB
    assert resident(agent) < LIMIT_MIB
    status = agent.status()
    assert (status["purged"], status["dead"]) == (CASTS + SAMPLE, 0)
    assert rates, "it purges in pieces, and others have their turn"
