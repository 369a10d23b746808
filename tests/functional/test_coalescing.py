"""A caller's unique: while a cast with it lives, an equal one of the same function is the same cast."""

import http.client
import json
import os
import signal
import socket
from typing import Any

import pytest

from tests.rig import packets
from tests.rig.agent import Agent
from tests.rig.callers import cast_all, id_of
from tests.rig.packets import request, submission
from tests.rig.rig import Rig
from tests.rig.wait import until
from tests.rig.workers import always_fail


def test_an_equal_unique_of_a_living_cast_is_the_same_cast(rig: Rig, unique_server_kind: str) -> None:
    """Same function and unique: the first one's handle, the first payload is executed, once, and the rest counted."""
    rig.serve(unique_server_kind)
    agent = rig.agent()
    record = cast_all(agent.socket, b"plain", [b"first", b"second", b"third"], uniques=[b"same"] * 3)
    assert len(record.handles) == 3
    assert len(set(record.handles)) == 1
    status = agent.status()
    assert (status["accepted"], status["coalesced"]) == (1, 2)
    rig.work(b"plain")
    rig.ledger.await_done([b"first"])
    agent.await_empty()
    assert [e.payload for e in rig.ledger.tries()] == [b"first"]


def test_equal_uniques_in_one_write_and_on_several_connections(rig: Rig) -> None:
    """Coalescing does not depend on whether the first is on disk yet, nor on who asks."""
    rig.serve("gearmand")
    agent = rig.agent()
    with agent.connect() as one, agent.connect() as other:
        one.send(submission(b"nobody", b"a", b"same") * 50)
        other.send(submission(b"nobody", b"b", b"same") * 50)
        answers = [caller.read() for caller in (one, other) for _ in range(50)]
    assert {answer.type for answer in answers} == {packets.JOB_CREATED}
    assert len({answer.body for answer in answers}) == 1
    assert len(agent.backlog()) == 1


def test_uniques_belong_to_their_function_and_empty_ones_to_nobody(rig: Rig) -> None:
    """An equal unique of another function, and the empty unique, make casts of their own."""
    rig.serve("gearmand")
    agent = rig.agent()
    first = cast_all(agent.socket, b"nobody", [b"x"], uniques=[b"same"])
    other = cast_all(agent.socket, b"nobody2", [b"x"], uniques=[b"same"])
    empty = cast_all(agent.socket, b"nobody", [b"x", b"x"])
    assert len({*first.handles, *other.handles, *empty.handles}) == 4


def test_a_dash_stands_for_the_payload(rig: Rig) -> None:
    """With the unique `-` equal payloads are one cast, and different ones are two."""
    rig.serve("gearmand")
    agent = rig.agent()
    record = cast_all(agent.socket, b"nobody", [b"x", b"y", b"x"], uniques=[b"-"] * 3)
    first, second, third = record.handles
    assert first == third != second


def test_after_its_verdict_an_equal_unique_is_a_new_cast(rig: Rig, unique_server_kind: str) -> None:
    """Once the first is done, its unique is free: a new handle with a higher id, and its payload is executed."""
    rig.serve(unique_server_kind)
    rig.work(b"plain")
    agent = rig.agent()
    before = cast_all(agent.socket, b"plain", [b"first"], uniques=[b"same"])
    rig.ledger.await_done([b"first"])
    agent.await_empty()
    after = cast_all(agent.socket, b"plain", [b"second"], uniques=[b"same"])
    assert id_of(after.handles[0]) > id_of(before.handles[0])
    rig.ledger.await_done([b"second"])
    agent.await_empty()
    assert agent.status()["completed"] == 2


def test_a_cast_in_flight_still_lives(rig: Rig, unique_server_kind: str) -> None:
    """While a worker has the job, an equal unique joins it: its payload is not executed."""
    rig.serve(unique_server_kind)
    (worker,) = rig.work(b"plain")
    worker.hold()
    agent = rig.agent()
    first = cast_all(agent.socket, b"plain", [b"first"], uniques=[b"same"])
    until(worker.holding.is_set, "the worker has the job")
    second = cast_all(agent.socket, b"plain", [b"second"], uniques=[b"same"])
    assert second.handles == first.handles
    worker.let_go()
    agent.await_empty()
    assert rig.ledger.done() == [b"first"]


def test_beside_a_dead_cast_an_equal_unique_is_a_new_cast(rig: Rig) -> None:
    """A dead cast does not swallow the next one of its unique."""
    rig.serve("gearmand")
    rig.work(b"bad", act=always_fail)
    agent = rig.agent({"forwarder": {"max_attempts": 1}})
    first = cast_all(agent.socket, b"bad", [b"x"], uniques=[b"same"])
    until(lambda: agent.status()["dead"] == 1, agent.status)
    second = cast_all(agent.socket, b"bad", [b"x"], uniques=[b"same"])
    assert second.handles != first.handles
    until(lambda: agent.status()["dead"] == 2, agent.status)


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "killed"])
def test_a_living_cast_keeps_its_unique_over_a_restart(rig: Rig, crash: bool) -> None:
    """The unique is on disk with the cast."""
    rig.serve("gearmand")
    agent = rig.agent()
    first = cast_all(agent.socket, b"nobody", [b"x"], uniques=[b"same"])
    if crash:
        agent.kill()
    else:
        assert agent.term() == 0
    agent.restart()
    second = cast_all(agent.socket, b"nobody", [b"y"], uniques=[b"same"])
    assert second.handles == first.handles


def test_a_draining_agent_still_answers_for_a_living_cast(rig: Rig) -> None:
    """Draining refuses new casts, and gives an equal unique of a living one its handle all the same."""
    rig.serve("gearmand")
    agent = rig.agent()
    first = cast_all(agent.socket, b"nobody", [b"x"], uniques=[b"same"])
    agent.cli("drain", "--no-wait")
    until(lambda: agent.status()["draining"], agent.status)
    assert [r.code for r in cast_all(agent.socket, b"nobody", [b"new"]).refused] == ["draining"]
    assert cast_all(agent.socket, b"nobody", [b"x"], uniques=[b"same"]).handles == first.handles


# -- twins that an operator or the workers changed -------------------------------------------------------------------


def change(agent: Agent, verb: str, handle: bytes) -> dict[str, Any]:
    """Change one cast over the control socket; what came of it."""
    connection = http.client.HTTPConnection("relay", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(agent.control)
    try:
        connection.request("POST", f"/v1/{verb}", json.dumps({"casts": [handle.decode()]}))
        answer = connection.getresponse()
        lines = answer.read().splitlines()
        assert answer.status == 200, lines
        last: dict[str, Any] = json.loads(lines[-1])
        assert last["done"], last
        return last
    finally:
        connection.close()


def cast_one(agent: Agent, payload: bytes, unique: bytes = b"same") -> bytes:
    """Cast it, and its handle."""
    (handle,) = cast_all(agent.socket, b"plain", [payload], uniques=[unique]).handles
    return handle


def test_a_held_cast_still_lives(rig: Rig) -> None:
    """An equal unique gets the held one's handle, is not stored, and the held one's payload is executed on release."""
    (server,) = rig.serve("gearmand")
    server.kill()  # or it would be in flight, which is skipped
    agent = rig.agent()
    held = cast_one(agent, b"held")
    assert change(agent, "hold", held)["changed"] == 1
    assert cast_one(agent, b"joins it") == held
    status = agent.status()
    assert (status["accepted"], status["held"], status["coalesced"]) == (1, 1, 1)
    server.restart()
    rig.work(b"plain")
    assert change(agent, "release", held)["changed"] == 1
    rig.ledger.await_done([b"held"])
    agent.await_empty()
    assert rig.ledger.done() == [b"held"]


def test_a_revive_beside_a_living_twin_is_skipped(rig: Rig) -> None:
    """Bury a cast and cast its twin: a new one. Reviving the first is skipped and counted while the twin lives, over a
    crash too; once the twin is done it is revived and executed."""
    (server,) = rig.serve("gearmand")
    server.kill()  # or they would be in flight, which is skipped
    agent = rig.agent()
    buried = cast_one(agent, b"buried")
    assert change(agent, "bury", buried)["changed"] == 1
    twin = cast_one(agent, b"twin")
    assert twin != buried
    assert cast_one(agent, b"joins the twin") == twin
    for crash in (False, True):
        if crash:
            agent.kill()
            agent.restart()
        revived = change(agent, "revive", buried)
        assert (revived["changed"], revived["skipped"]) == (0, 1), revived
        assert revived["twins"] == 1, revived
    status = agent.status()
    assert (status["accepted"], status["dead"]) == (2, 1)
    server.restart()
    rig.work(b"plain")
    agent.await_empty()
    assert change(agent, "revive", buried)["changed"] == 1
    agent.await_empty()
    assert rig.ledger.done() == [b"twin", b"buried"]


#: the writer stands still before its next batch while there is this file
GATE = """
import os, time
from relay.spool.committer import Committer

commit = Committer._commit

def gated(self, batch):
    while os.path.exists("{closed}"):
        open("{closed}.seen", "w").close()
        time.sleep(0.01)
    commit(self, batch)

Committer._commit = gated
"""


def test_a_twin_in_the_batch_that_retires_the_first_is_a_new_cast(rig: Rig, server_kind: str) -> None:
    """The verdict of the first and its twin come while the writer is at the disk, and go into one COMMIT: verdicts go
    first, so the twin is not swallowed by a cast that is done, but stored and executed."""
    rig.serve(server_kind)
    (worker,) = rig.work(b"plain")
    worker.hold()
    closed = rig.directory / "closed"
    agent = rig.agent(prelude=GATE.format(closed=closed))
    first = cast_one(agent, b"first")
    until(worker.holding.is_set, "the worker has the job")
    with agent.connect() as asking, agent.connect() as caller, agent.connect() as other:

        def unfinished() -> str:
            asking.send(b"status\n")
            return next(line for line in asking.read_text() if line.startswith("plain\t")).split("\t")[2]

        assert unfinished() == "1"
        closed.touch()
        # this one is the batch that the writer stands still at
        other.send(submission(b"nobody", b"x"))
        until(closed.with_name("closed.seen").exists, "the writer stands still")
        worker.let_go()
        rig.ledger.await_done([b"first"])
        until(lambda: unfinished() == "0", "the verdict has come")
        caller.send(submission(b"plain", b"second", b"same") + submission(b"plain", b"third", b"same"))
        assert asking.ask(request(packets.ECHO_REQ, b"x")).type == packets.ECHO_RES
        closed.unlink()
        second, third = caller.read(), caller.read()
        assert other.read().type == packets.JOB_CREATED
    assert second.type == packets.JOB_CREATED
    assert second.body == third.body
    assert id_of(second.body) > id_of(first)
    rig.ledger.await_done([b"first", b"second"])
    until(lambda: agent.status()["completed"] == 2, agent.status)
    assert rig.ledger.done() == [b"first", b"second"]


def test_twins_in_two_batches_and_a_crash_between_are_one_cast(rig: Rig) -> None:
    """The first is on disk and its answer lost with the agent, in the middle of others': the repeat finds it."""
    rig.serve("gearmand")
    agent = rig.agent()
    key = os.urandom(16).hex().encode()
    with agent.connect() as caller:
        caller.send(submission(b"plain", b"first", key))
        until(agent.backlog, "the cast is on disk")
        agent.signal(signal.SIGKILL)
        agent.wait()
    agent.restart()
    repeat = cast_one(agent, b"second", key)
    assert [cast["id"] for cast in agent.backlog()] == [id_of(repeat)]
    rig.work(b"plain")
    agent.await_empty()
    (execution,) = rig.ledger.tries()
    assert (execution.payload, execution.key) == (b"first", key)
