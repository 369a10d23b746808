"""A cast, from the caller's submission to its execution: what is answered, in which order, and what workers get."""

import time

import pytest

from tests.rig import packets
from tests.rig.callers import cast_all, id_of
from tests.rig.packets import request, submission
from tests.rig.rig import Rig
from tests.rig.wait import until

PAYLOADS = {
    "text": b"a line of text",
    "empty": b"",
    "nuls": b"\0one\0\0two\0",
    "every-byte": bytes(range(256)) * 3,
    "1-MiB": bytes(range(256)) * 4096,
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_a_cast_is_executed_with_its_payload(rig: Rig, server_kind: str, payload: bytes) -> None:
    """What the worker gets is byte for byte what the caller handed over, under the caller's function, once."""
    rig.serve(server_kind)
    rig.work(b"plain", b"other")
    agent = rig.agent()
    record = cast_all(agent.socket, b"plain", [payload])
    assert record.acknowledged == [payload]
    rig.ledger.await_done([payload])
    agent.await_empty()
    assert [(e.function, e.payload) for e in rig.ledger.tries()] == [(b"plain", payload)]


@pytest.mark.parametrize("priority", ["high", "normal", "low"])
def test_each_priority_is_executed_and_shown(rig: Rig, server_kind: str, priority: str) -> None:
    """A cast of each priority is stored with it and executed."""
    rig.serve(server_kind)
    agent = rig.agent()
    cast_all(agent.socket, b"plain", [b"x"], priority=priority)
    (cast,) = agent.backlog()
    assert cast["priority"] == priority
    rig.work(b"plain")
    rig.ledger.await_done([b"x"])


def test_pipelined_casts_are_executed_exactly_once_when_nothing_fails(rig: Rig, server_kind: str) -> None:
    """500 casts in one breath: each acknowledged, each executed once, nothing left, nothing counted as trouble."""
    rig.serve(server_kind)
    rig.work(b"plain", each=2)
    agent = rig.agent()
    payloads = [b"plain-%d" % n for n in range(500)]
    record = cast_all(agent.socket, b"plain", payloads, window=500)
    assert record.acknowledged == payloads
    rig.ledger.await_done(payloads)
    agent.await_empty()
    assert sorted(rig.ledger.done()) == sorted(payloads)
    status = agent.status()
    assert (status["accepted"], status["completed"], status["failures"], status["dead"]) == (500, 500, 0, 0)


def test_the_accounting_holds_at_every_look(rig: Rig) -> None:
    """accepted is the sum of what became of the casts, also while they come and go."""
    rig.serve("gearmand")
    rig.work(b"plain")
    agent = rig.agent()
    payloads = [b"plain-%d" % n for n in range(10_000)]
    casting = rig.cast_in_background(agent, b"plain", payloads)
    looks = 0
    while casting.is_alive() or not looks:
        agent.status()  # asserts it
        looks += 1
    assert casting.finish().acknowledged == payloads
    agent.await_empty()
    assert agent.status()["completed"] == len(payloads)


def test_casts_are_accepted_while_no_server_is_there(rig: Rig, server_kind: str) -> None:
    """With its only server gone relay acknowledges all the same, and forwards when the server comes."""
    (server,) = rig.serve(server_kind)
    server.kill()
    agent = rig.agent()
    payloads = [b"early-%d" % n for n in range(100)]
    assert cast_all(agent.socket, b"plain", payloads).acknowledged == payloads
    status = agent.status()
    assert status["ready"] + status["deferred"] + status["in_flight"] == 100
    server.restart()
    rig.work(b"plain")
    rig.ledger.await_done(payloads)
    agent.await_empty()


def test_handles_name_the_cast_and_their_ids_grow(rig: Rig) -> None:
    """JOB_CREATED comes in the order of submission, as H:<host>:<id> with growing ids, which the backlog shows too."""
    rig.serve("gearmand")
    agent = rig.agent()
    payloads = [b"%d" % n for n in range(300)]
    record = cast_all(agent.socket, b"nobody", payloads, window=300)
    ids = [id_of(handle) for handle in record.handles]
    assert len(ids) == 300
    assert ids == sorted(set(ids))
    assert [cast["id"] for cast in agent.backlog()] == ids


def test_ids_go_on_growing_after_a_restart_of_an_empty_spool(rig: Rig) -> None:
    """An id never comes back, also when the spool was empty when the agent ended."""
    rig.serve("gearmand")
    rig.work(b"plain")
    agent = rig.agent()
    before = cast_all(agent.socket, b"plain", [b"a", b"b"])
    agent.await_empty()
    assert agent.term() == 0
    agent.restart()
    after = cast_all(agent.socket, b"plain", [b"c"])
    assert id_of(after.handles[0]) > max(id_of(handle) for handle in before.handles)


def test_answers_come_in_the_order_of_the_requests(rig: Rig) -> None:
    """ECHO_RES waits for the submissions before it: in one write of casts, echoes and refusals nothing overtakes."""
    rig.serve("gearmand")
    agent = rig.agent()
    asked, expected = [], []
    for number in range(60):
        asked.append(submission(b"nobody", b"%d" % number))
        expected.append(packets.JOB_CREATED)
        if number % 2:
            asked.append(request(packets.ECHO_REQ, b"echo-%d" % number))
            expected.append(packets.ECHO_RES)
        if number % 7 == 0:
            asked.append(request(packets.SUBMIT_JOB, b"nobody", b"", b"foreground"))
            expected.append(packets.ERROR)
    with agent.connect() as caller:
        caller.send(b"".join(asked))
        answers = [caller.read() for _ in asked]
    assert [answer.type for answer in answers] == expected
    echoes = [answer.body for answer in answers if answer.type == packets.ECHO_RES]
    assert echoes == [b"echo-%d" % number for number in range(60) if number % 2]


REFUSED = {
    "foreground": (request(packets.SUBMIT_JOB, b"plain", b"", b"never"), b"foreground_not_supported"),
    "empty-function": (submission(b"", b"never"), b"bad_function"),
    "newline-in-function": (submission(b"a\nb", b"never"), b"bad_function"),
    "space-in-function": (submission(b"a b", b"never"), b"bad_function"),
    "function-of-513-bytes": (submission(b"f" * 513, b"never"), b"bad_function"),
    "unique-of-65-bytes": (submission(b"plain", b"never", b"u" * 65), b"unique_too_large"),
    "unknown-option": (request(packets.OPTION_REQ, b"teleport"), b"unknown_option"),
    "payload-too-large": (submission(b"plain", b"never" * 20_000), b"payload_too_large"),
}


@pytest.mark.parametrize(("asked", "code"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_has_its_code_and_leaves_the_connection_usable(rig: Rig, asked: bytes, code: bytes) -> None:
    """What is refused gets ERROR with its code and a sentence, is never executed, and the next cast is accepted."""
    rig.serve("gearmand")
    rig.work(b"plain")
    agent = rig.agent({"intake": {"max_payload": 65_536}})
    with agent.connect() as caller:
        answer = caller.ask(asked)
        assert answer.type == packets.ERROR
        named, sentence = answer.arguments(2)
        assert named == code
        assert sentence
        assert caller.ask(submission(b"plain", b"after")).type == packets.JOB_CREATED
    rig.ledger.await_done([b"after"])
    agent.await_empty()
    assert [e.payload for e in rig.ledger.tries()] == [b"after"]
    assert agent.status()["accepted"] == 1


LIMITS = {
    "function-of-512-bytes": (b"f" * 512, b"x", b""),
    "unique-of-64-bytes": (b"plain", b"x", b"u" * 64),
    "payload-at-the-limit": (b"plain", b"x" * 65_536, b""),
}


@pytest.mark.parametrize(("function", "payload", "unique"), LIMITS.values(), ids=LIMITS)
def test_what_is_just_within_a_limit_is_executed(
    rig: Rig, server_kind: str, function: bytes, payload: bytes, unique: bytes
) -> None:
    """The largest function, unique and payload that are accepted also reach a worker, whole."""
    rig.serve(server_kind)
    rig.work(function)
    agent = rig.agent({"intake": {"max_payload": 65_536}})
    record = cast_all(agent.socket, function, [payload], uniques=[unique])
    assert record.acknowledged == [payload]
    rig.ledger.await_done([payload])


CLOSED = {
    "magic": b"\0XYZ" + request(packets.ECHO_REQ, b"x")[4:],
    "length": b"\0REQ" + (packets.SUBMIT_JOB_BG).to_bytes(4, "big") + (2**32 - 1).to_bytes(4, "big"),
    "arguments": request(packets.SUBMIT_JOB_BG, b"only-a-function"),
    "endless-line": b"status" * 1000,
}


@pytest.mark.parametrize("sent", CLOSED.values(), ids=CLOSED)
def test_what_is_no_packet_ends_the_connection_and_no_other(rig: Rig, sent: bytes) -> None:
    """ERROR bad_packet, then the connection is closed; a caller beside it does not notice."""
    rig.serve("gearmand")
    agent = rig.agent()
    with agent.connect() as neighbour, agent.connect() as caller:
        answer = caller.ask(sent)
        assert (answer.type, answer.arguments(2)[0]) == (packets.ERROR, b"bad_packet")
        assert caller.closed_by_peer()
        assert neighbour.ask(submission(b"nobody", b"x")).type == packets.JOB_CREATED


def test_a_submission_may_come_byte_by_byte(rig: Rig) -> None:
    """How the bytes are cut on their way changes nothing."""
    rig.serve("gearmand")
    rig.work(b"plain")
    agent = rig.agent()
    with agent.connect() as caller:
        for byte in submission(b"plain", b"slow\0ly"):
            caller.send(bytes([byte]))
        assert caller.read().type == packets.JOB_CREATED
    rig.ledger.await_done([b"slow\0ly"])


def test_a_caller_that_leaves_without_its_answers_disturbs_nobody(rig: Rig) -> None:
    """100 callers that submit and hang up at once: the agent goes on, and serves the next."""
    rig.serve("gearmand")
    rig.work(b"plain")
    agent = rig.agent()
    for number in range(100):
        with agent.connect() as caller:
            caller.send(submission(b"plain", b"rude-%d" % number) * 3)
    record = cast_all(agent.socket, b"plain", [b"polite"])
    assert record.acknowledged == [b"polite"]
    rig.ledger.await_done([b"polite"])
    until(agent.accepts, "the agent still accepts")


def test_an_epoch_cast_waits_for_its_moment(rig: Rig, server_kind: str) -> None:
    """SUBMIT_JOB_EPOCH: acknowledged at once, not executed before its second, then executed; a past one at once."""
    rig.serve(server_kind)
    rig.work(b"plain")
    agent = rig.agent()
    moment = int(time.time()) + 4
    with agent.connect() as caller:
        for when, payload in ((moment, b"later"), (1_000_000_000, b"past")):
            answer = caller.ask(request(packets.SUBMIT_JOB_EPOCH, b"plain", b"", b"%d" % when, payload))
            assert answer.type == packets.JOB_CREATED
    rig.ledger.await_done([b"past", b"later"])
    (execution,) = [e for e in rig.ledger.tries() if e.payload == b"later"]
    assert execution.at >= moment


def test_get_status_knows_a_cast_until_it_is_done(rig: Rig) -> None:
    """GET_STATUS with the handle says known while the cast is in the spool, and no more once it is retired."""
    rig.serve("gearmand")
    agent = rig.agent()
    with agent.connect() as caller:
        handle = caller.ask(submission(b"plain", b"x")).body
        answer = caller.ask(request(packets.GET_STATUS, handle))
        assert answer.type == packets.STATUS_RES
        assert answer.arguments(5)[:2] == [handle, b"1"]
        rig.work(b"plain")
        agent.await_empty()
        assert caller.ask(request(packets.GET_STATUS, handle)).arguments(5)[:2] == [handle, b"0"]


@pytest.mark.parametrize(
    "number", [b"9" * 19, b"1" * 20, b"9" * 5_000], ids=["over-63-bits", "20-digits", "5000-digits"]
)
def test_a_handle_of_no_cast_that_can_be_is_not_known(rig: Rig, number: bytes) -> None:
    """GET_STATUS with an id greater than any spool holds is answered like any other, and the next caller is served."""
    rig.serve("gearmand")
    agent = rig.agent()
    with agent.connect() as caller:
        prefix = caller.ask(submission(b"nobody", b"x")).body.rpartition(b":")[0]
        handle = prefix + b":" + number
        assert caller.ask(request(packets.GET_STATUS, handle)).arguments(5)[:3] == [handle, b"0", b"0"]
    with agent.connect() as other:
        assert other.ask(submission(b"nobody", b"x")).type == packets.JOB_CREATED


def test_the_text_status_names_functions_with_what_waits(rig: Rig) -> None:
    """`status` on the intake lists a function with its casts not done, and ends with a dot."""
    rig.serve("gearmand")
    agent = rig.agent()
    cast_all(agent.socket, b"nobody", [b"a", b"b", b"c"])
    with agent.connect() as caller:
        caller.send(b"status\n")
        rows = {line.split("\t")[0]: line.split("\t")[1:] for line in caller.read_text()}
    assert rows["nobody"][0] == "3"
