"""Nothing accepted is lost: the agent, the server in use, and both are killed under load.

The ring is one of each kind, and in the long form two of gearmand too; two of each where a server's death is all there
is to see.

Each test reports, printed and as properties of the run: what was acknowledged, lost (must be 0), repeated, executed
though never acknowledged, and how long it took to drain once the faults had ended.
"""

import itertools
import os
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.rig.agent import Options
from tests.rig.callers import Record, id_of
from tests.rig.counts import count
from tests.rig.rig import Rig
from tests.rig.servers import JobServer
from tests.rig.wait import until

FUNCTION = b"work"
AHEAD = 3_000
"""How far the caller runs ahead of the workers: there is always a backlog, and it can be drained soon."""
SURGE = 20_000
"""How far it may run ahead while it is let go, so that a kill meets it in the middle of its casts."""
STEP = 500
"""What goes well between two faults, and of what a surge that is killed is sure."""

Report = Callable[[str, object], None]


class Load:
    """Servers in a ring, each with two workers that take their time, an agent, and a caller that never stops."""

    def __init__(self, rig: Rig, kinds: tuple[str, ...], options: Options | None = None) -> None:
        """Start all of it."""
        self.rig = rig
        self.ahead = AHEAD
        rig.serve(*kinds)
        rig.work(FUNCTION, each=2, delay=0.001)
        self.agent = rig.agent(options)
        payloads = (b"cast-%d" % number for number in itertools.count())
        self.casting = rig.cast_in_background(
            self.agent, FUNCTION, payloads, window=100, stubborn=True, held_back=self._far_ahead
        )

    def _far_ahead(self, record: Record) -> bool:
        return len(record.acknowledged) - self.rig.ledger.distinct > self.ahead

    @property
    def backlog(self) -> int:
        """How many casts are acknowledged and not executed, about."""
        return len(self.acknowledged) - self.rig.ledger.distinct

    @property
    def acknowledged(self) -> list[bytes]:
        """What the caller has a JOB_CREATED for."""
        return self.casting.record.acknowledged

    def go_on(self) -> None:
        """Returns when STEP more casts are acknowledged and executed: there is load, and there is progress."""
        casts, executions = len(self.acknowledged) + STEP, len(self.rig.ledger.executions) + STEP
        until(
            lambda: len(self.acknowledged) >= casts and len(self.rig.ledger.executions) >= executions,
            lambda: (
                f"{casts} acknowledged ({len(self.acknowledged)}) and {executions} executed"
                f" ({len(self.rig.ledger.executions)})\n{self.agent.log_tail()}"
            ),
        )

    def surge(self) -> None:
        """Let the caller go; returns when it is in the middle of a run of casts."""
        casts = len(self.acknowledged) + STEP
        self.ahead = SURGE
        until(lambda: len(self.acknowledged) >= casts, lambda: f"casts are accepted\n{self.agent.log_tail()}")

    def kill_agent(self) -> None:
        """SIGKILL of the agent in the middle of a surge, which ends with it."""
        self.surge()
        self.agent.kill()
        self.ahead = AHEAD

    def server_in_use(self) -> JobServer:
        """The server that has jobs of ours queued and running, now."""

        def busy() -> list[JobServer]:
            statuses = [(server, server.status(FUNCTION)) for server in self.rig.servers]
            return [server for server, status in statuses if status.total > status.running > 0]

        return until(busy, lambda: f"a server has jobs queued and running: {self.agent.status()}")[0]

    def settle(self, report: Report) -> None:
        """Stop the caller, let it all drain, report, and assert the one sentence."""
        record = self.casting.stop()
        began = time.monotonic()
        self.agent.await_empty()
        took = time.monotonic() - began
        executed = Counter(self.rig.ledger.done(FUNCTION))
        acknowledged = set(record.acknowledged)
        never_acknowledged = executed.keys() - acknowledged
        lost = acknowledged - executed.keys()
        for what, value in {
            "acknowledged": len(acknowledged),
            "lost": len(lost),
            "repeated": executed.total() - len(executed),
            "executed_never_acknowledged": len(never_acknowledged),
            "unanswered": len(record.unanswered),
            "drain_seconds": round(took, 2),
        }.items():
            print(f"{what}: {value}")
            report(what, value)
        assert not lost, f"lost: {sorted(lost)[:10]}"
        assert never_acknowledged <= set(record.unanswered), "executed, and neither acknowledged nor ever in doubt"
        assert not record.refused
        status = self.agent.status()
        assert (status["dead"], status["failures"]) == (0, 0), "a kill is no failure of a cast"


MIXED, TWINS = ("geard", "gearmand", "perl"), [(kind, kind) for kind in ("gearmand", "geard", "perl")]
#: of the mixed one each run begins with another kind
RINGS = [MIXED, *TWINS[:1]] if "RELAY_LONG" in os.environ else [MIXED]


@pytest.fixture(params=RINGS, ids="-".join)
def load(rig: Rig, request: pytest.FixtureRequest) -> Load:
    """Casts flowing."""
    return Load(rig, request.param)


@pytest.fixture(params=RINGS, ids="-".join)
def remembered(rig: Rig, request: pytest.FixtureRequest) -> Load:
    """Casts flowing, and a history of those that are done."""
    return Load(rig, request.param, {"spool": {"keep_done": "1h", "keep_done_max": 1_000_000}})


def test_the_agent_is_killed(remembered: Load, record_property: Report) -> None:
    """SIGKILL of the agent in the middle of load, again and again: 0 lost, the spool drains, the history has each cast.

    Just the casts that were completed are in the history, each once: it is written with their end, or not at all.
    """
    load = remembered
    took, backlogs = [], []
    for number in range(count("KILLS", 2, 250)):
        load.go_on()
        load.kill_agent()
        backlogs.append(load.backlog)
        load.agent.restart()
        took.append(load.agent.took_to_accept)
        if number % 25 == 24:
            print(f"{number + 1} kills, {len(load.acknowledged)} acknowledged", flush=True)
    load.go_on()
    for what, value in {
        "kills": len(took),
        "accepting_again_median_s": round(statistics.median(took), 2),
        "accepting_again_worst_s": round(max(took), 2),
        "backlog_median": statistics.median(backlogs),
        "backlog_worst": max(backlogs),
    }.items():
        print(f"{what}: {value}")
        record_property(what, value)
    load.settle(record_property)
    with closing(sqlite3.connect(f"file:{load.agent.spool}?mode=ro", uri=True)) as conn:
        done = {row[0] for row in conn.execute("SELECT id FROM done")}
    assert len(done) == load.agent.status()["completed"]
    assert {id_of(handle) for handle in load.casting.record.handles} <= done


@pytest.mark.parametrize("load", [MIXED, *TWINS], ids="-".join, indirect=True)
def test_the_server_in_use_is_killed(load: Load, record_property: Report) -> None:
    """SIGKILL of the server with jobs queued and running, which stays away: the other one does all, 0 lost."""
    load.go_on()
    victim = load.server_in_use()
    victim.kill()
    so_far = len(load.rig.ledger.executions)
    load.go_on()
    load.settle(record_property)
    others = {server.port for server in load.rig.servers} - {victim.port}
    assert others & {execution.port for execution in load.rig.ledger.executions[so_far:]}


def test_the_server_in_use_is_killed_and_comes_back(load: Load, record_property: Report) -> None:
    """Whichever is in use is killed and started again, and again: 0 lost."""
    for _ in range(count("SERVER_KILLS", 2, 50)):
        load.go_on()
        victim = load.server_in_use()
        victim.kill()
        victim.restart()
    load.go_on()
    load.settle(record_property)


def test_agent_and_server_are_killed_at_once(load: Load, record_property: Report) -> None:
    """Both die under load, again and again, and come back, the agent first: 0 lost."""
    for _ in range(count("KILLS_OF_BOTH", 1, 50)):
        load.go_on()
        victim = load.server_in_use()
        load.kill_agent()
        victim.kill()
        load.agent.restart()
        victim.restart()
    load.go_on()
    load.settle(record_property)


def test_all_servers_are_killed_and_come_back(load: Load, record_property: Report) -> None:
    """With nowhere to forward to the agent goes on accepting, also over a crash of its own: 0 lost."""
    load.go_on()
    for server in load.rig.servers:
        server.kill()
    load.kill_agent()
    load.agent.restart()
    for server in load.rig.servers:
        server.restart()
    load.go_on()
    load.settle(record_property)


def test_a_server_that_hangs_is_left_for_the_other(load: Load, record_property: Report) -> None:
    """A server that keeps its connections and answers nothing (SIGSTOP) is given up, and the other does all."""
    load.go_on()
    load.server_in_use().stop()
    load.go_on()
    load.settle(record_property)
