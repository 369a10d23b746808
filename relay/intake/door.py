"""What the connections of one intake share: the spool, the handles' prefix, and the budgets that bound them all.

Two budgets.  *Unanswered*: what callers have been promised an answer for, in bytes, from the read to the writing of the
answer; while it is full nobody is read from.  *Half packets*: a packet that is longer than SMALL is read on only when
there is room for all of it, in the order of asking; small ones never wait, so nobody's large packet keeps another's
small one.  A packet that has begun must end within PACKET_S, waiting for room not counted.

Runs in the event loop's thread; never fails.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from typing import Protocol

from relay.intake.inquiry import Desk, InFlight
from relay.protocol.caller import Answers
from relay.spool.spool import Spool

#: bytes that all callers together may have unanswered before none is read from
UNANSWERED_BYTES_IN_ALL = 32 * 1024 * 1024
#: bytes up to which a packet is read on without asking for room
SMALL = 64 * 1024
#: bytes of longer packets that may be on their way at a time; one always may
HALF_BYTES = 32 * 1024 * 1024
#: seconds that the rest of a packet may take
PACKET_S = 30.0
#: seconds after which a caller that does not read its answers is cut off, while others wait for the memory they hold
DEAF_S = 1.0
#: seconds between two looks for packets that take too long
LOOK_S = 1.0
#: bytes of one read
READ_BYTES = 256 * 1024
#: bytes of a host's name in a handle
HOST_BYTES = 40


class Guest(Protocol):
    """What the door knows of a connection."""

    def go_on(self) -> None:
        """There may be room again: be read, if nothing else speaks against it."""

    def look(self, now: float) -> None:
        """Give up if half a packet is older than PACKET_S; `now` is monotonic."""

    def hush(self) -> None:
        """Be read no more, for good."""

    def leave(self) -> None:
        """Close, once everything that is owed has gone out."""

    def cut(self) -> None:
        """Close now."""


class Door:
    """See the module."""

    def __init__(
        self, spool: Spool, forwarder: InFlight, host: str, version: str, max_payload: int, max_connections: int
    ) -> None:
        self.spool = spool
        self.answers = Answers(b"H:" + host.encode("ascii", "replace")[:HOST_BYTES] + b":")
        self.desk = Desk(spool, forwarder, self.answers, version)
        self.max_payload = max_payload
        self.max_connections = max_connections
        self.connections: set[Guest] = set()
        self.buffer = bytearray(READ_BYTES)
        self.hushed = False
        #: requests that were answered with an ERROR, by its code
        self.refused: Counter[str] = Counter()
        self._unanswered = 0
        self._half = 0
        #: who waits for the one budget, and who, with how much, for the other
        self._waiting: set[Guest] = set()
        self._line: deque[tuple[Guest, int]] = deque()
        #: set when the last connection has gone
        self._empty = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    # -- connections -----------------------------------------------------------------------------------------------

    def come(self, connection: Guest) -> bool:
        """A connection has begun; False when there are too many."""
        if len(self.connections) >= self.max_connections:
            return False
        self.connections.add(connection)
        self._empty.clear()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        return True

    def left(self, connection: Guest) -> None:
        """A connection is over."""
        self.connections.discard(connection)
        self._waiting.discard(connection)
        if not self.connections:
            self._empty.set()

    def hush(self) -> None:
        """Read from nobody any more: the agent stops."""
        self.hushed = True
        for connection in self.connections:
            connection.hush()

    async def leave(self, timeout_s: float) -> None:
        """Close every connection once its answers are written; who does not read them has `timeout_s` seconds."""
        for connection in list(self.connections):
            connection.leave()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout_s)
        for connection in list(self.connections):
            connection.cut()

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        for connection in list(self.connections):
            connection.look(loop.time())
        if self.connections:
            self._timer = loop.call_later(LOOK_S, self._look)

    # -- what is unanswered ----------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """True while nobody is read from."""
        return self._unanswered >= UNANSWERED_BYTES_IN_ALL

    def owe(self, size: int) -> None:
        """So many bytes more are unanswered."""
        self._unanswered += size

    def wait(self, connection: Guest) -> None:
        """Have this connection resumed once there is room again."""
        self._waiting.add(connection)

    def answered(self, size: int) -> None:
        """So many bytes have their answer."""
        self._unanswered -= size
        if self._waiting and not self.full:
            waiting, self._waiting = self._waiting, set()
            for connection in waiting:
                connection.go_on()

    # -- half packets ----------------------------------------------------------------------------------------------

    def reserve(self, connection: Guest, size: int) -> bool:
        """Room for a packet of `size` bytes; False when it has to wait, and is told to go on when there is."""
        if self._line or (self._half and self._half + size > HALF_BYTES):
            self._line.append((connection, size))
            return False
        self._half += size
        return True

    def release(self, size: int) -> None:
        """A packet is complete, or its caller is gone: who is next goes on, with its room reserved."""
        self._half -= size
        self._advance()

    def _advance(self) -> None:
        while self._line and (not self._half or self._half + self._line[0][1] <= HALF_BYTES):
            connection, wanted = self._line.popleft()
            self._half += wanted
            connection.go_on()

    def in_line(self, connection: Guest) -> bool:
        """True while this connection waits for room."""
        return any(one[0] is connection for one in self._line)

    def give_up(self, connection: Guest) -> bool:
        """Whoever waits for room waits no longer; True when it stood in line still."""
        before = len(self._line)
        self._line = deque(one for one in self._line if one[0] is not connection)
        stood = len(self._line) < before
        if stood:
            self._advance()
        return stood
