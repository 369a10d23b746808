"""SIGKILL at system calls of the agent's: under load, in each step of a start, of a quarantine, of a vacuum."""

import shutil
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from relay.spool import quarantine
from relay.spool.checking import check
from tests.formats.make_v1 import GOLDEN
from tests.rig.agent import Agent
from tests.rig.callers import cast_all, id_of
from tests.rig.counts import count, seeded
from tests.rig.rig import Rig
from tests.rig.strace import SYNCS, attached, started_with
from tests.rig.wait import until
from tests.unit.spool.writing import Writer, cast

from .test_kills import AHEAD, SURGE, Load, Report

FUNCTION = b"work"
NOBODY = {"upstream": {"servers": "127.0.0.1:1"}}
#: what an agent under load does all the time
LOADED = [("pwrite64",), SYNCS, ("sendto", "sendmsg", "write"), ("recvfrom", "recvmsg", "read"), ("futex",)]
#: what a start does to the disk
STEPS = ("openat", "pwrite64", "fsync", "fdatasync", "ftruncate", "unlink", "rename", "mkdir", "fallocate")

#: those of them that a quarantine is made of
RENAMES = ("mkdir", "rename", "fsync")


def test_the_agent_is_killed_at_a_call_under_load(rig: Rig, record_property: Report) -> None:
    """At the n-th call of each kind, n by chance: 0 lost, and it accepts again."""
    chance, load, took = seeded(), Load(rig, ("geard", "geard")), []
    for _ in range(count("CALL_KILLS", 1, 200)):
        for calls in LOADED:
            load.go_on()
            agent = load.agent
            with attached(agent, calls, f"signal=SIGKILL:when={chance.randrange(1, 200)}", anywhere=True):
                load.ahead = SURGE
                until(partial(ended, agent), f"it is killed at {calls}")
            load.ahead = AHEAD
            agent.restart()
            took.append(agent.took_to_accept)
    record_property("accepting_again_median_s", statistics.median(took))
    record_property("accepting_again_worst_s", max(took))
    print(f"accepting again: median {statistics.median(took):.2f} s, worst {max(took):.2f} s, of {len(took)}")
    load.settle(record_property)


def ended(agent: Agent) -> bool:
    """Whether its process has."""
    return agent.process is None or agent.process.poll() is not None


def killed_at(agent: Agent, calls: Sequence[str], n: int) -> bool:
    """Start it, to be killed at the n-th of these calls on its spool; False when it accepted before it came so far."""
    with started_with(agent, calls, f"signal=SIGKILL:when={n}"):
        process = agent.spawn()
        until(lambda: process.poll() is not None or agent.accepts(), "it starts or is killed")
        survived = process.poll() is None
        agent.kill()
    return not survived


def walk(
    agent: Agent,
    prepare: Callable[[], None],
    look: Callable[[int], None],
    calls: Sequence[str] = STEPS,
    every: int = 25,
) -> int:
    """Kill a start at each `every`-th step, and look at what the next start makes of it; the steps of a whole start."""
    every = count("STEPS_EVERY", every, 1)
    n = seeded().randrange(1, every + 1)
    while True:
        prepare()
        if not killed_at(agent, calls, n):
            return n
        agent.start()
        look(n)
        agent.term()
        n += every


def emptied(spool: Path) -> None:
    """Nothing of it is there."""
    shutil.rmtree(spool.parent, ignore_errors=True)


def copied(source: Path, spool: Path) -> None:
    """A copy of a spool's directory in place of the spool's."""
    emptied(spool)
    shutil.copytree(source, spool.parent)


def test_a_first_start_is_killed_at_each_step(rig: Rig) -> None:
    """Whatever a spool that was being made looks like, the next start makes it, and it works."""
    agent = rig.unstarted_agent(NOBODY)

    def look(n: int) -> None:
        assert cast_all(agent.socket, FUNCTION, [b"x"]).acknowledged, f"step {n}"
        assert len(agent.backlog()) == 1
        assert quarantine.kept(agent.spool) == []

    assert walk(agent, lambda: emptied(agent.spool), look) > 10


def test_a_start_after_a_crash_is_killed_at_each_step(rig: Rig, tmp_path: Path) -> None:
    """A crash left casts in the log: none is lost, whichever step of the checkpoint the next kill falls on."""
    agent = rig.agent(NOBODY)
    held = {id_of(handle) for handle in cast_all(agent.socket, FUNCTION, [b"%d" % n for n in range(50)]).handles}
    agent.kill()
    shutil.copytree(agent.spool.parent, tmp_path / "crashed")

    def look(n: int) -> None:
        assert {one["id"] for one in agent.backlog()} == held, f"step {n}"
        assert quarantine.kept(agent.spool) == []

    assert walk(agent, lambda: copied(tmp_path / "crashed", agent.spool), look) > 5


def test_a_migration_is_killed_at_each_step(rig: Rig) -> None:
    """The golden spool of format 1 is opened by this relay: every cast of it is there afterwards."""
    # its dead cast is old enough to be purged
    agent = rig.unstarted_agent({**NOBODY, "spool": {"keep_dead": "0"}})

    def prepare() -> None:
        emptied(agent.spool)
        agent.spool.parent.mkdir(mode=0o700)
        shutil.copy(GOLDEN, agent.spool)
        agent.spool.chmod(0o600)

    def look(n: int) -> None:
        assert len(agent.backlog()) == 9, f"step {n}"
        assert quarantine.kept(agent.spool) == []

    assert walk(agent, prepare, look) > 5


def test_a_quarantine_is_killed_at_each_step(rig: Rig, tmp_path: Path) -> None:
    """Database and log are in one directory together, byte for byte, and just once."""
    agent = rig.agent(NOBODY)
    cast_all(agent.socket, FUNCTION, [b"%d" % n for n in range(50)])
    agent.kill()
    shutil.copytree(agent.spool.parent, tmp_path / "crashed")
    database = tmp_path / "crashed" / agent.spool.name
    database.write_bytes(b"no database " * 1000)
    # a log that has every page of the database would make it good
    log = b"a log"
    Path(f"{database}-wal").write_bytes(log)

    def look(n: int) -> None:
        ((directory, _),) = quarantine.kept(agent.spool)
        assert (directory / agent.spool.name).read_bytes() == database.read_bytes(), f"step {n}"
        assert (directory / f"{agent.spool.name}-wal").read_bytes() == log, f"step {n}"
        assert cast_all(agent.socket, FUNCTION, [b"x"]).acknowledged

    assert walk(agent, lambda: copied(tmp_path / "crashed", agent.spool), look, RENAMES, 2) > 5


def test_a_vacuum_is_killed(rig: Rig) -> None:
    """While it gives pages back: every cast is there, the spool is sound, and it shrinks after all."""
    chance, agent = seeded(), rig.unstarted_agent(NOBODY)
    writer = Writer(agent.spool)
    ids = [id_ for _ in range(10) for id_ in writer.accept(*[cast(payload=bytes(100_000))] * 100)]
    writer.store(done=[(id_, 1, 100_000, False, 0) for id_ in ids[10:]])
    writer.close()
    large = agent.spool.stat().st_size
    assert large > 80 * 2**20

    def small() -> bool:
        return agent.spool.stat().st_size < large // 2

    for _ in range(count("VACUUM_KILLS", 2, 100)):
        agent.start()
        with attached(agent, ("pwrite64",), f"signal=SIGKILL:when={chance.randrange(1, 1000)}"):
            until(lambda: ended(agent) or small(), "it shrinks, or is killed")
        agent.kill()
        assert list(check(agent.spool)) == []
    agent.start()
    until(small, "it shrinks")
    assert len(agent.backlog()) == 10
