"""A host with little memory: an agent that may take 64 MiB, its page cache among them, and a backlog far larger."""

from collections.abc import Callable

from tests.rig.callers import cast_all
from tests.rig.counts import count
from tests.rig.memory import bounded
from tests.rig.rig import Rig

FUNCTION = b"work"
LIMIT = 64 * 2**20
LARGER = 96 * 2**20
"""Bytes of payloads, at least."""
CHUNK = 500
Report = Callable[[str, object], None]


def test_a_backlog_larger_than_memory(rig: Rig, record_property: Report) -> None:
    """Accepted, kept over a start, and drained within 64 MiB: the bound is met, and the agent is not killed for it."""
    casts = count("LITTLE_MEMORY_CASTS", 6_000, 1_000_000)
    payload = bytes(max(1024, LARGER // casts))
    (server,) = rig.serve("gearmand")
    server.kill()
    agent = rig.unstarted_agent()
    with bounded(agent, LIMIT) as bound:
        agent.start()
        for first in range(0, casts, CHUNK):
            tried = cast_all(agent.socket, FUNCTION, [b"%d." % n + payload for n in range(first, first + CHUNK)], 500)
            assert len(tried.acknowledged) == CHUNK, tried.refused[:1]
        agent.kill()
        agent.start()
        server.restart()
        rig.work(FUNCTION, each=2)
        agent.await_empty(120 + casts / 500)
        assert agent.status()["completed"] == casts
        assert {payload.partition(b".")[0] for payload in rig.ledger.done()} == {b"%d" % n for n in range(casts)}
        record_property("bound_met", bound.met())
        assert bound.met() > 0, "there was memory enough"
        assert bound.kills() == 0
