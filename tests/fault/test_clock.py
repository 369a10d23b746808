"""The clock is set, an hour back and ten years on, while casts wait: no stall, no storm, none expires by it."""

import time

import pytest

from relay.spool.quarantine import kept
from tests.rig.callers import cast_all
from tests.rig.clock import LIBRARIES, Clock
from tests.rig.packets import SUBMIT_JOB_EPOCH, request
from tests.rig.rig import Rig
from tests.rig.wait import until
from tests.rig.workers import fail_first

LIFETIME_S, BRIEF_S = 300, 3
"""Of what must not expire by a step, and of what expires while the test waits."""
STEPS = {"an hour back": "-3600", "ten years on": "+315360000"}


@pytest.mark.parametrize("offset", STEPS.values(), ids=STEPS.keys())
def test_a_step_of_the_clock_neither_stalls_nor_floods(rig: Rig, offset: str) -> None:
    """Casts in backoff go on, new ones are executed, none expires before its time; what is for later waits or comes."""
    if not LIBRARIES:
        pytest.skip("libfaketime is not installed")
    clock = Clock(rig.directory / "clock")
    rig.serve("gearmand")
    rig.work(b"moody", act=fail_first(2))
    rig.work(b"plain")
    options = {"forwarder": {"backoff_initial": 1, "backoff_max": 2, "policies": "rpc, brief"}}
    lifetimes = {"rpc": LIFETIME_S, "brief": BRIEF_S}
    policies = {f"policy_{name}": {"match": name, "lifetime": seconds} for name, seconds in lifetimes.items()}
    agent = rig.unstarted_agent(options | policies)
    agent.environment = clock.environment
    agent.start()
    began = time.monotonic()
    cast_all(agent.socket, b"rpc", [b"nobody works on it"])
    with agent.connect() as stream:
        stream.ask(request(SUBMIT_JOB_EPOCH, b"plain", b"", b"%d" % (time.time() + 1800), b"later"))
    moody = [b"moody-%d" % number for number in range(20)]
    cast_all(agent.socket, b"moody", moody)
    until(lambda: len(rig.ledger.tries(b"moody")) >= 5, "the first tries")

    clock.set(offset)
    plain = [b"plain-%d" % number for number in range(200)]
    assert cast_all(agent.socket, b"plain", plain).acknowledged == plain
    rig.ledger.await_done([*plain, *moody])
    assert len(rig.ledger.tries(b"moody")) == 3 * len(moody), "no storm: each backoff was waited for"
    if offset.startswith("+"):
        rig.ledger.await_done([b"later"])
    else:
        assert b"later" not in rig.ledger.done()
    briefly = time.monotonic()
    cast_all(agent.socket, b"brief", [b"nobody works on this either"])
    until(lambda: agent.status()["dead"], agent.status)
    (dead,) = agent.ask("dead")
    assert dead["function"] == "brief" or time.monotonic() - began > LIFETIME_S, "the step expired the other"
    assert time.monotonic() - briefly >= BRIEF_S

    agent.term()
    agent.start()
    assert kept(agent.spool) == [], "the step was remembered as something that a start cannot read"
    assert [one["function"] for one in agent.ask("dead")] == ["brief"] or time.monotonic() - began > LIFETIME_S
    assert agent.term() == 0
