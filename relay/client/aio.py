"""AsyncClient: the twin of Client for asyncio (uvloop too).

The same promises by the same rules, over non-blocking sockets and the running loop.  A task that is cancelled in the
middle of a cast leaves open whether the cast is on disk; its connection is closed.  Streams of asyncio were not taken:
they do not say whether anything of a write has left, and that is the difference between Unavailable and Unanswered.

Connections belong to a loop and a process: under another loop, or after a fork, it begins anew.

When it fails: what `relay.client.errors` says, by the rules of `relay.client.flow`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from relay.client.blocking import CONNECTIONS, IDLE, READ_BYTES
from relay.client.errors import CastError, Rejected
from relay.client.flow import PAUSE_S, Flow
from relay.client.source import AsyncItems, AsyncSource, Items, Source
from relay.client.submission import Cast


class _Pool:
    """The connections of one loop that nobody uses, and the leave to use one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.pid = os.getpid()
        self.loop = loop
        self.leaves = asyncio.Semaphore(CONNECTIONS)
        self.idle: list[socket.socket] = []

    @property
    def own(self) -> bool:
        """False in a child of the process that it was made in."""
        return self.pid == os.getpid()

    def close(self, connection: socket.socket) -> None:
        """Close; for the agent too, where a child still has it open, and never for the parent."""
        if self.own:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the agent was first
        connection.close()

    def keep(self, connection: socket.socket) -> None:
        """For the next one."""
        if len(self.idle) < IDLE:
            self.idle.append(connection)
        else:
            self.close(connection)

    def clear(self) -> None:
        """Keep none."""
        while self.idle:
            self.close(self.idle.pop())


class _Line:
    """One task's use of the pool: at most one connection, and the flow that goes over it."""

    def __init__(self, path: str, pool: _Pool, flow: Flow) -> None:
        self.path = path
        self.pool = pool
        self.flow = flow
        self.connection: socket.socket | None = None

    async def turn(self, *, wait: bool) -> None:
        """Send what is to be sent, and read: with `wait` at least one answer, else only what is here already."""
        flow = self.flow
        deadline = time.monotonic() + flow.patience_s
        try:
            async with asyncio.timeout(flow.patience_s):
                while not flow.settled and not await self._try(wait):
                    pass
        except TimeoutError:
            raise flow.late(flow.timeout) from None
        flow.turned(deadline - time.monotonic())

    async def _try(self, wait: bool) -> bool:
        """One connection's turn; False where another one is to be tried."""
        flow = self.flow
        try:
            connection = self.connection or self._connect()
        except OSError as error:
            flow.refused(error, self.path)
            await asyncio.sleep(PAUSE_S)
            return False
        try:
            await self._send(connection)
            await self._read(connection, wait)
        except TimeoutError:
            raise
        except OSError as error:
            self.drop()
            if flow.settled:
                return True
            await asyncio.sleep(flow.lost(error))
            return False
        return True

    def _connect(self) -> socket.socket:
        """A connection that was kept if this is the first, else a new one: what else was kept is as dead.

        A unix socket connects at once or not at all.
        """
        flow, idle = self.flow, self.pool.idle
        if flow.untried and idle:
            self.connection = idle.pop()
            flow.connected(kept=True)
            return self.connection
        flow.connected(kept=False)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(self.path)
        except BaseException:
            connection.close()
            raise
        self.connection = connection
        return connection

    async def _send(self, connection: socket.socket) -> None:
        flow, loop = self.flow, self.pool.loop
        rest = memoryview(flow.outgoing())
        try:
            while rest:
                try:
                    sent = connection.send(rest, socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    # nothing fits: the loop waits until a first byte does
                    await loop.sock_sendall(connection, rest[:1])
                    sent = 1
                rest = rest[sent:]
                flow.sent()
        except OSError:
            # it takes nothing more; what the agent answered before that counts
            while flow.worth_reading and not flow.settled:
                flow.feed(await self._receive(connection))
            raise

    async def _read(self, connection: socket.socket, wait: bool) -> None:
        flow = self.flow
        while wait and not flow.has_answers:
            flow.feed(await self._receive(connection))
        try:
            if not wait and (data := connection.recv(READ_BYTES)):
                flow.feed(data)
        except BlockingIOError:
            pass  # nothing is here yet

    async def _receive(self, connection: socket.socket) -> bytes:
        """Some bytes; what is here already also when the time is up."""
        try:
            data = connection.recv(READ_BYTES)
        except BlockingIOError:
            data = await self.pool.loop.sock_recv(connection, READ_BYTES)
        if not data:
            raise ConnectionResetError("the agent closed it")
        return data

    def drop(self) -> None:
        """Have no connection any more."""
        if self.connection is not None:
            self.pool.close(self.connection)
            self.connection = None

    def end(self) -> None:
        """Give the connection back, or close it where more may come on it."""
        if self.connection is not None and self.flow.reusable and self.pool.own:
            self.pool.keep(self.connection)
            self.connection = None
        self.drop()


class AsyncClient:
    """Hands casts to the relay-agent that listens on a unix socket, from asyncio; any number of tasks may share one."""

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 2.0) -> None:
        """`path` is the agent's `[intake] socket`; `timeout` in seconds, over 0, holds for each cast."""
        if not 0 < timeout < float("inf"):
            raise ValueError(f"a timeout is a number of seconds over 0, not {timeout!r}")
        self._path = os.fspath(path)
        self._timeout_s = timeout
        self._pool: _Pool | None = None

    async def cast(
        self,
        function: str | bytes,
        payload: bytes,
        *,
        unique: str | bytes | None = None,
        priority: str = "normal",
        delay: float = 0,
    ) -> str:
        """Hand one cast over; returns its handle once it is on the agent's disk.  All as in Client.cast."""
        flow = Flow(self._timeout_s)
        flow.add(Cast(function, payload, unique, priority, delay))
        if not flow.settled:
            async with self._line(flow) as line:
                await line.turn(wait=True)
        (answer,) = flow.answers()
        if isinstance(answer, Rejected):
            raise answer
        return answer

    async def cast_many(self, items: Items | AsyncItems) -> AsyncIterator[str | Rejected]:
        """Hand many casts over at once; yields for each, in order, its handle (a str) or the Rejected (not raised).

        All as in Client.cast_many; items may be an asynchronous iterable too.
        """
        flow = Flow(self._timeout_s)
        source = AsyncSource(items) if isinstance(items, AsyncIterable) else Source(items)
        async with self._line(flow) as line:
            while True:
                more = source.fill(flow) if isinstance(source, Source) else await source.fill(flow)
                failed: CastError | None = None
                try:
                    await line.turn(wait=not more)
                except CastError as error:
                    failed = error
                for answer in flow.answers():
                    yield answer
                if failed is not None:
                    raise failed
                if source.ended and flow.settled:
                    break
        if source.error is not None:
            raise source.error

    def close(self) -> None:
        """Close the connections that are kept; the client stays of use."""
        if self._pool is not None:
            self._pool.clear()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._path}>"

    @asynccontextmanager
    async def _line(self, flow: Flow) -> AsyncIterator[_Line]:
        """Leave to use a connection, within the flow's time; what was used goes back or is closed."""
        pool, loop = self._pool, asyncio.get_running_loop()
        if pool is None or pool.loop is not loop or not pool.own:
            if pool is not None:
                pool.clear()
            pool = self._pool = _Pool(loop)
        began = time.monotonic()
        try:
            async with asyncio.timeout(flow.patience_s):
                await pool.leaves.acquire()
        except TimeoutError:
            text = f"all {CONNECTIONS} connections of this client were in use for {self._timeout_s:g} s"
            raise flow.late(text) from None
        line = _Line(self._path, pool, flow)
        flow.turned(flow.patience_s - (time.monotonic() - began))
        try:
            yield line
        finally:
            line.end()
            pool.leaves.release()
