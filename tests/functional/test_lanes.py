"""Functions are lanes, and no lane delays another: neither one that nobody works on, nor one that is slow or fails."""

from tests.rig.callers import cast_all
from tests.rig.packets import Stream
from tests.rig.rig import Rig
from tests.rig.servers import HOST
from tests.rig.wait import until
from tests.rig.workers import always_fail

STANDING = [b"standing-%d" % n for n in range(5)]
EACH = 1000


def test_lanes_without_workers_delay_no_other_and_move_when_workers_come(rig: Rig, server_kind: str) -> None:
    """Five functions stand still with 1,000 casts each; a sixth is executed beside them; then all five are, too."""
    rig.serve(server_kind)
    rig.work(b"moving")
    agent = rig.agent()
    standing = {f: [b"%s/%d" % (f, n) for n in range(EACH)] for f in STANDING}
    for function, payloads in standing.items():
        assert cast_all(agent.socket, function, payloads).acknowledged == payloads
    moving = [b"moving/%d" % n for n in range(EACH)]
    assert cast_all(agent.socket, b"moving", moving).acknowledged == moving
    rig.ledger.await_done(moving)
    # what a worker has done is retired a moment later
    status = until(lambda: (now := agent.status())["completed"] >= len(moving) and now, agent.status)
    assert status["ready"] + status["deferred"] + status["in_flight"] == len(STANDING) * EACH
    assert set(rig.ledger.done()) == set(moving)

    rig.work(*STANDING)
    rig.ledger.await_done(payload for payloads in standing.values() for payload in payloads)
    agent.await_empty()


def test_lanes_without_workers_hold_no_part_of_a_small_window(rig: Rig) -> None:
    """Forty functions that nobody works on, before a window of twenty casts: another one has all of it to itself."""
    rig.serve("gearmand")
    rig.work(b"moving")
    agent = rig.agent({"forwarder": {"window": 20}})
    for number in range(40):
        assert not cast_all(agent.socket, b"standing-%d" % number, [b"%d" % n for n in range(5)]).refused
    moving = [b"moving/%d" % n for n in range(200)]
    assert cast_all(agent.socket, b"moving", moving).acknowledged == moving
    rig.ledger.await_done(moving)


def test_a_lane_that_always_fails_delays_no_other(rig: Rig, server_kind: str) -> None:
    """Beside a function whose worker fails every job, and with its casts first in line, another is all executed."""
    rig.serve(server_kind)
    rig.work(b"failing", act=always_fail)
    rig.work(b"moving")
    agent = rig.agent()
    cast_all(agent.socket, b"failing", [b"failing/%d" % n for n in range(EACH)])
    moving = [b"moving/%d" % n for n in range(EACH)]
    cast_all(agent.socket, b"moving", moving)
    rig.ledger.await_done(moving)
    status = until(lambda: (now := agent.status())["completed"] >= len(moving) and now, agent.status)
    assert status["ready"] + status["deferred"] + status["in_flight"] + status["dead"] == EACH


def test_a_lane_whose_worker_holds_its_job_delays_no_other(rig: Rig, server_kind: str) -> None:
    """A worker that has kept its job since before the others came keeps only its own function waiting."""
    rig.serve(server_kind)
    (slow,) = rig.work(b"held")
    slow.hold()
    rig.work(b"moving")
    agent = rig.agent()
    held = [b"held/%d" % n for n in range(EACH)]
    cast_all(agent.socket, b"held", held)
    moving = [b"moving/%d" % n for n in range(EACH)]
    cast_all(agent.socket, b"moving", moving)
    rig.ledger.await_done(moving)
    assert rig.ledger.done(b"held") == []
    slow.let_go()
    rig.ledger.await_done(held)
    agent.await_empty()


def test_a_function_whose_queue_is_full_waits_there_and_delays_no_other(rig: Rig) -> None:
    """gearmand with a limit for one function: what it refuses counts as no failure, and is executed in the end."""
    (server,) = rig.serve("gearmand")
    (slow,) = rig.work(b"full")
    slow.hold()
    rig.work(b"moving")
    # gearmand takes a limit for a function that it does not know, and forgets it
    until(lambda: "full" in server.functions(), "the function is there")
    with Stream((HOST, server.port)) as stream:
        stream.send(b"maxqueue full 3\n")
        until(lambda: stream.socket.recv(100), "the limit is set")
    agent = rig.agent({"forwarder": {"backoff_initial": 0.05, "backoff_max": 0.2}})
    full = [b"full/%d" % n for n in range(50)]
    cast_all(agent.socket, b"full", full)
    until(lambda: "came to queue_full" in agent.log, agent.log_tail)
    moving = [b"moving/%d" % n for n in range(EACH)]
    cast_all(agent.socket, b"moving", moving)
    rig.ledger.await_done(moving)
    assert rig.ledger.done(b"full") == []
    slow.let_go()
    rig.ledger.await_done(full)
    agent.await_empty()
    status = agent.status()
    assert (status["completed"], status["failures"], status["dead"]) == (len(full) + len(moving), 0, 0)


def test_one_worker_of_a_function_gets_casts_in_the_order_of_their_ids(rig: Rig, server_kind: str) -> None:
    """On one link, with one worker and no failure, casts of a function and priority come in the order accepted."""
    rig.serve(server_kind)
    rig.work(b"plain")
    agent = rig.agent()
    payloads = [b"%d" % n for n in range(2000)]
    assert cast_all(agent.socket, b"plain", payloads).acknowledged == payloads
    rig.ledger.await_done(payloads)
    assert rig.ledger.done() == payloads
