"""One caller's connection: a real pair of unix sockets, a real spool, and a forwarder that says what is in flight."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from relay.intake import door, kernel, room
from relay.intake.connection import SLICE_BYTES
from relay.intake.door import DEAF_S, PACKET_S
from relay.intake.owed import WRITE_BYTES
from relay.protocol import admin
from relay.protocol.caller import refusal
from relay.protocol.packets import HEADER_SIZE, REQ, RES, Kind, encode
from tests.unit.forwarder.flying import until
from tests.unit.intake.calling import ECHO, ECHOED, GUARD_S, Intake, idle, run, submission


@pytest.mark.parametrize("read", [1, 17, 100_000])
def test_answers_come_in_the_order_of_the_requests(path: Path, read: int) -> None:
    """Casts, echoes, questions and text commands in one stream: each has its answer in its place, and sees what
    came before it."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        first = b"H:vm:%d" % intake.first
        exchange = [
            (submission(unique=b"u"), intake.created(0)),
            (ECHO, ECHOED),
            (submission(b"bad name"), refusal("bad_function")),
            (submission(payload=b"second"), intake.created(1)),
            (
                encode(REQ, Kind.GET_STATUS, first),
                encode(RES, Kind.STATUS_RES, first, b"1", b"0", b"0", b"0"),
            ),
            (
                encode(REQ, Kind.GET_STATUS_UNIQUE, b"u"),
                encode(RES, Kind.STATUS_RES_UNIQUE, b"u", b"1", b"0", b"0", b"0", b"0"),
            ),
            (b"status\n", b"f\t2\t0\t0\n.\n"),
            (b"version\r\n", b"OK 1.2.3\n"),
            (b"nonsense\n", admin.UNKNOWN),
            (submission(unique=b"u"), intake.created(0)),
            (encode(REQ, Kind.SUBMIT_JOB, b"f", b"", b""), refusal("foreground_not_supported")),
            (ECHO, ECHOED),
        ]
        requests = b"".join(request for request, _ in exchange)
        expected = b"".join(answer for _, answer in exchange)
        for at in range(0, len(requests), read):
            await caller.send(requests[at : at + read])
            await asyncio.sleep(0)
        assert await caller.read(len(expected)) == expected
        assert await caller.silent()

    run(path, scenario)


def test_a_cast_in_flight_is_running(path: Path) -> None:
    """GET_STATUS asks the forwarder for a cast that is here."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        intake.forwarder.flying.add(intake.first)
        handle = b"H:vm:%d" % intake.first
        await caller.send(submission() + encode(REQ, Kind.GET_STATUS, handle))
        expected = intake.created(0) + encode(RES, Kind.STATUS_RES, handle, b"1", b"1", b"0", b"0")
        assert await caller.read(len(expected)) == expected

    run(path, scenario)


def test_nothing_is_acknowledged_before_its_commit(path: Path) -> None:
    """With the writer at its COMMIT a caller hears nothing of its cast, and nothing of what it asked behind it."""

    async def scenario(intake: Intake) -> None:
        caller, other = await intake.call(), await intake.call()
        there, go_on = intake.stop_at_commit()
        await caller.send(submission())
        await asyncio.to_thread(there.wait, GUARD_S)
        await caller.send(ECHO)
        await other.send(ECHO)
        assert await other.read(len(ECHOED)) == ECHOED
        assert await caller.silent()
        assert intake.rows("SELECT id FROM casts") == []
        go_on.set()
        assert await caller.read(len(intake.created(0))) == intake.created(0)
        assert intake.rows("SELECT id FROM casts") == [(intake.first,)]
        assert await caller.read(len(ECHOED)) == ECHOED

    run(path, scenario)


@pytest.mark.parametrize("casts", [0, 1, 3000])
def test_a_caller_that_sends_no_more_gets_its_answers(path: Path, casts: int) -> None:
    """After the caller's half of the connection is closed every answer comes, then the end."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        sending = asyncio.create_task(caller.send(submission() * casts + ECHO))
        sending.add_done_callback(lambda _: caller.sock.shutdown(socket.SHUT_WR))
        expected = b"".join(intake.created(number) for number in range(casts)) + ECHOED
        assert await caller.read(len(expected) + 1) == expected

    run(path, scenario)


def test_casts_of_a_caller_that_left_are_kept(path: Path) -> None:
    """What was read from a caller that is gone before its answers is on disk all the same."""

    async def scenario(intake: Intake) -> None:
        caller, other = await intake.call(), await intake.call()
        there, go_on = intake.stop_at_commit()
        await caller.send(submission() * 3)
        await asyncio.to_thread(there.wait, GUARD_S)
        caller.sock.close()
        await idle()
        go_on.set()
        await other.send(submission())
        await other.read(len(intake.created(0)))
        assert intake.rows("SELECT count(*) FROM casts") == [(4,)]
        assert len(intake.door.connections) == 1

    run(path, scenario)


def test_a_caller_that_does_not_read_is_not_read_from(path: Path) -> None:
    """Answers that nobody fetches hold the requests back: what relay takes is bounded, and nothing of it is lost."""
    request = encode(REQ, Kind.ECHO_REQ, bytes(10_000))
    answer = encode(RES, Kind.ECHO_RES, bytes(10_000))

    async def scenario(intake: Intake) -> None:
        deaf, other = await intake.call(), await intake.call()
        taken = await deaf.push(request, 200 * 1024 * 1024)
        assert taken < 20 * 1024 * 1024
        await other.send(ECHO)
        assert await other.read(len(ECHOED)) == ECHOED
        whole = taken // len(request)
        assert await deaf.read(whole * len(answer)) == answer * whole
        # the request that was cut off by the bound goes on as if nothing had been, or there is one more
        await deaf.send(request[taken % len(request) :] + ECHO)
        rest = answer + ECHOED
        assert await deaf.read(len(rest)) == rest

    run(path, scenario)


def test_who_does_not_read_is_cut_off_while_others_wait_for_its_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only then: with memory to spare it may read as late as it likes."""
    monkeypatch.setattr(door, "LOOK_S", 1e6)

    async def scenario(intake: Intake) -> None:
        deaf = await intake.call()
        (connection,) = intake.door.connections
        await deaf.push(encode(REQ, Kind.ECHO_REQ, bytes(100_000)), 100 * 1024 * 1024)
        deaf_at = connection._deaf_at  # type: ignore[attr-defined]
        connection.look(deaf_at + 2 * DEAF_S)
        monkeypatch.setattr(door, "UNANSWERED_BYTES_IN_ALL", 1)
        connection.look(deaf_at + DEAF_S / 2)
        other = await intake.call()
        await other.send(ECHO)
        assert await other.read(len(ECHOED)) == ECHOED
        await other.send(ECHO)
        assert await other.silent()
        assert len(intake.door.connections) == 2
        connection.look(deaf_at + DEAF_S)
        assert await other.read(len(ECHOED)) == ECHOED
        assert len(intake.door.connections) == 1

    run(path, scenario)


def test_each_packet_has_its_own_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller whose reads always end in the middle of a packet is not too slow while packets end."""
    monkeypatch.setattr(door, "LOOK_S", 1e6)

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        (connection,) = intake.door.connections
        await caller.send(ECHO[:-1])
        await until(lambda: connection._began_at is not None)  # type: ignore[attr-defined]
        # the first one began long ago
        connection._began_at -= PACKET_S  # type: ignore[attr-defined]
        await caller.send(ECHO[-1:] + ECHO[:-1])
        assert await caller.read(len(ECHOED)) == ECHOED
        connection.look(asyncio.get_running_loop().time() + 0.1)
        await caller.send(ECHO[-1:])
        assert await caller.read(len(ECHOED)) == ECHOED

    run(path, scenario)


def test_a_long_answer_counts_until_it_has_gone_out(path: Path) -> None:
    """In parts, each by its share: afterwards nothing counts, neither too much nor too little."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        body = bytes(4 * WRITE_BYTES)
        await caller.send(encode(REQ, Kind.ECHO_REQ, body))
        expected = encode(RES, Kind.ECHO_RES, body)
        assert await caller.read(len(expected)) == expected
        await until(lambda: intake.door._unanswered == 0)

    run(path, scenario)


@pytest.mark.parametrize(
    "request_", [submission(payload=bytes(100_000)), submission(b"f" * 512)], ids=["payloads", "names"]
)
def test_a_caller_with_much_unanswered_is_not_read_from(path: Path, request_: bytes) -> None:
    """While the writer is busy a caller's casts in memory are bounded; afterwards each has its answer."""
    request = request_

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        there, go_on = intake.stop_at_commit()
        await caller.send(submission())
        await asyncio.to_thread(there.wait, GUARD_S)
        taken = await caller.push(request, 100 * 1024 * 1024)
        assert taken < 10 * 1024 * 1024
        go_on.set()
        whole = taken // len(request)
        expected = b"".join(intake.created(number) for number in range(whole + 1))
        assert await caller.read(len(expected)) == expected

    run(path, scenario)


def test_beyond_the_last_connection_a_caller_is_told_so(path: Path) -> None:
    """too_many_connections, then the end; those that are here go on, and when one leaves there is room again."""

    async def scenario(intake: Intake) -> None:
        first = await intake.call()
        second = await intake.call()
        told = refusal("too_many_connections")
        assert await second.read(len(told) + 1) == told
        await first.send(ECHO)
        assert await first.read(len(ECHOED)) == ECHOED
        first.sock.close()
        await idle()
        third = await intake.call()
        await third.send(ECHO)
        assert await third.read(len(ECHOED)) == ECHOED

    run(path, scenario, connections=1)


def test_what_cannot_be_read_is_answered_last(path: Path) -> None:
    """The casts before it have their answers, then bad_packet, then the end; nothing behind it is accepted."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        await caller.send(submission() * 3 + b"\0BAD" + b"?" * 20 + submission())
        expected = b"".join(intake.created(number) for number in range(3)) + refusal("bad_packet")
        assert await caller.read(len(expected) + 1) == expected
        assert intake.rows("SELECT count(*) FROM casts") == [(3,)]

    run(path, scenario)


def test_a_drain_is_told_to_callers(path: Path) -> None:
    """While it drains a cast is refused as draining, and one that is here already is acknowledged again."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        await caller.send(submission(unique=b"u"))
        await caller.read(len(intake.created(0)))
        await intake.spool.drain()
        await caller.send(submission() + submission(unique=b"u") + ECHO)
        expected = refusal("draining") + intake.created(0) + ECHOED
        assert await caller.read(len(expected)) == expected

    run(path, scenario)


def test_a_conversation_that_ends_early_in_a_long_read_is_closed(path: Path) -> None:
    """What cannot be read, with much behind it: one answer, then the end, whatever else was sent."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        await caller.send(submission() + b"\0BAD" + bytes(200_000))
        expected = intake.created(0) + refusal("bad_packet")
        assert await caller.read(len(expected)) == expected
        await until(lambda: not intake.door.connections)

    run(path, scenario)


@pytest.mark.parametrize("bad", [b"\0BAD" + bytes(8), encode(REQ, Kind.SUBMIT_JOB_BG)], ids=["magic", "arguments"])
def test_what_cannot_be_read_ends_a_conversation_that_stood_still(path: Path, bad: bytes) -> None:
    """It came with more than the caller took answers for, and is looked at when the caller reads: told, then closed."""
    # with its header as long as what is looked at at a time, so that what follows it is left
    body = bytes(SLICE_BYTES - HEADER_SIZE)

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        (connection,) = intake.door.connections
        sent = bytearray()
        # fill the socket to the brim, and a little more, less than makes the transport pause
        while not connection._unsent:  # type: ignore[attr-defined]
            await caller.send(encode(REQ, Kind.ECHO_REQ, bytes(20_000)))
            sent += encode(RES, Kind.ECHO_RES, bytes(20_000))
            await asyncio.sleep(0)
        await caller.send(encode(REQ, Kind.ECHO_REQ, body) + bad)
        await until(lambda: connection._deaf_at is not None)  # type: ignore[attr-defined]
        assert connection._unread == bad  # type: ignore[attr-defined]
        expected = sent + encode(RES, Kind.ECHO_RES, body) + refusal("bad_packet")
        assert await caller.read(len(expected) + 1) == expected
        await until(lambda: not intake.door.connections)

    run(path, scenario)


@pytest.mark.parametrize("stopped", [False, True], ids=["bad packet", "stop"])
def test_over_tcp_what_comes_after_the_end_takes_no_answer_back(path: Path, stopped: bool) -> None:
    """A caller that reads late and still sends gets all that it is owed, and then the end."""
    body = bytes(10_000)
    request, answer = encode(REQ, Kind.ECHO_REQ, body), encode(RES, Kind.ECHO_RES, body)

    async def scenario(intake: Intake) -> None:
        caller = await intake.call(tcp=True, receive=4096)
        (connection,) = intake.door.connections
        asked = 0
        while kernel.untaken(connection._socket) < 20_000:  # type: ignore[attr-defined]
            await caller.send(request)
            asked += 1
            await idle()
        assert connection._deaf_at is None  # type: ignore[attr-defined]
        expected = answer * asked
        if stopped:
            await intake.door.hush(GUARD_S)
            leaving = asyncio.create_task(intake.door.leave(GUARD_S))
        else:
            await caller.send(b"\0BAD" + bytes(8))
            expected += refusal("bad_packet")
        await until(lambda: connection._over_at or not intake.door.connections)  # type: ignore[attr-defined]
        with contextlib.suppress(ConnectionError):
            for _ in range(10):
                await caller.send(b"more" * 1000)
                await idle()
        assert await caller.read(len(expected) + 1) == expected
        if stopped:
            await leaving
        # it need not go away itself
        await until(lambda: not intake.door.connections)

    run(path, scenario)


def test_whose_answers_make_room_for_all_has_them_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers that end the standstill go out before those to what its caller had sent behind and is read now."""
    monkeypatch.setattr(door, "UNANSWERED_BYTES_IN_ALL", 70_000)
    request, casts, echoes = submission(payload=bytes(1300)), 49, 500
    assert len(request) * casts < SLICE_BYTES < len(request) * casts + len(ECHO) * echoes

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        (connection,) = intake.door.connections
        there, go_on = intake.stop_at_commit()
        await caller.send(submission())
        await asyncio.to_thread(there.wait, GUARD_S)
        await caller.send(request * casts + ECHO * echoes)
        await until(lambda: intake.door.full)
        assert connection._unread  # type: ignore[attr-defined]
        go_on.set()
        expected = b"".join(intake.created(number) for number in range(1 + casts)) + ECHOED * echoes
        assert await caller.read(len(expected)) == expected

    run(path, scenario)


def test_at_a_stop_everybody_gets_what_is_owed(path: Path) -> None:
    """What a caller has sent by then is read to its end and answered, cast for cast; after that it can send no more."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        there, go_on = intake.stop_at_commit()
        await caller.send(submission())
        await asyncio.to_thread(there.wait, GUARD_S)
        # more than is read while nothing is answered, so that some of it is left in the socket
        request = submission(payload=bytes(100_000))
        taken = await caller.push(request, 100 * 1024 * 1024)
        assert taken < 100 * 1024 * 1024
        hushing = asyncio.create_task(intake.door.hush(GUARD_S))
        await idle()
        with pytest.raises(BrokenPipeError):
            caller.sock.send(b"more")
        assert not hushing.done()
        go_on.set()
        await hushing
        leaving = asyncio.create_task(intake.door.leave(GUARD_S))
        expected = b"".join(intake.created(number) for number in range(1 + taken // len(request)))
        assert await caller.read(len(expected) + 1) == expected
        await leaving

    run(path, scenario)


def test_at_a_stop_whoever_comes_late_is_not_read_from(path: Path) -> None:
    """Accepted when the last words are over: nothing of it is taken, and its connection is closed."""

    async def scenario(intake: Intake) -> None:
        await intake.door.hush(GUARD_S)
        late = await intake.call()
        await late.send(submission())
        assert await late.silent()
        assert intake.door._unanswered == 0
        await intake.door.leave(GUARD_S)
        with contextlib.suppress(ConnectionResetError):
            assert await late.read(1) == b""
        assert intake.rows("SELECT count(*) FROM casts") == [(0,)]

    run(path, scenario)


def test_at_a_stop_what_has_come_over_tcp_is_answered(path: Path) -> None:
    """Casts that lie in the kernel while nothing is answered, because nothing more is read, are read and answered."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call(tcp=True)
        (connection,) = intake.door.connections
        there, go_on = intake.stop_at_commit()
        await caller.send(submission())
        await asyncio.to_thread(there.wait, GUARD_S)
        request, count = submission(payload=bytes(10_000)), 1
        while not connection._paused:  # type: ignore[attr-defined]
            await caller.send(request)
            count += 1
            await asyncio.sleep(0)
        await caller.send(request * 3)
        await until(lambda: kernel.unread(connection._socket) >= 3 * len(request))  # type: ignore[attr-defined]
        hushing = asyncio.create_task(intake.door.hush(GUARD_S))
        await idle()
        assert not hushing.done()
        go_on.set()
        await hushing
        leaving = asyncio.create_task(intake.door.leave(GUARD_S))
        expected = b"".join(intake.created(number) for number in range(count + 3))
        assert await caller.read(len(expected) + 1) == expected
        await leaving

    run(path, scenario)


def test_at_a_stop_nobody_is_waited_for_longer_than_said(path: Path) -> None:
    """A caller whose last words cannot be read, because it does not read its answers, is not read from any more."""

    async def scenario(intake: Intake) -> None:
        deaf = await intake.call()
        await deaf.push(ECHO, 100 * 1024 * 1024)
        await intake.door.hush(0.01)
        await intake.door.leave(0.01)
        await until(lambda: not intake.door.connections)

    run(path, scenario)


@pytest.mark.parametrize("beyond", [1, 20_000, 60_000])
def test_a_caller_that_sends_no_more_and_reads_late_gets_the_end(path: Path, beyond: int) -> None:
    """Also when a few last bytes of its answers had no room in the socket yet when it closed its sending side."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        (connection,) = intake.door.connections
        sent = bytearray()
        # fill the socket to the brim, and a little more, less than makes the transport pause
        while not connection._unsent:  # type: ignore[attr-defined]
            await caller.send(encode(REQ, Kind.ECHO_REQ, bytes(beyond)))
            sent += encode(RES, Kind.ECHO_RES, bytes(beyond))
            await asyncio.sleep(0)
        caller.sock.shutdown(socket.SHUT_WR)
        await idle()
        assert await caller.read(len(sent) + 1) == sent

    run(path, scenario)


# -- large packets -----------------------------------------------------------------------------------------------------

LARGE = submission(payload=bytes(100_000))


@pytest.fixture
def cramped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for one large packet; no look comes by itself, or on a slow machine whoever stands still would give way."""
    monkeypatch.setattr(room, "HALF_BYTES", 100_000)
    monkeypatch.setattr(door, "LOOK_S", 1e6)


@pytest.mark.usefixtures("cramped")
def test_a_line_of_any_length_goes_on_at_once(path: Path) -> None:
    """When whoever held up a line of 400 leaves, all of them are read, however deep one thing leads to another."""

    async def scenario(intake: Intake) -> None:
        first = await intake.call()
        await first.send(LARGE[:-1])
        await idle()
        callers = [await intake.call() for _ in range(400)]
        for caller in callers:
            await caller.send(LARGE)
        await idle()
        assert intake.rows("SELECT count(*) FROM casts") == [(0,)]
        await first.send(LARGE[-1:])
        await first.read(len(intake.created(0)))
        for caller in callers:
            await caller.read(len(intake.created(0)))
        assert intake.rows("SELECT count(*) FROM casts") == [(401,)]

    run(path, scenario, connections=500)


@pytest.mark.usefixtures("cramped")
def test_one_large_packet_behind_another_takes_its_place_in_line(path: Path) -> None:
    """Who sends many lets those in between that wait."""

    async def scenario(intake: Intake) -> None:
        many, one = await intake.call(), await intake.call()
        await many.send(LARGE[:-1])
        await idle()
        await one.send(LARGE)
        await idle()
        await many.send(LARGE[-1:] + LARGE * 20)
        # the first of many, then the one that waited
        assert await one.read(len(intake.created(1))) == intake.created(1)
        await many.read(21 * len(intake.created(0)))

    run(path, scenario)


@pytest.mark.usefixtures("cramped")
def test_who_waits_for_room_is_not_too_slow(path: Path) -> None:
    """However long it waits, while it has something to be read; one that has sent nothing more keeps itself back."""

    async def scenario(intake: Intake) -> None:
        first = await intake.call()
        await first.send(LARGE[:-1])
        await idle()
        eager, idler = await intake.call(), await intake.call()
        await eager.send(LARGE)
        await idler.send(LARGE[:50])
        await idle()
        now = asyncio.get_running_loop().time()
        for connection in list(intake.door.connections):
            if connection._in_line:  # type: ignore[attr-defined]
                connection.look(now + PACKET_S + 1)
        assert await idler.read(len(refusal("too_slow")) + 1) == refusal("too_slow")
        assert await eager.silent()
        await first.send(LARGE[-1:])
        assert await eager.read(len(intake.created(1))) == intake.created(1)

    run(path, scenario)


@pytest.mark.usefixtures("cramped")
def test_whoever_is_too_slow_frees_its_room_at_once(path: Path) -> None:
    """Also when it does not read that it was: others need not wait until it goes away."""

    async def scenario(intake: Intake) -> None:
        slow = await intake.call()
        (connection,) = intake.door.connections
        # its answers fill the socket, and a little more
        while not connection._unsent:  # type: ignore[attr-defined]
            await slow.send(encode(REQ, Kind.ECHO_REQ, bytes(20_000)))
            await asyncio.sleep(0)
        await slow.send(LARGE[:-1])
        await idle()
        other = await intake.call()
        await other.send(LARGE)
        await idle()
        assert await other.silent()
        connection.look(asyncio.get_running_loop().time() + PACKET_S + 1)
        assert await other.read(len(intake.created(0))) == intake.created(0)
        assert len(intake.door.connections) == 2

    run(path, scenario)


def test_questions_of_a_caller_that_left_are_counted_until_they_are_answered(path: Path) -> None:
    """What waits for the writer is memory, whoever asked; afterwards nothing is counted any more."""

    async def scenario(intake: Intake) -> None:
        caller, other = await intake.call(), await intake.call()
        there, go_on = intake.stop_at_commit()
        await other.send(submission())
        await asyncio.to_thread(there.wait, GUARD_S)
        before = intake.door._unanswered
        # it leaves an answer unread, so that its end is seen at once
        await caller.send(ECHO + (encode(REQ, Kind.GET_STATUS, b"H:vm:1") + b"status\n") * 100)
        await idle()
        caller.sock.close()
        await until(lambda: len(intake.door.connections) == 1)
        assert intake.door._unanswered - before >= 100 * 1000
        go_on.set()
        await other.read(len(intake.created(0)))
        await until(lambda: intake.door._unanswered == 0)

    run(path, scenario)
