"""Rot that shows only while the agent works: what would wait for ever is rebuilt, loudly, and nothing else is lost."""

import sqlite3
from pathlib import Path

import pytest

from relay.spool import quarantine
from relay.spool.checking import check
from tests.rig.agent import Agent
from tests.rig.callers import cast_all, id_of
from tests.rig.rig import Rig
from tests.rig.strace import attached
from tests.rig.wait import until

FUNCTION = b"work"
PAYLOADS = [b"%06d " % number * 150 for number in range(400)]
#: looks for lanes that are counted and never seen every half second, not every ten
SOON = "import relay.agent.service\nrelay.agent.service.REPORT_S = 0.5"


@pytest.fixture
def agent(rig: Rig) -> Agent:
    """One that was stopped with a backlog; whoever starts it finds a server and a worker."""
    rig.serve("geard")
    agent = rig.agent(prelude=SOON)
    assert len(cast_all(agent.socket, FUNCTION, PAYLOADS).acknowledged) == len(PAYLOADS)
    agent.term()
    return agent


def changed(path: Path, *statements: str) -> None:
    """The database after somebody else has been at it."""
    conn = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        conn.execute(statement)
    conn.close()


def spoiled(path: Path, name: str) -> None:
    """The first page of a table or an index is nonsense."""
    conn = sqlite3.connect(path)
    (page,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    conn.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xee" * 4096)


def forgotten(path: Path) -> None:
    """The index by which casts are taken has lost five of them."""
    some = "SELECT * FROM casts ORDER BY id LIMIT 5 OFFSET 100"
    changed(path, f"CREATE TABLE away AS {some}", f"DELETE FROM casts WHERE id IN (SELECT id FROM ({some}))",
            "PRAGMA writable_schema = ON",
            "CREATE TABLE hidden AS SELECT * FROM sqlite_master WHERE name = 'casts_by_lane'",
            "DELETE FROM sqlite_master WHERE name = 'casts_by_lane'")  # fmt: skip
    changed(path, "INSERT INTO casts SELECT * FROM away", "PRAGMA writable_schema = ON",
            "INSERT INTO sqlite_master SELECT * FROM hidden")  # fmt: skip
    changed(path, "DROP TABLE away", "DROP TABLE hidden")


def assert_rebuilt(rig: Rig, agent: Agent) -> None:
    """It did so by itself, in the same process; all is executed, nothing is dead, and the old spool is kept."""
    process = agent.process
    agent.await_empty()
    assert set(rig.ledger.done(FUNCTION)) == set(PAYLOADS)
    status = agent.status()
    assert status["dead"] == 0
    assert "quarantined" in {one["code"] for one in status["problems"]}
    assert agent.process is process
    assert "the spool was rebuilt: " in agent.log
    ((directory, reason),) = quarantine.kept(agent.spool)
    assert "rebuilt" in reason
    assert list(check(directory / agent.spool.name))
    agent.term()
    assert list(check(agent.spool)) == []


def test_an_index_that_has_lost_casts(rig: Rig, agent: Agent) -> None:
    """SQLite says nothing, and takes find nothing: they are counted, and executed after all."""
    forgotten(agent.spool)
    rig.work(FUNCTION)
    agent.start()
    assert_rebuilt(rig, agent)


def test_a_count_that_is_wrong(rig: Rig, agent: Agent) -> None:
    """Casts that are counted and are not there do not keep the spool from being empty."""
    changed(agent.spool, "UPDATE lanes SET accepted = accepted + 3")
    rig.work(FUNCTION)
    agent.start()
    assert_rebuilt(rig, agent)


@pytest.mark.parametrize("name", ["casts_by_lane", "fates"])
def test_a_page_that_is_nonsense(rig: Rig, agent: Agent, name: str) -> None:
    """No take can read it, or no verdict can be stored: neither stays so."""
    spoiled(agent.spool, name)
    rig.work(FUNCTION)
    agent.start()
    assert_rebuilt(rig, agent)


def test_a_page_that_rots_while_the_agent_runs(rig: Rig, agent: Agent) -> None:
    """Under its feet: it goes on from its memory and writes the page anew, or rebuilds; nothing is lost either way."""
    agent.start()
    spoiled(agent.spool, "casts_by_lane")
    rig.work(FUNCTION)
    more = cast_all(agent.socket, FUNCTION, [b"after"])
    agent.await_empty()
    assert set(rig.ledger.done(FUNCTION)) == {*PAYLOADS, *more.acknowledged}
    agent.term()
    assert list(check(agent.spool)) == []


def test_reads_that_fail_for_a_while_condemn_nothing(rig: Rig) -> None:
    """The disk reads nothing for some seconds: afterwards each cast is executed, none is dead, nothing is set aside."""
    rig.serve("geard")
    agent = rig.agent(prelude=SOON)
    payloads = [b"%06d " % number * 150 for number in range(4000)]
    held = {id_of(handle) for handle in cast_all(agent.socket, FUNCTION, payloads).handles}
    assert len(held) == len(payloads)
    agent.term()
    agent.start()
    with attached(agent, ["pread64"], "error=EIO"):
        rig.work(FUNCTION)
        until(lambda: "cannot be read" in agent.log, "reads fail")
    agent.await_empty()
    assert set(rig.ledger.done(FUNCTION)) == set(payloads)
    assert agent.status()["dead"] == 0
    assert quarantine.kept(agent.spool) == []
