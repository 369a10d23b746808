"""What the connections of one intake share: the spool, the handles' prefix, and the budgets that bound them all.

Two budgets.  *Unanswered*: what callers have been promised an answer for, in bytes, from the read to the writing of the
answer; while it is full nobody is read from, and who has waited longest is the first to be read again.  *Half packets*:
`room`, for packets that are large.  A packet that has begun must end within PACKET_S, waiting for room not counted.

Runs in the event loop's thread; never fails.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Protocol

from relay.intake import room
from relay.intake.inquiry import Desk, InFlight
from relay.protocol.caller import Answers
from relay.spool.spool import Spool

#: bytes that all callers together may have unanswered before none is read from
UNANSWERED_BYTES_IN_ALL = 32 * 1024 * 1024
#: seconds that the rest of a packet may take
PACKET_S = 30.0
#: seconds after which a caller that does not read its answers is cut off, while others wait for the memory they hold
DEAF_S = 1.0
#: seconds between two looks for packets that take too long, or hold up others
LOOK_S = 1.0
#: bytes of one read, and of one while callers share the writer: then others are read between two of them
READ_BYTES = 256 * 1024
SHARED_READ_BYTES = 32 * 1024
#: bytes of a host's name in a handle
HOST_BYTES = 40


class Guest(room.Guest, Protocol):
    """What the door knows of a connection; told to go on, it may find that something else speaks against it."""

    def look(self, now: float) -> None:
        """Give up if half a packet is older than PACKET_S; `now` is monotonic."""

    def last_words(self) -> bool:
        """Be read to the end of what its caller has sent by now; False where no such end can be set."""

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
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.small_buffer = self.buffer[:SHARED_READ_BYTES]
        self.hushed = False
        #: requests that were answered with an ERROR, by its code
        self.refused: Counter[str] = Counter()
        self.room = room.Room()
        self._unanswered = 0
        #: True while more than one caller casts, as seen since the look before the last one
        self.shared = False
        #: who cast last, and whether somebody else had before, since the last look
        self._caster: Guest | None = None
        self._in_turn = False
        #: who waits for the budget, longest first (a set that keeps the order)
        self._waiting: dict[Guest, None] = {}
        self._resuming = False
        #: whose last words are still to be read, and set when there are none left
        self._speaking: set[Guest] = set()
        self._silent = asyncio.Event()
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
        self._waiting.pop(connection, None)
        if connection is self._caster:
            self._caster = None
        self.silent(connection)
        if not self.connections:
            self._empty.set()

    async def hush(self, timeout_s: float) -> None:
        """Read what callers have sent by now, for `timeout_s` seconds at most, and from then on from nobody.

        It is read as fast as it can be: the writer is not shared any more.
        """
        self._speaking = {connection for connection in self.connections if connection.last_words()}
        self.hushed = True
        self.shared = self._in_turn = False
        if self._speaking:
            self._silent.clear()
            for connection in list(self._speaking):
                # nobody's share is what keeps its last words
                connection.go_on()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._silent.wait(), timeout_s)
        for connection in list(self.connections):
            connection.hush()

    def silent(self, connection: Guest) -> None:
        """All that this caller ever says has been read."""
        self._speaking.discard(connection)
        if not self._speaking:
            self._silent.set()

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
        # there is no other look while nobody is there
        self.shared, self._in_turn = self._in_turn and bool(self.connections), False
        for connection in list(self.connections):
            connection.look(loop.time())
        self.room.look()
        if self.connections:
            self._timer = loop.call_later(LOOK_S, self._look)

    # -- the writer ------------------------------------------------------------------------------------------------

    def cast(self, connection: Guest) -> None:
        """It hands casts to the writer."""
        if connection is not self._caster:
            if self._caster is not None and not self.hushed:
                self.shared = self._in_turn = True
            self._caster = connection

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
        self._waiting[connection] = None

    def answered(self, size: int) -> None:
        """So many bytes have their answer."""
        self._unanswered -= size
        if not self._waiting or self.full or self._resuming:
            return
        # who goes on may be answered at once, which leads here again: one loop, not one within another
        self._resuming = True
        try:
            while self._waiting and not self.full:
                connection = next(iter(self._waiting))
                del self._waiting[connection]
                connection.go_on()
        finally:
            self._resuming = False
