"""What a worker says, and what becomes of the cast: done, deferred and tried again, or dead with its reason."""

import pytest

from tests.rig.callers import cast_all
from tests.rig.rig import Rig
from tests.rig.wait import until
from tests.rig.workers import Act, always_fail, fail_first, raising, vanish_first

QUICK = {"backoff_initial": 0.05, "backoff_max": 0.2}


@pytest.mark.parametrize("failures", [1, 4])
def test_a_cast_that_fails_first_is_executed_in_the_end(rig: Rig, server_kind: str, failures: int) -> None:
    """After n times WORK_FAIL and a success each cast is retired, tried n + 1 times, its failures counted."""
    rig.serve(server_kind)
    rig.work(b"moody", act=fail_first(failures))
    agent = rig.agent({"forwarder": QUICK})
    payloads = [b"moody-%d" % n for n in range(5)]
    cast_all(agent.socket, b"moody", payloads)
    rig.ledger.await_done(payloads)
    agent.await_empty()
    assert sorted(rig.ledger.done()) == sorted(payloads)
    assert len(rig.ledger.tries()) == len(payloads) * (failures + 1)
    status = agent.status()
    assert (status["completed"], status["dead"]) == (len(payloads), 0)
    assert status["failures"] == len(payloads) * failures


def test_a_cast_that_waits_for_its_next_try_is_deferred_and_says_why(rig: Rig, server_kind: str) -> None:
    """Between two tries the backlog shows the cast deferred, with its failure, its reason and when it is due."""
    rig.serve(server_kind)
    rig.work(b"bad", act=raising(b"no such tenant"))
    agent = rig.agent({"forwarder": {"backoff_initial": 3000, "backoff_max": 3000}})
    cast_all(agent.socket, b"bad", [b"x"])
    (cast,) = until(lambda: agent.backlog("--state", "deferred"), agent.backlog)
    assert cast["failures"] == 1
    assert "no such tenant" in cast["last_error"]
    assert cast["due_seconds"] <= 3000
    assert agent.status()["deferred"] == 1


@pytest.mark.parametrize(
    ("act", "reason"),
    [(always_fail, ""), (raising(b"no such tenant: 7f3e"), "no such tenant: 7f3e")],
    ids=["WORK_FAIL", "WORK_EXCEPTION"],
)
def test_a_cast_that_always_fails_is_dead_with_its_reason(rig: Rig, server_kind: str, act: Act, reason: str) -> None:
    """With max_attempts = 3 it is tried three times, then dead, kept, and its last_error says why."""
    rig.serve(server_kind)
    rig.work(b"bad", act=act)
    agent = rig.agent({"forwarder": QUICK | {"max_attempts": 3}})
    cast_all(agent.socket, b"bad", [b"x"], uniques=[b"named"])
    (cast,) = until(lambda: agent.backlog("--state", "dead"), agent.backlog)
    assert (cast["function"], cast["unique"], cast["state"]) == ("bad", "named", "dead")
    assert cast["failures"] == 3
    assert cast["last_error"]
    assert reason in cast["last_error"]
    assert len(rig.ledger.tries()) == 3
    status = agent.status()
    assert (status["dead"], status["failures"], status["completed"]) == (1, 3, 0)
    # failures within a second share a line, but the end of the promise has its own
    assert f"cast {cast['id']} of bad: attempt 3" in agent.log
    assert "; dead" in agent.log


def test_a_dead_cast_is_kept_over_a_restart_and_not_tried_again(rig: Rig) -> None:
    """Dead is a state on disk: after a restart it is there with its reason, and a fresh cast is executed beside it."""
    rig.serve("gearmand")
    rig.work(b"bad", act=raising(b"no such tenant"))
    rig.work(b"plain")
    agent = rig.agent({"forwarder": QUICK | {"max_attempts": 1}})
    cast_all(agent.socket, b"bad", [b"x"])
    until(lambda: agent.status()["dead"] == 1, agent.status)
    assert agent.term() == 0
    agent.restart()
    cast_all(agent.socket, b"plain", [b"y"])
    rig.ledger.await_done([b"y"])
    (cast,) = agent.backlog("--state", "dead")
    assert "no such tenant" in cast["last_error"]
    assert len(rig.ledger.tries(b"bad")) == 1


def test_each_send_has_a_fresh_unique_under_one_key(rig: Rig, unique_server_kind: str) -> None:
    """Workers see `<key>.<send>`: the key is the cast's at every send, no wire unique is ever used twice."""
    rig.serve(unique_server_kind)
    rig.work(b"moody", act=fail_first(2))
    agent = rig.agent({"forwarder": QUICK})
    payloads = [b"moody-%d" % n for n in range(10)]
    cast_all(agent.socket, b"moody", payloads)
    rig.ledger.await_done(payloads)
    tries = rig.ledger.tries()
    assert len({e.unique for e in tries}) == len(tries) == 30
    keys = {payload: {e.key for e in tries if e.payload == payload} for payload in payloads}
    assert [len(of_one) for of_one in keys.values()] == [1] * 10
    assert len(set.union(*keys.values())) == 10
    for execution in tries:
        assert execution.key
        assert execution.unique.isascii()
        assert len(execution.unique) <= 63


def test_the_key_survives_a_crash_and_the_send_does_not(rig: Rig, unique_server_kind: str) -> None:
    """A cast sent before and after a SIGKILL of the agent reaches workers under one key and two uniques."""
    rig.serve(unique_server_kind)
    rig.work(b"moody", act=fail_first(1))
    agent = rig.agent({"forwarder": {"backoff_initial": 2, "backoff_max": 2}})
    cast_all(agent.socket, b"moody", [b"x"])
    until(rig.ledger.tries, "the first try")
    agent.kill()
    agent.restart()
    rig.ledger.await_done([b"x"])
    tries = rig.ledger.tries()
    assert len({e.key for e in tries}) == 1
    assert len({e.unique for e in tries}) == len(tries)


def test_a_message_id_is_the_key(rig: Rig, unique_server_kind: str) -> None:
    """A unique of 32 lower-case hex digits reaches workers as the idempotency key; any other unique does not."""
    rig.serve(unique_server_kind)
    rig.work(b"plain")
    agent = rig.agent()
    message_id = b"0192f3a4b5c6d7e8f90a1b2c3d4e5f60"
    cast_all(agent.socket, b"plain", [b"id", b"other"], uniques=[message_id, message_id.upper()])
    rig.ledger.await_done([b"id", b"other"])
    keys = {e.payload: e.key for e in rig.ledger.tries()}
    assert keys[b"id"] == message_id
    assert keys[b"other"] != message_id.upper()


def test_a_worker_that_dies_in_mid_job_loses_nothing(rig: Rig, server_kind: str) -> None:
    """A worker's connection that breaks in the middle of a job, twice for each cast: each is executed in the end."""
    rig.serve(server_kind)
    rig.work(b"fragile", act=vanish_first(2), each=2)
    agent = rig.agent({"forwarder": QUICK})
    payloads = [b"fragile-%d" % n for n in range(10)]
    cast_all(agent.socket, b"fragile", payloads)
    rig.ledger.await_done(payloads)
    agent.await_empty()
    assert agent.status()["dead"] == 0
