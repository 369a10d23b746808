"""Callers that are many, slow, rude or gone: another caller's casts are as quick as before, and memory is bounded."""

import contextlib
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import packets
from tests.rig.agent import Agent
from tests.rig.callers import cast_all
from tests.rig.packets import Stream, request, submission
from tests.rig.quickness import assert_as_quick
from tests.rig.rig import Rig
from tests.rig.wait import until

MIB = 2**20
MEMORY = 128 * MIB
"""What the agent's memory stays under."""
DESCRIPTORS = 4_000
PACKET_S = 30.0
"""When the agent gives up on half a packet: how long a crowd can stay."""
SETTLED_S = 0.5
"""When nobody has taken a byte for so long, nobody will for now."""
CAST = submission(b"nobody", b"")


@pytest.fixture(autouse=True)
def _descriptors() -> Iterator[None]:
    """Room for the connections of a crowd, here and in the agent, which inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        pytest.skip("the hard limit of open files is under 4,000")
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory(agent: Agent) -> int:
    """The most memory that the agent has had resident since it was started, in bytes."""
    assert agent.process
    (line,) = [
        line for line in Path(f"/proc/{agent.process.pid}/status").read_text().splitlines() if line.startswith("VmHWM:")
    ]
    return int(line.split()[1]) * 1024


@contextlib.contextmanager
def without_a_crowd(rig: Rig) -> Iterator[Stream]:
    """A caller of another agent, which nobody else calls."""
    with rig.agent().connect() as control:
        yield control


def push(callers: list[Stream], data: bytes) -> list[int]:
    """Have each caller send data, and read nothing, for as long as anybody is read from; what each got rid of.

    A caller that the agent has cut off meanwhile, because others needed the memory, sends no more.
    """
    rest = {caller.socket.fileno(): (caller, memoryview(data)) for caller in callers}
    ended: dict[int, int] = {}
    poll = select.poll()
    for caller in callers:
        caller.socket.setblocking(False)
        poll.register(caller.socket, select.POLLOUT)
    while rest and (ready := poll.poll(SETTLED_S * 1000)):
        for number, _ in ready:
            caller, left = rest[number]
            cut_off = False
            try:
                left = left[caller.socket.send(left[: 64 * 1024]) :]
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                cut_off = True
            rest[number] = (caller, left)
            if cut_off or not left:
                poll.unregister(number)
                ended[number] = len(left)
                del rest[number]
    unsent = ended | {number: len(left) for number, (_, left) in rest.items()}
    sent = [len(data) - unsent[caller.socket.fileno()] for caller in callers]
    for caller in callers:
        caller.socket.settimeout(30)
    return sent


def still_there(callers: list[Stream]) -> bool:
    """Whether none of them has been told anything, or closed."""
    poll = select.poll()
    for caller in callers:
        poll.register(caller.socket, select.POLLIN | select.POLLHUP)
    return not poll.poll(0)


#: how many send what, and whether they form a line for the room of large packets
CROWDS = {
    "1000-of-a-byte": (1_000, b"\0", False),
    "1000-of-a-header": (1_000, submission(b"nobody", b"x" * 100)[:11], False),
    "1000-of-63-KiB": (1_000, submission(b"nobody", b"x" * 64 * 1024)[: 63 * 1024], False),
    "100-of-8-MiB": (100, submission(b"nobody", b"x" * 16 * MIB)[: 8 * MIB], True),
    "100-skipped": (100, submission(b"nobody", b"x" * 60 * MIB)[: 8 * MIB], False),
}


@pytest.mark.parametrize(("count", "half", "lines_up"), CROWDS.values(), ids=CROWDS)
def test_a_crowd_with_half_a_packet_each(rig: Rig, count: int, half: bytes, lines_up: bool) -> None:
    """Many callers send a part of a packet and stay: another one's casts are answered about as quickly as before.

    Its p99 is at most three times that of a caller without a crowd, and the agent's memory stays under 128 MiB.
    """
    rig.serve("gearmand")
    agent = rig.agent({"intake": {"max_connections": 2_000}})
    with agent.connect() as neighbour, without_a_crowd(rig) as control, contextlib.ExitStack() as crowd:
        callers = [crowd.enter_context(agent.connect()) for _ in range(count)]
        came = time.monotonic()
        assert all(push(callers, half))
        assert_as_quick(neighbour, control)
        # those who hold up a line for room give way, two by two
        assert lines_up or still_there(callers) or time.monotonic() - came > PACKET_S, "the crowd was sent away"
        assert memory(agent) < MEMORY
    record = cast_all(agent.socket, b"nobody", [b"after"])
    assert record.acknowledged == [b"after"]


def test_large_packets_pass_by_those_that_stand_still(rig: Rig) -> None:
    """20 callers send half of a large packet, and then a byte now and then: a large cast of another's passes by.

    It need not wait until each of them has had its time (PACKET_S, two at once): whoever hardly moves while another one
    waits is told too_slow. A packet that stands still where nobody waits for its room is completed in the end.
    The program looks each 0.1 s for those who stand still in place of each second, so that it takes less time.
    """
    rig.serve("gearmand")
    agent = rig.agent(prelude="from relay.intake import connection, door; connection.LOOK_S = door.LOOK_S = 0.1")
    large = submission(b"nobody", b"x" * 16 * MIB)
    with agent.connect() as alone:
        alone.send(large[:-1])
        threading.Event().wait(1)
        assert still_there([alone]), "nobody waits for its room"
        alone.send(large[-1:])
        assert alone.read().type == packets.JOB_CREATED
    with contextlib.ExitStack() as crowd:
        callers = [crowd.enter_context(agent.connect()) for _ in range(20)]
        push(callers, large[: 8 * MIB])
        trickling = threading.Event()
        thread = threading.Thread(target=trickle, args=(callers, trickling))
        thread.start()
        try:
            with agent.connect() as honest:
                assert honest.ask(large).type == packets.JOB_CREATED
        finally:
            trickling.set()
            thread.join()
        told = [caller.read() for caller in callers if not still_there([caller])]
        assert {(answer.type, answer.arguments(2)[0]) for answer in told} == {(packets.ERROR, b"too_slow")}
    assert agent.status()["accepted"] == 2


def trickle(callers: list[Stream], stop: threading.Event) -> None:
    """Send a byte from each, again and again, where it is taken."""
    for caller in callers:
        caller.socket.setblocking(False)
    while not stop.wait(0.02):
        for caller in callers:
            with contextlib.suppress(OSError):
                caller.socket.send(b"x")
    for caller in callers:
        caller.socket.settimeout(30)


def test_whole_large_packets_of_many(rig: Rig) -> None:
    """10 callers send whole casts of 16 MiB at a time: all are accepted, in the memory of twelve."""
    rig.serve("gearmand")
    agent = rig.agent()
    large = submission(b"nobody", b"x" * 16 * MIB)
    answers: list[int] = []

    def cast_twice() -> None:
        with agent.connect() as caller:
            answers.extend(caller.ask(large).type for _ in range(2))

    callers = [threading.Thread(target=cast_twice) for _ in range(10)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert answers == [packets.JOB_CREATED] * 20
    assert memory(agent) < 192 * MIB


def test_headers_of_4_gib(rig: Rig) -> None:
    """A length that nobody may announce costs no memory: a thousand of them, and another caller casts on."""
    rig.serve("gearmand")
    agent = rig.agent()
    header = b"\0REQ" + (packets.SUBMIT_JOB_BG).to_bytes(4, "big") + b"\xff\xff\xff\xff"
    with agent.connect() as neighbour:
        for _ in range(1_000):
            with agent.connect() as caller:
                assert caller.ask(header).type == packets.ERROR
        assert neighbour.ask(submission(b"nobody", b"x")).type == packets.JOB_CREATED
    assert memory(agent) < MEMORY


# -- callers that do not stay for their answers ----------------------------------------------------------------------


def test_callers_that_die_before_their_answers(rig: Rig) -> None:
    """100 callers hand over 10 casts each and are gone before the agent has read one: all of them are kept.

    The agent is stopped (SIGSTOP) meanwhile, so that nothing can have been answered.
    """
    rig.serve("gearmand")
    agent = rig.agent()
    payloads = [[b"%d-%d" % (caller, cast) for cast in range(10)] for caller in range(100)]
    agent.signal(signal.SIGSTOP)
    for each in payloads:
        with agent.connect() as caller:
            caller.send(b"".join(submission(b"plain", payload) for payload in each))
    agent.signal(signal.SIGCONT)
    until(lambda: agent.status()["accepted"] == 1_000, agent.status)
    rig.work(b"plain")
    agent.await_empty()
    assert sorted(rig.ledger.done()) == sorted(payload for each in payloads for payload in each)


def test_callers_that_die_in_the_middle_of_a_cast(rig: Rig) -> None:
    """What was handed over whole is kept, the half cast behind it is not, and nothing of the dead stays open."""
    rig.serve("gearmand")
    agent = rig.agent({"intake": {"max_connections": 20}})
    whole, half = submission(b"plain", b"whole"), submission(b"plain", b"half" * 100_000)
    for cut in (1, 11, 12, 20, len(half) // 2, len(half) - 1):
        for _ in range(10):
            caller = until(lambda: _let_in(agent), "the connections of the dead are given up")
            caller.send(whole + half[:cut])
            caller.close()
    until(lambda: agent.status()["accepted"] == 60, agent.status)
    rig.work(b"plain")
    agent.await_empty()
    assert rig.ledger.done() == [b"whole"] * 60


def _let_in(agent: Agent) -> Stream | None:
    """A connection that was let in, None if there were too many."""
    caller = agent.connect()
    with contextlib.suppress(ConnectionError):
        if caller.ask(request(packets.ECHO_REQ, b"x")).type == packets.ECHO_RES:
            return caller
    caller.close()
    return None


@pytest.mark.parametrize("casts", [0, 1, 1_000])
def test_a_caller_that_sends_no_more(rig: Rig, casts: int) -> None:
    """A caller that closes its sending side gets all its answers, and then the end."""
    rig.serve("gearmand")
    agent = rig.agent()
    with agent.connect() as caller:
        caller.send(b"".join(submission(b"nobody", b"%d" % number) for number in range(casts)))
        caller.socket.shutdown(socket.SHUT_WR)
        handles = [caller.read() for _ in range(casts)]
        assert [answer.type for answer in handles] == [packets.JOB_CREATED] * casts
        assert caller.closed_by_peer()
    assert agent.status()["accepted"] == casts


def test_a_bad_packet_behind_more_answers_than_a_socket_takes(rig: Rig) -> None:
    """Whoever has much to read when its conversation ends gets all of it, then the end, and the agent goes on.

    Whether the last answers go out at once depends on how much came before them; so there are several sizes.
    """
    rig.serve("gearmand")
    agent = rig.agent()
    rig.tracebacks_expected = True  # they are looked for here
    for size in range(200_000, 500_000, 10_000):
        with agent.connect() as caller:
            asked = request(packets.ECHO_REQ, b"x" * size) + request(packets.ECHO_REQ, b"y")
            caller.socket.sendall(asked + b"\0RES" + bytes(8))
            assert [caller.read().type for _ in range(3)] == [packets.ECHO_RES, packets.ECHO_RES, packets.ERROR]
            assert caller.closed_by_peer()
    agent.cli("status")
    assert "Traceback" not in agent.log
    assert agent.accepts()


def test_a_caller_that_sends_no_more_behind_many_casts(rig: Rig) -> None:
    """10 callers hand over 10,000 casts each and close their sending side: they get all answers, the agent goes on."""
    rig.serve("gearmand")
    agent = rig.agent()
    for _ in range(10):
        with agent.connect() as caller:
            caller.send(b"".join(submission(b"nobody", b"%d" % number) for number in range(10_000)))
            caller.socket.shutdown(socket.SHUT_WR)
            assert {caller.read().type for _ in range(10_000)} == {packets.JOB_CREATED}
            assert caller.closed_by_peer()
    agent.cli("status")
    assert "Traceback" not in agent.log
    assert agent.accepts()


def test_a_caller_that_sends_no_more_in_the_middle_of_a_cast(rig: Rig) -> None:
    """What it sent whole is answered, and then the connection is closed, without waiting for the rest."""
    rig.serve("gearmand")
    agent = rig.agent()
    with agent.connect() as caller:
        caller.send(submission(b"nobody", b"whole") + submission(b"nobody", b"half")[:-1])
        caller.socket.shutdown(socket.SHUT_WR)
        assert caller.read().type == packets.JOB_CREATED
        assert caller.closed_by_peer()
    assert agent.status()["accepted"] == 1


# -- callers that do not read ----------------------------------------------------------------------------------------

DEAF = {
    "casts": (5, CAST * 100_000),
    "large-casts": (20, submission(b"nobody", b"x" * 100_000) * 20),
    "questions": (5, request(packets.GET_STATUS, b"H:elsewhere:1") * 50_000),
    "small-echoes": (20, request(packets.ECHO_REQ, b"x" * 1_000) * 5_000),
    "refusals": (20, request(packets.OPTION_REQ, b"teleport") * 50_000),
}


def deafen(rig: Rig, count: int, data: bytes) -> None:
    """So many callers send and read nothing: another one casts as before, and memory is bounded."""
    rig.serve("gearmand")
    agent = rig.agent()
    with agent.connect() as neighbour, without_a_crowd(rig) as control, contextlib.ExitStack() as deaf:
        push([deaf.enter_context(agent.connect()) for _ in range(count)], data)
        assert_as_quick(neighbour, control)
        assert memory(agent) < MEMORY


@pytest.mark.parametrize(("count", "data"), DEAF.values(), ids=DEAF)
def test_callers_that_read_no_answers(rig: Rig, count: int, data: bytes) -> None:
    """They are not read from any more, another caller's p99 is at most three times as long, memory is bounded."""
    deafen(rig, count, data)


def test_callers_that_send_lines_and_read_nothing(rig: Rig) -> None:
    """The same for reads full of empty lines, each of which has an answer."""
    deafen(rig, 6, b"\n" * MIB)


def test_callers_that_read_no_large_echoes(rig: Rig) -> None:
    """The same for echoes of 16 MiB."""
    deafen(rig, 20, request(packets.ECHO_REQ, b"x" * 16 * MIB))


def test_a_caller_that_reads_late_gets_every_answer(rig: Rig) -> None:
    """Whoever has sent casts until nothing more was taken, and reads only then, gets an answer for each, in order."""
    rig.serve("gearmand")
    agent = rig.agent()
    data = CAST * 100_000
    with agent.connect() as caller:
        (sent,) = push([caller], data)
        assert 0 < sent < len(data), "all of it was taken: nobody was made to wait"
        caller.send(data[sent : sent + -sent % len(CAST)])
        count = -(-sent // len(CAST))
        ids = []
        for _ in range(count):
            answer = caller.read()
            assert answer.type == packets.JOB_CREATED
            ids.append(int(answer.body.rpartition(b":")[2]))
    assert ids == sorted(set(ids))
    assert agent.status()["accepted"] == count
