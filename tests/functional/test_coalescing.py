"""A caller's unique: while a cast with it lives, an equal one of the same function is the same cast."""

import pytest

from tests.rig import packets
from tests.rig.callers import cast_all, id_of
from tests.rig.packets import submission
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
