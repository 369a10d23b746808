"""A full disk: refused clearly, drained while it is full, and accepted again by itself."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.rig.agent import Agent
from tests.rig.callers import cast_all
from tests.rig.rig import Rig
from tests.rig.small_disk import SmallDisk, small_disk
from tests.rig.wait import until

FUNCTION = b"work"
PAYLOADS = [b"%04d" % number + bytes(4096) for number in range(2000)]


@pytest.fixture
def disk(rig: Rig) -> Iterator[SmallDisk]:
    """48 MiB."""
    with small_disk(rig, 48) as one:
        yield one


def refusing(agent: Agent) -> set[str]:
    """The codes that new casts are refused with, now."""
    return {refusal.code for refusal in cast_all(agent.socket, FUNCTION, [b"one more"] * 20).refused}


def agent_on(rig: Rig, disk: SmallDisk, min_free: int) -> Agent:
    """An agent with a backlog on the disk, and nobody yet who works it off."""
    rig.serve("geard")
    agent = rig.agent({"spool": {"path": disk.spool, "min_free": min_free}})
    agent.spool = disk.spool
    record = cast_all(agent.socket, FUNCTION, PAYLOADS)
    assert record.acknowledged == PAYLOADS
    return agent


@pytest.mark.parametrize("min_free", [0, 8 * 2**20])
def test_a_disk_that_others_fill_is_drained_while_it_is_full(rig: Rig, disk: SmallDisk, min_free: int) -> None:
    """To its last page: casts are refused with a code, the backlog is executed and retired, space ends it by itself."""
    agent = agent_on(rig, disk, min_free)
    disk.fill()
    until(lambda: refusing(agent) == {"disk_full"}, lambda: f"casts are refused as disk_full\n{agent.log_tail()}")
    status = agent.status()
    assert not status["accepting"]
    assert "disk_full" in {problem["code"] for problem in status["problems"]}
    rig.work(FUNCTION)
    agent.await_empty()
    assert refusing(agent) == {"disk_full"}
    disk.empty()
    until(lambda: not refusing(agent), lambda: f"casts are accepted again\n{agent.log_tail()}")
    agent.await_empty()
    until(lambda: not agent.status()["problems"], lambda: f"all is well: {agent.status()}")
    executed = Counter(rig.ledger.done(FUNCTION))
    assert {payload for payload in PAYLOADS if executed[payload] != 1} == set()


def test_a_start_on_a_full_disk_drains_it(rig: Rig, disk: SmallDisk) -> None:
    """Killed, and its disk filled to the last page: the agent starts, refuses, and works off what it has."""
    agent = agent_on(rig, disk, 0)
    agent.kill()
    disk.fill()
    agent.start()
    assert refusing(agent) <= {"disk_full", "spool_error"}
    rig.work(FUNCTION)
    agent.await_empty()
    assert set(PAYLOADS) <= set(rig.ledger.done(FUNCTION))
    disk.empty()
    until(lambda: not refusing(agent), lambda: f"casts are accepted again\n{agent.log_tail()}")
