"""Lists and changes of very many casts: what they cost the agent, relay-cli, and those who cast meanwhile.

The long form (RELAY_LONG, or RELAY_BULK_CASTS) is a measurement (docs/performance.md has one); it prints what it found.
"""

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from relay.client import Client
from tests.rig.agent import Agent, program
from tests.rig.counts import count
from tests.rig.rig import Rig

CASTS = count("BULK_CASTS", 20_000, 1_000_000)
#: casts of one look at how fast casts are accepted; looks with nothing beside it before and after, and beside a command
SAMPLE, QUIET, LOOKS = (5000, 3, 30) if CASTS > 100_000 else (1000, 1, 3)
LIMIT_MIB = 100
#: what is left of the rate of casts beside a command; asserted of a long form only, which has enough of them to tell
LEFT = 0.8
#: what a child runs that measures a program, its output thrown away: a child's peak counts from what its parent had
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


def beside(agent: Agent, command: Callable[[], None]) -> float:
    """How many casts are accepted beside a command, of those that are accepted before and after it."""
    quiet = [cast(agent, SAMPLE) for _ in range(QUIET)]
    thread = threading.Thread(target=command)
    thread.start()
    meanwhile = []
    while thread.is_alive() and len(meanwhile) < LOOKS:
        meanwhile.append(cast(agent, SAMPLE))
    thread.join(3600)
    assert meanwhile
    quiet += [cast(agent, SAMPLE) for _ in range(QUIET)]
    alone, together = statistics.median(quiet), statistics.median(meanwhile)
    print(f"accepted alone {alone:,.0f}/s, meanwhile {together:,.0f}/s ({len(meanwhile)} looks)")
    return together / alone


def test_many_casts_cost_little_memory_and_no_caller_much(rig: Rig) -> None:
    """List, count, bury and purge them all: agent and relay-cli stay small, and while they do casts are accepted."""
    agent = rig.agent({"upstream": {"servers": "127.0.0.1:9"}})
    print(f"accepted {cast(agent, CASTS):,.0f}/s")

    def measure(*arguments: str) -> None:
        size, seconds = run(agent, *arguments)
        print(f"{' '.join(arguments)}: relay-cli {size:.0f} MiB, {seconds:.1f} s; agent {resident(agent):.0f} MiB")
        assert max(size, resident(agent)) < LIMIT_MIB

    for form in ("json", "jsonl", "csv"):
        measure("backlog", "-f", form)
    measure("shape")
    measure("shape", "--function", "f*")
    ratios = [beside(agent, lambda: measure("backlog", "-f", "jsonl"))]
    buried = agent.status()["ready"]
    measure("bury", "--all", "--yes")
    ratios.append(beside(agent, lambda: measure("purge", "--all", "--yes")))
    status = agent.status()
    assert (status["purged"], status["dead"]) == (buried, 0)
    if os.environ.get("RELAY_LONG"):
        assert min(ratios) >= LEFT
