"""All servers are away while callers cast at full rate: accepted to the limits, then drained within the windows."""

from collections import Counter
from itertools import count, cycle
from pathlib import Path

from tests.rig.callers import cast_all
from tests.rig.rig import Rig
from tests.rig.wait import until

#: several: one alone has the window of a function, which is no wider than that of its server
FUNCTIONS = [b"work", b"mail", b"note"]
WINDOW = 100
CASTS = 8_000
MEMORY = 100 * 1024 * 1024


def resident(pid: int) -> int:
    """The bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_an_outage_at_full_rate_is_outlived(rig: Rig) -> None:
    """Three servers down, max_casts reached and refused beyond, memory bounded; back again: drained, windows kept."""
    rig.serve("gearmand", count=3)
    rig.work(*FUNCTIONS)
    for server in rig.servers:
        server.kill()
    agent = rig.agent({"forwarder": {"window": WINDOW}, "spool": {"max_casts": CASTS}})
    acknowledged: list[bytes] = []
    numbers, functions = count(), cycle(FUNCTIONS)
    while len(acknowledged) < CASTS:
        payloads = [b"%d" % next(numbers) + b"x" * 100 for _ in range(1000)]
        tried = cast_all(agent.socket, next(functions), payloads, window=1000)
        acknowledged += tried.acknowledged
        assert {refusal.code for refusal in tried.refused} <= {"spool_full"}
    assert {refusal.code for refusal in cast_all(agent.socket, FUNCTIONS[0], [b"more"]).refused} == {"spool_full"}
    assert agent.process is not None
    assert resident(agent.process.pid) < MEMORY
    assert "spool_full" in {problem["code"] for problem in agent.status()["problems"]}

    outstanding = 0
    for server in rig.servers:
        server.restart()

    def drained() -> bool:
        nonlocal outstanding
        held = (sum(status.total for status in server.functions().values()) for server in rig.servers)
        outstanding = max(outstanding, *held)
        return agent.drained()

    until(drained, lambda: f"drained: {agent.status()}", 120, pause=0.1)
    assert 0 < outstanding <= WINDOW
    executed = Counter(one.payload for one in rig.ledger.executions)
    assert set(executed) == set(acknowledged)
    assert executed.total() == len(acknowledged), "nothing was in doubt"
    assert resident(agent.process.pid) < MEMORY
