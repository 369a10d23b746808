"""One caller's connection: a real pair of unix sockets, a real spool, and a forwarder that says what is in flight."""

import asyncio
import socket
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.clock import Clock
from relay.facts import Facts
from relay.intake.connection import Connection
from relay.intake.door import Door
from relay.protocol import admin
from relay.protocol.caller import refusal
from relay.protocol.packets import REQ, RES, Kind, encode
from relay.settings import Spool as Limits
from relay.spool.spool import Spool
from tests.unit.forwarder.flying import until
from tests.unit.spool.writing import cast

GUARD_S = 60
MAX_PAYLOAD = 4 * 1024 * 1024


class FakeForwarder:
    """Nothing is in flight but what a test says."""

    def __init__(self) -> None:
        self.flying: set[int] = set()

    def facts(self) -> Facts:
        return Facts()

    def is_in_flight(self, cast_id: int) -> bool:
        return cast_id in self.flying


class Caller:
    """The other end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sent = 0

    async def send(self, data: bytes) -> None:
        """All of it."""
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read(self, size: int) -> bytes:
        """Just so many bytes, or all there are before the end."""
        data = bytearray()
        while len(data) < size:
            piece = await asyncio.get_running_loop().sock_recv(self.sock, min(1 << 20, size - len(data)))
            if not piece:
                break
            data += piece
        return bytes(data)

    async def silent(self) -> bool:
        """True when nothing has come, and nothing comes in the loop's next turns."""
        await idle()
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False

    async def push(self, data: bytes, most: int) -> int:
        """Send `data` again and again, until it is not taken any more or `most` bytes were; how many were taken."""
        rest = b""
        while self.sent < most:
            rest = rest or data
            try:
                taken = self.sock.send(rest)
            except BlockingIOError:
                await idle()
                try:
                    taken = self.sock.send(rest)
                except BlockingIOError:
                    return self.sent
            self.sent += taken
            rest = rest[taken:]
            await asyncio.sleep(0)
        return self.sent


async def idle() -> None:
    """Let the loop do all that it can do by itself."""
    for _ in range(100):
        await asyncio.sleep(0)


class Intake:
    """A door with a spool behind it."""

    def __init__(self, path: Path, connections: int = 10) -> None:
        self.spool = Spool(Limits(path=path, max_casts=0, max_bytes=0, min_free=0), Clock(), 0)
        self.broken: list[BaseException] = []
        self.spool.start(asyncio.get_running_loop(), self.broken.append)
        self.first = self.spool.identity.next_id
        self.forwarder = FakeForwarder()
        self.door = Door(self.spool, self.forwarder, "vm", "1.2.3", MAX_PAYLOAD, connections)
        self.callers: list[Caller] = []

    async def call(self) -> Caller:
        """A caller connects."""
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        theirs.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(self.door), ours)
        self.callers.append(Caller(theirs))
        return self.callers[-1]

    def created(self, number: int) -> bytes:
        """The answer to the cast with the `number`-th id."""
        return encode(RES, Kind.JOB_CREATED, b"H:vm:%d" % (self.first + number))

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """What another connection reads."""
        reader = sqlite3.connect(f"file:{self.spool.path}?mode=ro", uri=True)
        try:
            return reader.execute(query).fetchall()
        finally:
            reader.close()

    def stop_at_commit(self) -> tuple[threading.Event, threading.Event]:
        """The writer stops at its next COMMIT: (it is there, let it go on)."""
        there, go_on = threading.Event(), threading.Event()

        def trace(statement: str) -> None:
            if statement == "COMMIT":
                there.set()
                go_on.wait(GUARD_S)

        self.spool._opened.conn.set_trace_callback(trace)
        return there, go_on


def run(path: Path, scenario: Callable[[Intake], object], connections: int = 10) -> None:
    """A scenario with an intake, which is closed afterwards; no part of it broke."""

    async def whole() -> None:
        async with asyncio.timeout(GUARD_S):
            intake = Intake(path, connections)
            try:
                await scenario(intake)  # type: ignore[misc]
            finally:
                for caller in intake.callers:
                    caller.sock.close()
                await intake.door.leave(1)
                await intake.spool.finish()
                intake.spool.close()
            assert intake.broken == []

    asyncio.run(whole())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the spool is made."""
    return tmp_path / "spool" / "spool.db"


def submission(function: bytes = b"f", payload: bytes = b"x", unique: bytes = b"") -> bytes:
    """A cast on the wire."""
    function, unique, payload, *_ = cast(function, payload, unique)
    return encode(REQ, Kind.SUBMIT_JOB_BG, function, unique, payload)


ECHO = encode(REQ, Kind.ECHO_REQ, b"hello")
ECHOED = encode(RES, Kind.ECHO_RES, b"hello")


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


def test_a_caller_with_much_unanswered_is_not_read_from(path: Path) -> None:
    """While the writer is busy a caller's payloads in memory are bounded; afterwards each cast has its answer."""
    request = submission(payload=bytes(100_000))

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


def test_at_a_stop_everybody_gets_what_is_owed(path: Path) -> None:
    """A caller that is behind with reading still gets an answer for each cast that was read from it."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        sending = asyncio.create_task(caller.send(submission() * 40_000))
        await until(lambda: any(connection._paused for connection in intake.door.connections))
        intake.door.hush()
        await idle()
        sending.cancel()
        leaving = asyncio.create_task(intake.door.leave(GUARD_S))
        committed = intake.spool._next_id - intake.first
        assert committed
        for number in range(committed):
            assert await caller.read(len(intake.created(number))) == intake.created(number)
        await leaving

    run(path, scenario)
