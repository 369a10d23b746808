"""One caller's connection: an asyncio shell around protocol.caller.

Promises: answers go out in the order of the requests, JOB_CREATED only after the spool said that the cast is on disk.
What a caller has unanswered is bounded: beyond UNANSWERED_BYTES, or while all callers together have more than the
budget, or while it does not read its answers, nothing more is read from it.

When the caller goes away its casts stay: what was read is written, only the answers are dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from relay.cast import Arrival
from relay.doors import peer_uid
from relay.intake.inquiry import Desk, InFlight, Inquiry
from relay.protocol.caller import Answers, Conversation, Later, Question, refusal
from relay.spool.spool import Spool

#: payload bytes that one caller may have unanswered; one read more always fits
UNANSWERED_BYTES = 4 * 1024 * 1024
#: casts that one caller may have unanswered; one read more always fits
UNANSWERED_CASTS = 20_000
#: payload bytes that all callers together may have unanswered before none is read from
UNANSWERED_BYTES_IN_ALL = 64 * 1024 * 1024
#: answers to anything but casts that one caller may be owed; one read more always fits
OWED = 1000
#: bytes of answers after which it is looked at whether the caller reads them
WRITE_BYTES = 256 * 1024
#: bytes of one read
READ_BYTES = 256 * 1024


class Door:
    """What the connections of one intake share: the spool, the handles' prefix, and the budget."""

    def __init__(
        self, spool: Spool, forwarder: InFlight, host: str, version: str, max_payload: int, max_connections: int
    ) -> None:
        self.spool = spool
        self.answers = Answers(b"H:" + host.encode("ascii", "replace")[:40] + b":")
        self.desk = Desk(spool, forwarder, self.answers, version)
        self.max_payload = max_payload
        self.max_connections = max_connections
        self.connections: set[Connection] = set()
        self.unanswered = 0
        self.buffer = bytearray(READ_BYTES)
        #: connections that wait for the budget
        self._waiting: set[Connection] = set()
        #: set when the last connection has gone
        self._empty = asyncio.Event()

    @property
    def full(self) -> bool:
        """True while nobody is read from."""
        return self.unanswered >= UNANSWERED_BYTES_IN_ALL

    def wait(self, connection: Connection) -> None:
        """Have this connection resumed once there is room again."""
        self._waiting.add(connection)

    def answered(self, size: int) -> None:
        """So many payload bytes have their answer."""
        self.unanswered -= size
        if self._waiting and not self.full:
            waiting, self._waiting = self._waiting, set()
            for connection in waiting:
                connection.go_on()

    def hush(self) -> None:
        """Read from nobody any more: the agent stops."""
        for connection in self.connections:
            connection.hush()

    async def leave(self, timeout_s: float) -> None:
        """Close every connection once its answers are written; who does not read them has `timeout_s` seconds."""
        for connection in list(self.connections):
            connection.leave()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout_s)

    def come(self, connection: Connection) -> None:
        """A connection has begun."""
        self.connections.add(connection)
        self._empty.clear()

    def left(self, connection: Connection) -> None:
        """A connection is over."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()


class Connection(asyncio.BufferedProtocol):
    """See the module."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._conversation = Conversation(door.max_payload)
        self._transport: asyncio.Transport
        self._uid: int | None = None
        #: what is owed, in order: answers, or arrivals that will have theirs
        self._owed: deque[bytes | Arrival | Inquiry] = deque()
        self._unanswered = 0
        self._unanswered_casts = 0
        self._paused = False
        self._deaf = False
        self._gone = False
        self._leaving = False
        self._hushed = False

    # -- asyncio.BufferedProtocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller came."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        door = self._door
        if len(door.connections) >= door.max_connections:
            transport.write(refusal("too_many_connections"))
            transport.close()
            self._gone = True
            return
        door.come(self)
        self._uid = peer_uid(transport.get_extra_info("socket"))

    def get_buffer(self, sizehint: int) -> bytearray:
        """Where the next read goes: one buffer for all, because a read is cut up before the next one begins."""
        return self._door.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """A read."""
        self._read(bytes(memoryview(self._door.buffer)[:nbytes]))

    def eof_received(self) -> bool:
        """The caller sends no more; it still gets its answers."""
        self._leaving = True
        return bool(self._owed)

    def pause_writing(self) -> None:
        """The caller does not read its answers."""
        self._deaf = True
        self._pause()

    def resume_writing(self) -> None:
        """It reads them again."""
        self._deaf = False
        self._answer()
        self.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone; its casts are not."""
        self._gone = True
        self._door.left(self)
        self._owed.clear()

    # -- the inside ------------------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        for item in self._conversation.feed(data):
            if isinstance(item, bytes):
                self._owed.append(item)
                continue
            if isinstance(item, Question):
                self._owed.append(self._door.desk.ask(item, self._found))
                continue
            if isinstance(item, Later):
                arrival = Arrival([item.cast], self._uid, self._settled, item.not_before)
            else:
                arrival = Arrival(item, self._uid, self._settled)
            self._owed.append(arrival)
            self._unanswered += arrival.size
            self._unanswered_casts += len(arrival.casts)
            self._door.unanswered += arrival.size
            self._door.spool.append(arrival)
        self._answer()
        if self._has_enough() or self._door.full or self._conversation.closing:
            self._pause()

    def _has_enough(self) -> bool:
        """True while this caller is owed as much as it may be."""
        return (
            self._unanswered >= UNANSWERED_BYTES
            or self._unanswered_casts >= UNANSWERED_CASTS
            or len(self._owed) >= OWED
        )

    def _settled(self, arrival: Arrival) -> None:
        """The spool has answered for these casts."""
        self._unanswered -= arrival.size
        self._unanswered_casts -= len(arrival.casts)
        self._door.answered(arrival.size)
        if self._gone:
            return
        self._answer()
        if self._paused:
            self.go_on()

    def _answer(self) -> None:
        """Write every answer that is known, up to the first that is not, while the caller reads them."""
        owed = self._owed
        while owed and not self._deaf:
            out: list[bytes] = []
            size = 0
            while owed and size < WRITE_BYTES:
                answer = self._answer_to(owed[0])
                if answer is None:
                    break
                out.append(answer)
                size += len(answer)
                owed.popleft()
            if not out:
                break
            self._transport.write(b"".join(out))
        if not owed and (self._leaving or self._conversation.closing):
            self._transport.close()

    def _answer_to(self, first: bytes | Arrival | Inquiry) -> bytes | None:
        if isinstance(first, bytes):
            return first
        if isinstance(first, Inquiry):
            return first.answer
        return self._door.answers.to(first.outcome) if first.answered else None

    def _found(self) -> None:
        """An inquiry has its answer."""
        if not self._gone:
            self._answer()
            if self._paused:
                self.go_on()

    def hush(self) -> None:
        """Read no more, for good."""
        self._pause()
        self._hushed = True

    def leave(self) -> None:
        """Close once what is written has gone out."""
        self._transport.close()

    def _pause(self) -> None:
        if not self._paused and not self._gone:
            self._paused = True
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again, if nothing speaks against it."""
        if not self._paused or self._gone or self._deaf or self._hushed or self._conversation.closing:
            return
        if self._has_enough():
            return
        if self._door.full:
            self._door.wait(self)
            return
        self._paused = False
        self._transport.resume_reading()
