"""Policies by function, attempts that take too long, and casts that are done once they are accepted."""

import signal

from tests.rig.callers import cast_all
from tests.rig.rig import Rig
from tests.rig.wait import until
from tests.rig.workers import always_fail

QUICK = {"backoff_initial": 0.05, "backoff_max": 0.1}


def test_a_policy_holds_for_its_functions_and_another_after_sighup(rig: Rig) -> None:
    """Its max_attempts for what it matches, [forwarder]'s for the rest; SIGHUP puts other ones in force."""
    rig.serve("gearmand")
    rig.work(b"rpc-a", b"other", act=always_fail)
    agent = rig.agent(
        {
            "forwarder": QUICK | {"max_attempts": 3, "policies": "rpc"},
            "policy_rpc": {"match": "rpc-*", "max_attempts": 1},
        }
    )

    def deaths(number: int) -> dict[str, int]:
        for function in (b"rpc-a", b"other"):
            cast_all(agent.socket, function, [b"%d" % number])
        casts = until(lambda: len(found := agent.backlog("--state", "dead")) == 2 * number and found, agent.backlog)
        return {cast["function"]: cast["failures"] for cast in casts[-2:]}

    assert deaths(1) == {"rpc-a": 1, "other": 3}
    agent.configure({"policy_rpc": {"max_attempts": 2}})
    agent.signal(signal.SIGHUP)
    until(lambda: "the configuration was reloaded" in agent.log, "the configuration is reloaded")
    assert deaths(2) == {"rpc-a": 2, "other": 3}


def test_an_attempt_that_takes_too_long_is_dead_in_the_end_and_alive_when_it_is_done(rig: Rig) -> None:
    """It fails with attempt_timeout until it is dead; when the worker answers at last the dead cast is retired."""
    rig.serve("gearmand")
    (worker,) = rig.work(b"slow")
    worker.hold()
    agent = rig.agent({"forwarder": QUICK | {"max_attempts": 2, "attempt_timeout": 0.3}})
    cast_all(agent.socket, b"slow", [b"x"])
    (cast,) = until(lambda: agent.backlog("--state", "dead"), agent.backlog)
    assert (cast["failures"], cast["last_error"]) == (2, "no verdict within 0.3 s")
    worker.let_go()
    status = until(lambda: (now := agent.status())["completed"] == 1 and now, agent.status)
    assert (status["dead"], status["failures"], status["ready"]) == (0, 2, 0)
    until(lambda: len(rig.ledger.tries()) == 2, "the second job, which nobody can call back, is done too")
    assert agent.status()["completed"] == 1


def test_accepted_casts_are_retired_without_a_worker(rig: Rig, server_kind: str) -> None:
    """With confirm = accepted they are the job server's: retired while nobody works on them, and executed later."""
    rig.serve(server_kind)
    agent = rig.agent({"forwarder": {"confirm": "accepted"}})
    payloads = [b"%d" % number for number in range(1000)]
    for priority, some in (("high", payloads[:300]), ("low", payloads[300:600]), ("normal", payloads[600:])):
        cast_all(agent.socket, b"later", some, priority=priority)
    agent.await_empty()
    assert agent.status()["completed"] == len(payloads)
    assert rig.ledger.tries() == []
    rig.work(b"later")
    rig.ledger.await_done(payloads)
    assert len(rig.ledger.tries()) == len(payloads)
