"""Casts that outlive their lifetime are dead with their reason, wherever they wait."""

from tests.rig.callers import cast_all
from tests.rig.rig import Rig
from tests.rig.wait import until


def test_casts_that_nobody_works_on_expire(rig: Rig) -> None:
    """More than memory keeps, of a function without workers: all dead, counted; one without a lifetime waits on."""
    rig.serve("gearmand")
    agent = rig.agent({"forwarder": {"policies": "rpc"}, "policy_rpc": {"match": "rpc", "lifetime": 1}})
    cast_all(agent.socket, b"rpc", [b"%d" % number for number in range(2000)])
    cast_all(agent.socket, b"billing", [b"x"])
    status = until(lambda: (now := agent.status())["expired"] == 2000 and now, agent.status)
    assert (status["dead"], status["ready"] + status["in_flight"], status["failures"]) == (2000, 1, 0)
    dead = agent.backlog("--state", "dead", "--limit", "1")
    assert dead[0]["last_error"] == "its lifetime was over"
    rig.work(b"rpc", b"billing")
    rig.ledger.await_done([b"x"])
    # what had been sent to find out whether somebody works on it cannot be called back
    assert len(rig.ledger.done(b"rpc")) <= 8


def test_casts_expire_while_no_server_is_there_and_over_a_restart(rig: Rig) -> None:
    """With nowhere to send them, across a crash of the agent: dead all the same, and nothing of it is executed."""
    (server,) = rig.serve("gearmand")
    rig.work(b"rpc", b"plain")
    server.kill()
    agent = rig.agent({"forwarder": {"policies": "rpc"}, "policy_rpc": {"match": "rpc", "lifetime": 2}})
    cast_all(agent.socket, b"rpc", [b"%d" % number for number in range(500)])
    agent.kill()
    agent.restart()
    status = until(lambda: (now := agent.status())["expired"] == 500 and now, agent.status)
    assert status["dead"] == 500
    server.restart()
    cast_all(agent.socket, b"plain", [b"fresh"])
    rig.ledger.await_done([b"fresh"])
    agent.await_empty()
    assert rig.ledger.done() == [b"fresh"]


def test_a_cast_in_flight_is_not_called_back(rig: Rig) -> None:
    """A worker that takes longer than the lifetime finishes it: the cast is done, and nothing has expired."""
    rig.serve("gearmand")
    (worker,) = rig.work(b"slow")
    worker.hold()
    agent = rig.agent({"forwarder": {"policies": "rpc"}, "policy_rpc": {"match": "rpc,slow", "lifetime": 0.5}})
    cast_all(agent.socket, b"slow", [b"x"])
    until(worker.holding.is_set, "the worker has it")
    cast_all(agent.socket, b"rpc", [b"beside it"])
    until(lambda: agent.status()["expired"] == 1, agent.status)
    worker.let_go()
    until(lambda: agent.status()["completed"] == 1, agent.status)
