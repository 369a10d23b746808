"""Callers of a door: real pairs of sockets, a real spool, and a forwarder that says what is in flight."""

import asyncio
import socket
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relay.clock import Clock
from relay.facts import Facts
from relay.intake import kernel
from relay.intake.connection import Connection
from relay.intake.door import Door
from relay.protocol.packets import REQ, RES, Kind, encode
from relay.spool.spool import Spool
from tests.unit.limits import unlimited
from tests.unit.spool.writing import cast

GUARD_S = 60
MAX_PAYLOAD = 4 * 1024 * 1024
ECHO_LONG = encode(REQ, Kind.ECHO_REQ, bytes(99_999))
UNTAKEN = 20_000


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
        self.spool = Spool(unlimited(path), Clock(), 0)
        self.broken: list[BaseException] = []
        self.spool.start(asyncio.get_running_loop(), self.broken.append)
        self.first = self.spool.identity.next_id
        self.forwarder = FakeForwarder()
        self.door = Door(self.spool, self.forwarder, "vm", "1.2.3", MAX_PAYLOAD, connections)
        self.callers: list[Caller] = []

    async def call(self, *, tcp: bool = False, receive: int | None = None) -> Caller:
        """A caller connects; `receive` is how many bytes its kernel takes, if that is to be few."""
        if tcp:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                theirs = socket.socket()
                if receive is not None:
                    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
                theirs.connect(listener.getsockname())
                ours = listener.accept()[0]
        else:
            ours, theirs = socket.socketpair(socket.AF_UNIX)
        theirs.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(self.door), ours)
        self.callers.append(Caller(theirs))
        return self.callers[-1]

    @property
    def connection(self) -> Connection:
        """Ours to the only caller."""
        (found,) = self.door.connections
        assert isinstance(found, Connection)
        return found

    async def call_deaf(self, step: int = 1_000_000) -> Caller:
        """The only caller: it has sent ECHO_LONG, so many bytes at a time, until it was seen to read no answers."""
        caller = await self.call()
        while self.connection._deaf_at is None:
            await caller.push(ECHO_LONG, caller.sent + step)
        return caller

    async def call_late(self) -> Caller:
        """The only caller, over TCP: its kernel takes no more, and ours holds UNTAKEN bytes of answers."""
        caller = await self.call(tcp=True, receive=4096)
        while kernel.untaken(self.connection._socket) < UNTAKEN:
            await caller.send(encode(REQ, Kind.ECHO_REQ, bytes(10_000)))
            await idle()
        return caller

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
    """A scenario with an intake, which is closed afterwards: no part of it broke, and nobody is counted any more."""

    async def whole() -> None:
        bugs: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, bug: bugs.append(bug))
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
            await idle()
        assert bugs == []
        assert intake.door._unanswered == 0, "what was owed is owed no longer"
        assert not intake.door._waiting
        assert (intake.door.room._held, intake.door.room._line, intake.door.room._taken) == ({}, {}, 0)

    asyncio.run(whole())


def submission(function: bytes = b"f", payload: bytes = b"x", unique: bytes = b"") -> bytes:
    """A cast on the wire."""
    function, unique, payload, *_ = cast(function, payload, unique)
    return encode(REQ, Kind.SUBMIT_JOB_BG, function, unique, payload)


ECHO = encode(REQ, Kind.ECHO_REQ, b"hello")
ECHOED = encode(RES, Kind.ECHO_RES, b"hello")
