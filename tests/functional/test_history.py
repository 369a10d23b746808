"""The history of casts that are done, with a real job server: who asks where his cast is, is told."""

import os
import signal

from tests.rig.agent import Agent
from tests.rig.callers import cast_all, id_of
from tests.rig.rig import Rig
from tests.rig.wait import until
from tests.rig.workers import fail_first

KEPT = {"spool": {"keep_done": "1h"}}


def told(agent: Agent, *casts: int) -> list[int]:
    """Which of these casts `show` knows of."""
    return [cast for cast in casts if agent.cli("show", str(cast)).returncode == 0]


def test_where_is_my_cast(rig: Rig) -> None:
    """A cast that failed once and was done: both attempts, by id, handle and unique, with the agent up and down."""
    (server,) = rig.serve("gearmand")
    rig.work(b"work", act=fail_first(1))
    agent = rig.agent(KEPT)
    (handle,) = cast_all(agent.socket, b"work", [b"payload"], uniques=[b"mine"]).handles
    agent.await_empty()
    for state in ("up", "down"):
        if state == "down":
            agent.term()
        for name in (str(id_of(handle)), handle.decode(), "mine"):
            found = agent.ask("show", name)
            assert (found["id"], found["state"], found["in_flight"]) == (id_of(handle), "done", False)
            assert (found["function"], found["unique"], found["uid"]) == ("work", "mine", os.geteuid())
            assert (found["bytes"], found["attempts"], found["failures"]) == (7, 2, 1)
            first, second = found["history"]
            assert (first["number"], first["reason"], first["upstream"]) == (1, "work_fail", server.address)
            assert (second["number"], second["reason"], second["upstream"]) == (2, "done", server.address)
            assert found["accepted_at"] <= first["began_at"] <= second["began_at"] <= found["since"]
            assert all(one["waited_seconds"] >= 0 and one["seconds"] >= 0 for one in found["history"])
        assert agent.cli("show", str(id_of(handle)), "--raw").returncode == 1
        table = agent.cli("show", str(id_of(handle))).stdout
        assert "work_fail" in table
        assert "waited_seconds" in table
    assert agent.status()["completed"] == 1


def test_it_is_bounded_and_ends_with_the_option(rig: Rig) -> None:
    """The last keep_done_max are told of, and none of those done while it was off; switched off, all are forgotten."""
    rig.serve("gearmand")
    rig.work(b"work")
    agent = rig.agent()
    before = [id_of(handle) for handle in cast_all(agent.socket, b"work", [b"x"] * 3).handles]
    agent.await_empty()
    agent.configure({"spool": {"keep_done": "1h", "keep_done_max": 5}})
    agent.signal(signal.SIGHUP)
    until(lambda: "the configuration was reloaded" in agent.log, "the agent has reloaded")
    casts = []
    for _ in range(8):
        casts += [id_of(handle) for handle in cast_all(agent.socket, b"work", [b"x"]).handles]
        agent.await_empty()
    assert told(agent, *before, *casts) == casts[-5:]
    agent.configure({"spool": {"keep_done": 0}})
    agent.term()
    agent.restart()
    until(lambda: told(agent, *casts) == [], "the history is gone")
    assert agent.cli("check").returncode == 75
    agent.term()
    assert agent.cli("check").returncode == 0
