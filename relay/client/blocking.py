"""Client: casts over plain sockets, for threads, forked children and eventlet's green threads.

Connections are kept in a small pool, and each is one caller's at a time.  One connection under a lock would have all
threads wait for each other's fsync; one a thread would leave a connection behind for each thread that ever cast.  With
CONNECTIONS in use another caller waits, within its timeout: a service with 1,000 green threads must not take all the
connections that the agent has for everybody.

Sound after fork: a connection remembers the process it was made in, and in another one it counts as lost; the pool is
made anew there.  Sound under eventlet: every call goes through the modules (`socket.socket`, `time.sleep`,
`threading.Semaphore`) when it is made, so it does not matter whether relay.client was imported, or a Client made,
before monkey_patch; only its first cast has to come after.

A connection goes back to the pool only when every cast it carried has its answer; otherwise (no answer in time, an
error, an exception in the caller, a cast_many that is left early) it is closed, so a late answer meets nobody.

When it fails: what `relay.client.errors` says, by the rules of `relay.client.flow`.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from relay.client.errors import CastError, Rejected
from relay.client.flow import PAUSE_S, Flow
from relay.client.source import Items, Source
from relay.client.submission import Cast

#: connections of one Client in use at a time
CONNECTIONS = 32
#: connections that are kept between casts
IDLE = 8
#: bytes of one read
READ_BYTES = 64 * 1024


class Connection:
    """A connected socket with deadlines.  Every method raises OSError when it is of no use any more."""

    def __init__(self, path: str) -> None:
        """Connect: at once, or not at all.  BlockingIOError while the agent's backlog of connections is full."""
        self._pid = os.getpid()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(0)
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise

    @property
    def own(self) -> bool:
        """False in a child of the process that connected."""
        return self._pid == os.getpid()

    def send(self, data: memoryview, deadline: float) -> int:
        """Some of the bytes: how many, 0 when there may be something to read first; TimeoutError when time is up.

        Whoever answers may wait for its answers to be read before it reads on; so sending alone must not wait.
        """
        self._wait_until(0)
        try:
            # without the flag a service that has reset SIGPIPE would die of an agent's restart
            return self._socket.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            pass
        left = deadline - time.monotonic()
        if left <= 0 or not _ready(self._socket, left):
            raise TimeoutError
        return 0

    def receive(self, deadline: float) -> bytes:
        """Some bytes; what is here already also when the time is up, TimeoutError when there is nothing."""
        self._wait_until(deadline)
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            raise TimeoutError from None
        except EOFError:  # eventlet's word for a socket that another green thread closed
            data = b""
        if not data:
            raise ConnectionResetError("the agent closed it")
        return data

    def _wait_until(self, deadline: float) -> None:
        if not self.own:
            raise ConnectionResetError("it belongs to the parent process")
        self._socket.settimeout(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Close; for the agent too, where a child still has it open, and never for the parent."""
        if self.own:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the agent was first
        self._socket.close()


def _ready(sock: socket.socket, seconds: float) -> bool:
    """Wait until the socket can be read or written; False when the time is up."""
    # where eventlet has patched it there is no poll; select alone takes no descriptor over 1,023
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLOUT)
        return bool(poll.poll(seconds * 1000))
    readable, writable, _ = select.select([sock], [sock], [], seconds)
    return bool(readable or writable)


class _Pool:
    """The connections of one process that nobody uses, and the leave to use one."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.leaves = threading.Semaphore(CONNECTIONS)
        # appended to and popped from without a lock: both are one step
        self.idle: deque[Connection] = deque()

    def keep(self, connection: Connection) -> None:
        """For the next one."""
        if len(self.idle) < IDLE and connection.own:
            self.idle.append(connection)
        else:
            connection.close()

    def clear(self) -> None:
        """Keep none."""
        while self.idle:
            try:
                self.idle.pop().close()
            except IndexError:
                return  # another thread was first


class _Line:
    """One caller's use of the pool: at most one connection, and the flow that goes over it."""

    def __init__(self, path: str, pool: _Pool, flow: Flow) -> None:
        self.path = path
        self.pool = pool
        self.flow = flow
        self.connection: Connection | None = None

    def turn(self, *, wait: bool) -> None:
        """Send what is to be sent, and read: with `wait` at least one answer, else only what is here already."""
        flow = self.flow
        deadline = time.monotonic() + flow.patience_s
        while not flow.settled:
            try:
                connection = self.connection or self._connect()
            except OSError as error:
                flow.refused(error, self.path)
                self._pause(PAUSE_S, deadline)
                continue
            try:
                self._send(connection, deadline)
                self._read(connection, deadline, wait)
                break
            except TimeoutError:
                raise flow.late(flow.timeout) from None
            except OSError as error:
                self.drop()
                if not flow.settled:
                    self._pause(flow.lost(error), deadline)
        flow.turned(deadline - time.monotonic())

    def _connect(self) -> Connection:
        """A connection that was kept if this is the first, else a new one: what else was kept is as dead."""
        flow, connection = self.flow, None
        if flow.untried:
            try:
                connection = self.pool.idle.pop()
            except IndexError:
                pass
        flow.connected(kept=connection is not None)
        self.connection = connection or Connection(self.path)
        return self.connection

    def _send(self, connection: Connection, deadline: float) -> None:
        flow = self.flow
        rest = memoryview(flow.outgoing())
        try:
            while rest:
                taken = connection.send(rest, deadline)
                rest = rest[taken:]
                if taken:
                    flow.sent()
                else:
                    self._read(connection, deadline, False)
        except TimeoutError:
            raise
        except OSError:
            # it takes nothing more; what the agent answered before that counts
            while flow.worth_reading and not flow.settled:
                flow.feed(connection.receive(deadline))
            raise

    def _read(self, connection: Connection, deadline: float, wait: bool) -> None:
        flow = self.flow
        while wait and not flow.has_answers:
            flow.feed(connection.receive(deadline))
        try:
            if not wait:
                flow.feed(connection.receive(0))
        except TimeoutError:
            pass  # nothing is here yet

    def _pause(self, seconds: float, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise self.flow.late(self.flow.timeout)
        if seconds:
            time.sleep(min(seconds, left))

    def drop(self) -> None:
        """Have no connection any more."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def end(self) -> None:
        """Give the connection back, or close it where more may come on it."""
        if self.connection is not None and self.flow.reusable:
            self.pool.keep(self.connection)
            self.connection = None
        self.drop()


class Client:
    """Hands casts to the relay-agent that listens on a unix socket.

    One a process is enough: it may be used by any number of threads or green threads, and by children after a fork.
    Making one connects to nothing and raises nothing but ValueError for a timeout that is none.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 2.0) -> None:
        """`path` is the agent's `[intake] socket`; `timeout` in seconds, over 0, holds for each cast."""
        if not 0 < timeout <= threading.TIMEOUT_MAX:
            raise ValueError(f"a timeout is a number of seconds over 0, not {timeout!r}")
        self._path = os.fspath(path)
        self._timeout_s = timeout
        self._pool: _Pool | None = None

    def cast(
        self,
        function: str | bytes,
        payload: bytes,
        *,
        unique: str | bytes | None = None,
        priority: str = "normal",
        delay: float = 0,
    ) -> str:
        """Hand one cast over; returns its handle, `H:<host>:<id>`, once it is on the agent's disk.

        function: 1 to 512 bytes, each from 0x21 to 0x7e.
        payload: bytes, up to the agent's `max_payload` (16 MiB).
        unique: 1 to 64 bytes; a new UUIDv7 (32 hex digits) where it is None.  While a cast with the same function and
            unique is in the spool, another one is not kept, and gets the first one's handle.
        priority: "high", "normal" or "low".
        delay: seconds before which it is not to be executed, rounded up to a whole second; normal priority only.

        Returns or raises within the timeout, everything included: Rejected (or its subclass for the agent's code),
        Unavailable, Unanswered; TypeError and ValueError for arguments that no cast has.
        """
        flow = Flow(self._timeout_s)
        flow.add(Cast(function, payload, unique, priority, delay))
        if not flow.settled:
            with self._line(flow) as line:
                line.turn(wait=True)
        (answer,) = flow.answers()
        if isinstance(answer, Rejected):
            raise answer
        return answer

    def cast_many(self, items: Items) -> Iterator[str | Rejected]:
        """Hand many casts over at once; yields for each, in order, its handle (a str) or the Rejected (not raised).

        items: Casts, or tuples (function, payload[, unique[, priority[, delay]]]); read as they are needed, up to 500
            casts or 2 MiB ahead of what is answered.

        The timeout is the longest time without any answer; what the caller does between two results, and what items
        takes to give the next one, does not count.  Raises Unavailable or Unanswered after everything answered was
        yielded; the error's `casts` are those taken from items and not answered, and can be cast again as they are.
        Whatever items raises, and the TypeError or ValueError of a wrong item, is raised in that item's turn.  Leaving
        the loop early leaves open what became of the casts that were handed over and not yielded.
        """
        flow = Flow(self._timeout_s)
        source = Source(items)
        with self._line(flow) as line:
            while True:
                more = source.fill(flow)
                try:
                    line.turn(wait=not more)
                except CastError:
                    yield from flow.answers()
                    raise
                yield from flow.answers()
                if source.ended and flow.settled:
                    break
        if source.error is not None:
            raise source.error

    def close(self) -> None:
        """Close the connections that are kept; the client stays of use."""
        if self._pool is not None:
            self._pool.clear()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._path}>"

    @contextmanager
    def _line(self, flow: Flow) -> Iterator[_Line]:
        """Leave to use a connection, within the flow's time; what was used goes back or is closed."""
        pool = self._pool
        if pool is None or pool.pid != os.getpid():
            if pool is not None:
                pool.clear()
            pool = self._pool = _Pool()
        began = time.monotonic()
        if not pool.leaves.acquire(timeout=flow.patience_s):
            raise flow.late(f"all {CONNECTIONS} connections of this client were in use for {self._timeout_s:g} s")
        line = _Line(self._path, pool, flow)
        flow.turned(flow.patience_s - (time.monotonic() - began))
        try:
            yield line
        finally:
            line.end()
            if pool.pid == os.getpid():
                pool.leaves.release()
