"""Errors, delays and bit flips of the disk under the real agent: no wrong acknowledgement, no crash loop, none lost."""

import json
import os
import random
import sqlite3
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay.spool import quarantine
from tests.rig import counts
from tests.rig.agent import STATES_TO_DO, Agent
from tests.rig.callers import Record, cast_all, id_of
from tests.rig.quickness import assert_as_quick
from tests.rig.rig import Rig
from tests.rig.strace import SYNCS, WRITES, attached, started_with
from tests.rig.wait import until

FUNCTION = b"work"
#: for agents that only accept
NOBODY = {"upstream": {"servers": "127.0.0.1:1"}}
#: how far the n-th call is walked, and in which steps; the first is drawn, so that each run takes others
WALK = counts.count("WALK", 12, 60)
STEP = counts.count("WALK_STEP", 12, 1)
CALLS = {"write": WRITES, "sync": SYNCS, "ftruncate": ("ftruncate",), "unlink": ("unlink",), "open": ("openat", "open")}


def ids(record: Record) -> set[int]:
    """The ids that were acknowledged."""
    return {id_of(handle) for handle in record.handles}


def is_up(agent: Agent) -> bool:
    """Whether it accepts; False once it has ended."""
    assert agent.process
    return until(lambda: agent.process.poll() is not None or agent.accepts(), "it starts or ends") and (
        agent.process.poll() is None
    )


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("calls", CALLS)
def test_the_nth_call_fails(rig: Rig, calls: str, error: str) -> None:
    """Once, or from then on: it starts or ends with 73, and whatever it acknowledged is there afterwards.

    From a start's first call to one under load; the short form takes one call, drawn by chance.
    """
    agent, chance = rig.unstarted_agent(NOBODY), counts.seeded()
    promised: set[int] = set()
    for n in range(chance.randrange(1, STEP + 1), WALK + 1, STEP):
        fault = f"error={error}:when={n}{chance.choice(('', '+'))}"
        with started_with(agent, CALLS[calls], fault):
            agent.spawn()
            if is_up(agent):
                record = cast_all(agent.socket, FUNCTION, [b"%d" % number for number in range(20)], window=2)
                assert {refusal.code for refusal in record.refused} <= {"spool_error", "disk_full"}
                assert not record.unanswered
                promised |= ids(record)
                assert agent.status()["state"] == "running"
                agent.kill()
            else:
                assert agent.wait() == 73, agent.log_tail()
        agent.start()
        assert promised <= {cast["id"] for cast in agent.backlog()}, f"call {n}\n{agent.log_tail()}"
        assert quarantine.kept(agent.spool) == []
        agent.kill()


def test_a_quota_that_is_used_up_is_a_full_disk(rig: Rig) -> None:
    """SQLite calls it an I/O error: the ballast is given up all the same, casts are refused as disk_full, and accepted
    again by itself."""
    agent = rig.agent(NOBODY)
    ballast = Path(f"{agent.spool}.ballast")
    until(ballast.exists, "the ballast is there")

    def codes() -> set[str]:
        return {refusal.code for refusal in cast_all(agent.socket, FUNCTION, [b"x"] * 3).refused}

    refused = False
    while not refused:
        with attached(agent, [*WRITES, "fallocate"], "error=EDQUOT"):
            until(lambda: codes() and not ballast.exists(), lambda: f"the ballast is given up\n{agent.log_tail()}")
        with attached(agent, ["fallocate"], "error=EDQUOT"):
            # between the two there is room: where it finds some, it is taken once more
            until(
                lambda: ballast.exists() or codes() == {"disk_full"},
                lambda: f"refused as disk_full\n{agent.log_tail()}",
            )
            refused = not ballast.exists()
            assert not refused or "disk_full" in {one["code"] for one in agent.status()["problems"]}
    until(lambda: not codes(), lambda: f"casts are accepted again\n{agent.log_tail()}")
    assert ballast.exists()


@pytest.mark.parametrize("lasts", ["once", "for ever"])
def test_a_read_that_fails_sets_nothing_aside(rig: Rig, lasts: str) -> None:
    """SQLite calls the spool corrupt when the disk fails to read it: a start goes on, or ends with 73."""
    agent = rig.agent(NOBODY)
    held = ids(cast_all(agent.socket, FUNCTION, [b"held" * 100] * 50))
    agent.term()
    step = counts.count("READ_STEP", 3, 1)
    for n in range(counts.seeded().randrange(1, step + 1), 8, step):
        with started_with(agent, ["pread64"], f"error=EIO:when={n}{'+' if lasts == 'for ever' else ''}"):
            agent.spawn()
            if is_up(agent):
                agent.kill()
            else:
                assert agent.wait() == 73, agent.log_tail()
        assert quarantine.kept(agent.spool) == [], f"call {n}\n{agent.log_tail()}"
    agent.start()
    assert held <= {cast["id"] for cast in agent.backlog()}


@pytest.mark.parametrize("again", ["goes on", "restarts"])
def test_a_sync_that_failed_once_is_no_promise(rig: Rig, again: str) -> None:
    """The batch whose fsync failed is refused whole; the next ones, on the same connection or after a crash, hold."""
    agent = rig.agent(NOBODY)
    held = ids(cast_all(agent.socket, FUNCTION, [b"before"]))
    with attached(agent, SYNCS, "error=EIO"):
        record = cast_all(agent.socket, FUNCTION, [b"meanwhile"] * 10, window=1)
        assert {refusal.code for refusal in record.refused} == {"spool_error"}
        assert not record.acknowledged
        until(lambda: "spool_failing" in {one["code"] for one in agent.status()["problems"]}, "the problem is shown")
        if again == "restarts":
            agent.kill()
    if again == "restarts":
        agent.start()
    until(lambda: agent.status()["accepting"], lambda: f"casts are accepted again\n{agent.log_tail()}")
    held |= ids(cast_all(agent.socket, FUNCTION, [b"after"] * 10))
    agent.kill()
    agent.start()
    assert held <= {cast["id"] for cast in agent.backlog()}
    assert len(held) == 11


def test_a_slow_disk_makes_batches_larger_and_nothing_else(rig: Rig) -> None:
    """300 ms a sync: callers share their COMMITs, all is accepted, and each cast is executed once."""
    rig.serve("geard")
    rig.work(FUNCTION)
    agent = rig.agent()
    with attached(agent, SYNCS, "delay_exit=300000") as output:
        castings = [
            rig.cast_in_background(agent, FUNCTION, [b"%d-%d" % (caller, n) for n in range(15)], window=1)
            for caller in range(40)
        ]
        records = [casting.finish() for casting in castings]
        agent.await_empty()
        syncs = output.read_text().count("sync(")
    acknowledged = [payload for record in records for payload in record.acknowledged]
    assert len(acknowledged) == 40 * 15
    assert 15 <= syncs <= 40 * 15 / 4
    assert Counter(rig.ledger.done(FUNCTION)) == Counter(acknowledged)
    assert "is lost" not in agent.log
    assert "cannot be" not in agent.log


# -- rot ---------------------------------------------------------------------------------------------------------------


def flip(path: Path, chance: random.Random, first: int = 0) -> int:
    """One bit of a file, behind the first bytes; where."""
    at = chance.randrange(first, path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))
    return at


PAYLOADS = [b"%06d " % number * 150 for number in range(400)]


@pytest.fixture
def rotting(rig: Rig) -> Agent:
    """An agent that was killed with a backlog; whoever starts it finds a server and a worker."""
    rig.serve("geard")
    agent = rig.agent(prelude="import relay.agent.service\nrelay.agent.service.REPORT_S = 0.5")
    assert len(cast_all(agent.socket, FUNCTION, PAYLOADS).acknowledged) == len(PAYLOADS)
    agent.kill()
    return agent


def asked(agent: Agent, *question: str) -> Any:
    """What relay-cli answers; None where it cannot, be it for rot or because a spool is being rebuilt."""
    finished = agent.cli(*question, "-f", "json")
    return None if finished.returncode else json.loads(finished.stdout)


def accounted_for(rig: Rig, agent: Agent, executed_before: int) -> bool:
    """Whether nothing waits, and what was not executed is dead, or its spool was set aside and that is told."""
    kept, status = quarantine.kept(agent.spool), asked(agent, "status")
    if status is None or any(status[state] for state in STATES_TO_DO):
        return False
    if kept:
        return "quarantined" in {one["code"] for one in status["problems"]}
    missing = len(PAYLOADS) - len(set(rig.ledger.done(FUNCTION)[executed_before:]))
    # rot may keep the dead from being counted, or from being listed, but not from both
    return missing in (status["dead"], len(asked(agent, "backlog", "--state", "dead") or ()))


def test_bits_flip_in_the_database(rig: Rig, rotting: Agent) -> None:
    """Each cast is executed as it was, or dead as damaged, or set aside with the spool; it never waits for ever.

    What is dead may rot further while it is looked at, and a spool may be rebuilt at any moment: it is so in the end.
    """
    chance = counts.seeded()
    agent = rotting
    agent.start()
    agent.term()
    sound = agent.spool.read_bytes()
    rig.work(FUNCTION)
    for number in range(counts.count("FLIPS", 3, 400)):
        agent.spool.write_bytes(sound)
        where = [flip(agent.spool, chance) for _ in range(8)]
        executed_before = len(rig.ledger.done(FUNCTION))
        agent.spawn()
        assert is_up(agent), agent.log_tail()
        until(
            partial(accounted_for, rig, agent, executed_before),
            f"{number}: with flips at {where} every cast is executed, dead, or set aside",
            120,
            pause=0.2,
        )
        assert set(rig.ledger.done(FUNCTION)) <= set(PAYLOADS), f"flips at {where}"
        agent.kill()
        for directory, _ in quarantine.kept(agent.spool):
            directory.rename(agent.directory / f"seen-{number}-{directory.name}")
        for end in ("-wal", "-shm"):
            Path(f"{agent.spool}{end}").unlink(missing_ok=True)


def test_bits_flip_in_the_log(rig: Rig, rotting: Agent) -> None:
    """What SQLite would drop silently is told and kept; the casts before it are executed."""
    chance, agent = counts.seeded(), rotting
    database, log = agent.spool, Path(f"{agent.spool}-wal")
    sound = database.read_bytes(), log.read_bytes()
    rig.work(FUNCTION)
    for number in range(counts.count("FLIPS", 4, 400)):
        database.write_bytes(sound[0])
        log.write_bytes(sound[1])
        where = flip(log, chance)
        said = len(agent.log)
        agent.start()
        agent.await_empty()
        told = agent.log[said:]
        assert "the spool's log is damaged" in told or "the spool's log ends with" in told, f"a flip at {where}"
        kept = quarantine.kept(database)
        assert bool(kept) == ("the spool's log is damaged" in told)
        assert set(rig.ledger.done(FUNCTION)) <= set(PAYLOADS)
        agent.kill()
        for directory, _ in kept:
            directory.rename(agent.directory / f"seen-{number}-{directory.name}")
        for end in ("-wal", "-shm"):
            Path(f"{database}{end}").unlink(missing_ok=True)


def sitting_reader(agent: Agent, casts: int) -> sqlite3.Connection:
    """A reader in a transaction that has seen so many casts, and stays."""
    reader = sqlite3.connect(f"file:{agent.spool}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM backlog").fetchone() == (casts,)
    return reader


def lengthen(agent: Agent, mib: int) -> Path:
    """Cast until the write-ahead log is so long; its path."""
    log = Path(f"{agent.spool}-wal")
    while log.stat().st_size < mib * 2**20:
        assert not cast_all(agent.socket, FUNCTION, [os.urandom(100_000) for _ in range(50)], window=50).refused
    return log


def test_a_reader_in_a_long_transaction(rig: Rig) -> None:
    """The log grows, which is told with the reader's pid, and casts are taken as before; it is cut short afterwards."""
    agent = rig.agent(NOBODY)
    cast_all(agent.socket, FUNCTION, [b"first"])
    reader = sitting_reader(agent, 1)
    log = lengthen(agent, 70)
    problem = until(
        lambda: [one for one in agent.status()["problems"] if one["code"] == "log_too_long"], "the problem is shown"
    )[0]
    assert f"pid {os.getpid()} " in problem["text"]
    reader.close()
    until(lambda: log.stat().st_size < 10 * 2**20, "the log is cut short")
    until(lambda: not [one for one in agent.status()["problems"] if one["code"] == "log_too_long"], "it is well again")


def test_a_reader_costs_callers_nothing(rig: Rig) -> None:
    """Beside a reader that stays, with a long log, p99 is at most three times that at an agent without a reader."""
    read, control = rig.agent(NOBODY), rig.agent(NOBODY)
    for agent in (read, control):
        cast_all(agent.socket, b"nobody", [b"first"])
    reader = sitting_reader(read, 1)
    log = lengthen(read, 20)
    with read.connect() as burdened, control.connect() as free:
        assert_as_quick(burdened, free)
    assert log.stat().st_size >= 20 * 2**20
    reader.close()
