"""All servers are away while callers cast at full rate: accepted to the limits, then drained within the windows."""

from collections import Counter
from itertools import count
from pathlib import Path

from tests.rig.callers import cast_all
from tests.rig.rig import Rig
from tests.rig.wait import until

FUNCTION = b"work"
WINDOW = 100
CASTS = 8_000
MEMORY = 100 * 1024 * 1024


def resident(pid: int) -> int:
    """The bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_an_outage_at_full_rate_is_outlived(rig: Rig) -> None:
    """Three servers down, max_casts reached and refused beyond, memory bounded; back again: drained, windows kept."""
    rig.serve("gearmand", count=3)
    rig.work(FUNCTION)
    for server in rig.servers:
        server.kill()
    agent = rig.agent({"forwarder": {"window": WINDOW, "function_window": WINDOW}, "spool": {"max_casts": CASTS}})
    acknowledged: list[bytes] = []
    numbers = count()
    while len(acknowledged) < CASTS:
        tried = cast_all(agent.socket, FUNCTION, [b"%d" % next(numbers) + b"x" * 100 for _ in range(2000)], window=1000)
        acknowledged += tried.acknowledged
        assert {refusal.code for refusal in tried.refused} <= {"spool_full"}
    assert {refusal.code for refusal in cast_all(agent.socket, FUNCTION, [b"more"]).refused} == {"spool_full"}
    assert agent.process is not None
    assert resident(agent.process.pid) < MEMORY
    assert "spool_full" in {problem["code"] for problem in agent.status()["problems"]}

    outstanding = 0
    for server in rig.servers:
        server.restart()

    def drained() -> bool:
        nonlocal outstanding
        outstanding = max(outstanding, *(server.status(FUNCTION).total for server in rig.servers))
        return agent.drained()

    until(drained, lambda: f"drained: {agent.status()}", 120, pause=0.1)
    assert 0 < outstanding <= WINDOW
    executed = Counter(rig.ledger.done(FUNCTION))
    assert set(executed) == set(acknowledged)
    assert executed.total() == len(acknowledged), "nothing was in doubt"
    assert resident(agent.process.pid) < MEMORY
