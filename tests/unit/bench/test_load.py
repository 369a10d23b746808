"""bench.load: what a caller sends is whole requests, however often it goes through its buffer and whenever it ends."""

import socket

import pytest

from bench.load import Caller, build, built
from bench.paced import due
from bench.wire import JOB_CREATED, REQUESTS, Answers

RELAY = REQUESTS["relay"]
ANSWER = JOB_CREATED + b"\0\0\0\x05H:a:1"


def caller(sock: socket.socket, made: int, window: int, total: int, payload: int = 100) -> Caller:
    data, size = build(RELAY, made, made, payload)
    sock.setblocking(False)
    return Caller(sock, RELAY, memoryview(data), size, window, total)


@pytest.mark.parametrize(("made", "window", "total"), [(3, 2, 10), (3, 3, 7), (5, 1, 5), (4, 4, 4)])
def test_a_buffer_is_gone_through_again_and_again(made: int, window: int, total: int) -> None:
    """Exactly so many requests arrive, whole, with never more unanswered than the window."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    with ours, theirs:
        one, seen, got = caller(ours, made, window, total), Answers(b"\0REQ"), b""
        while not one.done:
            while one.push():
                pass
            answered = seen.count
            got += (data := theirs.recv(1 << 20))
            seen.feed(data)
            assert 0 < seen.count - answered <= window
            theirs.sendall(ANSWER * (seen.count - answered))
            one.pull()
        assert one.answers.count == total
        data, size = build(RELAY, made, made, 100)
        assert got == (data * total)[: total * size]
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        assert one.waits


def test_what_was_begun_at_the_end_is_sent_whole() -> None:
    """After `end` no other request is begun, and one that the kernel took in part is finished."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    with ours, theirs:
        one = caller(ours, 100, 10_000, 10_000, payload=10_000)
        before = -1
        while one._sent != before:  # until the kernel takes no more
            before = one._sent
            one.push()
        data, size = build(RELAY, 100, 100, 10_000)
        one.end()
        begun, got = -(-before // size), b""
        assert 0 < begun < 10_000
        assert before % size, "the kernel took the last one whole: nothing is shown"
        while len(got) < begun * size:
            got += theirs.recv(1 << 20)
            one.push()
        assert got == (data * 100)[: begun * size]
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


def test_requests_with_uniques_are_never_sent_twice() -> None:
    """As many are built as a caller sends; without a unique, at least a window of them."""
    assert built(REQUESTS["relay-uuid7"], 300_000, 1000, 1, 100) == 300_000
    assert built(RELAY, 300_000, 1000, 1, 100) == 50_000
    assert built(RELAY, 300_000, 1000, 256, 100) == 1000
    assert built(RELAY, 7, 1000, 1, 100) == 7


def test_a_rhythm_begins_at_once_and_owes_what_it_missed() -> None:
    """At 50 a second: the first at 0, the next 20 ms later; after a second of silence all of it."""
    assert [due(seconds, 50) for seconds in (0, 0.0199, 0.0201, 0.0401, 1.001)] == [1, 1, 2, 3, 51]
