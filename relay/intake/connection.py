"""One caller's connection: an asyncio shell around protocol.caller.

Promises: answers go out in the order of the requests, JOB_CREATED only after the spool said that the cast is on disk.
What a caller is owed is bounded: beyond UNANSWERED_BYTES, or while all callers together fill the door's budget, or
while it does not read its answers, nothing more is read from it.  One read more always fits.  A caller with much to say
shares the writer with others: while they cast too, it has SHARE_CASTS casts there and SHARE_BYTES unanswered, so that
a COMMIT that another one's cast waits for is a short one.

When the caller goes away its casts stay: what was read is written, only the answers are dropped.  When the agent stops,
a caller on a unix socket can send no more, and what has come from it by then, on TCP too, is read and answered.  On TCP
a close with something unread would take back what was answered last: what still comes is dropped until that is there,
for PACKET_S at most.
"""

from __future__ import annotations

import asyncio
import socket

from relay.cast import Arrival
from relay.doors import peer_uid
from relay.intake import kernel
from relay.intake.door import DEAF_S, LOOK_S, PACKET_S, Door
from relay.intake.inquiry import Inquiry
from relay.intake.owed import Owed, Owing, Said
from relay.intake.room import SMALL
from relay.protocol.caller import Conversation, Later, Question, refusal, refused_code

#: bytes that one caller may have unanswered
UNANSWERED_BYTES = 4 * 1024 * 1024
#: what a cast, an answer and a question cost beside their bytes while they are unanswered
CAST_BYTES = 200
ITEM_BYTES = 120
QUESTION_BYTES = 1500
#: bytes of a read that are taken at a time, so that what they cost is known before the next are
SLICE_BYTES = 64 * 1024
#: casts that the writer may have of one caller while others cast too, and bytes that it may have unanswered then (more
#: than a transport holds back without a word); one read more always fits
SHARE_CASTS = 256
SHARE_BYTES = 512 * 1024


class Connection(asyncio.BufferedProtocol):
    """See the module."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._conversation = Conversation(door.max_payload)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._socket: socket.socket
        self._uid: int | None = None
        self._owed = Owing(door.answers)
        #: what is owed costs so much, and so many casts are in the writer's hands
        self._unanswered = 0
        self._unwritten = 0
        #: bytes that the kernel has not taken yet, counted as unanswered, and what was read but not looked at
        self._unsent = 0
        self._unread = b""
        #: what each item costs that the spool had not answered for when the caller went away
        self._waiting: dict[Arrival | Inquiry, int] = {}
        #: when the half packet began (None: there is none), its size if that is large, and whether it waits for room
        self._began_at: float | None = None
        self._large = 0
        self._in_line = False
        #: since when it has room; bytes read since the last look, and from that look to the one before
        self._room_at = 0.0
        self._brought = 0
        self._moved = 0
        self._paused = False
        #: since when it does not read its answers
        self._deaf_at: float | None = None
        self._gone = False
        self._leaving = False
        self._hushed = False
        #: bytes that the kernel still holds of what its last words are, None where no such number is set
        self._last: int | None = None
        #: since when what comes is dropped, because all is answered
        self._over_at: float | None = None

    # -- asyncio.BufferedProtocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller came."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._door.come(self):
            self._door.refused["too_many_connections"] += 1
            transport.write(refusal("too_many_connections"))
            transport.close()
            self._gone = True
            return
        self._socket = transport.get_extra_info("socket")
        self._uid = peer_uid(self._socket)
        if self._door.hushed:
            self.hush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next read goes: one buffer for all, because a read is cut up before the next one begins."""
        return self._door.small_buffer if self._door.shared and not self._large else self._door.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """A read."""
        self._brought += nbytes
        if not self._gone and self._over_at is None:
            self._take(bytes(self._door.buffer[:nbytes]))
        if self._last is not None:
            self._last -= nbytes
            self._said_all()

    def eof_received(self) -> bool:
        """The caller sends no more; it still gets its answers."""
        self._leaving = True
        self._door.silent(self)
        # closing sends what is written already
        return bool(self._owed or self._unread)

    def pause_writing(self) -> None:
        """The caller does not read its answers."""
        self._deaf_at = self._loop.time()
        self._pause()

    def resume_writing(self) -> None:
        """It reads them again."""
        self._deaf_at = None
        # later, because asyncio calls this from within its own writing, where a close would happen twice
        self._loop.call_soon(self._heard)

    def _heard(self) -> None:
        if not self._gone:
            self._count_unsent()
            self._answer()
            self.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone; its casts are not."""
        self._gone = True
        self._door.left(self)
        # what waits for the writer is memory still: it is counted until it is settled
        self._waiting = self._owed.forget()
        self._door.answered(self._unanswered - sum(self._waiting.values()))
        self._unanswered = 0
        self._free_room()

    # -- reading ---------------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        """Go through a read, piece by piece, until it is done or the caller is owed enough."""
        at = 0
        while at < len(data):
            self._read(data[at : at + SLICE_BYTES])
            at += SLICE_BYTES
            if self._paused or self._gone:
                break
        # what stands behind the end of a conversation is never read
        self._unread = b"" if self._conversation.closing else data[at:]

    def _read(self, data: bytes) -> None:
        turn = self._conversation.feed(data)
        # a cast's names are memory too; they are not counted one by one
        share = len(data) // (len(turn) or 1)
        for item in turn:
            if isinstance(item, bytes):
                self._owe(item, ITEM_BYTES + len(item))
                code = refused_code(item)
                if code is not None:
                    self._door.refused[code] += 1
            elif isinstance(item, Question):
                self._owe(self._door.desk.ask(item, self._settled), QUESTION_BYTES + len(item.about))
            else:
                if isinstance(item, Later):
                    arrival = Arrival([item.cast], self._uid, self._settled, item.not_before)
                else:
                    arrival = Arrival(item, self._uid, self._settled)
                self._owe(arrival, max(arrival.size, share) + CAST_BYTES * len(arrival.casts))
                self._unwritten += len(arrival.casts)
                self._door.cast(self)
                self._door.spool.append(arrival)
        self._answer()
        self._consider_half(bool(turn))
        if self._busy or self._door.full or self._conversation.closing or self._in_line:
            self._pause()

    @property
    def _busy(self) -> bool:
        """True while it is owed enough."""
        if self._door.shared:
            return self._unwritten >= SHARE_CASTS or self._unanswered >= SHARE_BYTES
        return self._unanswered >= UNANSWERED_BYTES

    def _owe(self, item: Owed, cost: int) -> None:
        self._owed.add(item, cost)
        self._unanswered += cost
        self._door.owe(cost)

    def _consider_half(self, progressed: bool) -> None:
        """After a read: is half a packet here, since when, and is there room for the rest of it."""
        if not self._conversation.midway:
            self._began_at = None
        elif self._began_at is None or progressed:
            self._began_at = self._loop.time()
        size = self._conversation.expected
        large = size if size > SMALL else 0
        # one that follows another has to ask for itself, or who sends many would keep its room from all others
        if large != self._large or (large and progressed):
            self._free_room()
            if large:
                self._large = large
                self._room_at = self._loop.time()
                self._in_line = not self._door.room.ask(self, large)

    def _free_room(self) -> None:
        if self._large:
            self._large = 0
            self._in_line = False
            self._door.room.leave(self)

    @property
    def eager(self) -> bool:
        """True when the caller has sent something that is not read yet."""
        if self._unread:
            return True
        return kernel.unread(self._socket) > 0

    @property
    def lags(self) -> bool:
        """True when a large packet has hardly moved since the last look, and it is its caller who keeps it back."""
        if self._deaf_at is not None:
            return True
        if self._paused or self._loop.time() - self._room_at < LOOK_S or self.eager:
            return False
        return self._moved < self._large * LOOK_S / PACKET_S

    def give_way(self) -> None:
        """Others wait for the room that this caller does not use."""
        if self._deaf_at is not None:
            self._transport.abort()
        else:
            self._refuse_the_rest()

    def look(self, now: float) -> None:
        """Give up on a caller whose half packet is older than PACKET_S, unless it is we who do not read.

        One that does not read its answers is cut off for that too, without a word, and also when the memory that
        its answers hold is what others wait for.
        """
        self._count_unsent()
        self._moved, self._brought = self._brought, 0
        if self._over_at is not None and (not self._untaken or now - self._over_at > PACKET_S):
            self._transport.close()
        if self._deaf_at is not None and self._door.full and now - self._deaf_at >= DEAF_S:
            self._transport.abort()
        if self._in_line and self.eager:
            # it waits for room; one that has nothing to be read waits for its caller
            self._began_at = now
        if self._began_at is None or now - self._began_at <= PACKET_S:
            return
        if self._deaf_at is not None:
            self._transport.abort()
        elif not self._paused or self._in_line:
            self._refuse_the_rest()

    def _refuse_the_rest(self) -> None:
        """Tell the caller that it was too slow, and let go of what it began."""
        self._conversation.end()
        self._began_at = None
        self._free_room()
        self._pause()
        self._door.refused["too_slow"] += 1
        self._owe(refusal("too_slow"), ITEM_BYTES)
        self._answer()

    # -- answering -------------------------------------------------------------------------------------------------

    def _settled(self, item: Arrival | Inquiry) -> None:
        """The spool has answered for these casts, or this question."""
        if type(item) is Arrival:
            self._unwritten -= len(item.casts)
            if type(item.outcome) is not range:
                self._door.refused.update([code for code in item.outcome if isinstance(code, str)])
        if self._gone:
            self._door.answered(self._waiting.pop(item, 0))
            return
        self._answer()
        if self._paused:
            self.go_on()

    def _answer(self) -> None:
        """Write every answer that is known, up to the first that is not, while the caller reads them."""
        said: Said = {}
        while self._deaf_at is None and not self._transport.is_closing():
            answers, cost = self._owed.next(said)
            if not answers:
                break
            self._unanswered -= cost
            self._transport.write(answers)
            self._count_unsent()
            # last: where this makes room for all, it may lead here again
            self._door.answered(cost)
        if not self._owed and not self._unread and (self._leaving or self._conversation.closing):
            self._end()

    def _end(self) -> None:
        """Close; on TCP not before all answers have reached the caller's kernel, where it may send more meanwhile."""
        if self._over_at is not None or self._transport.is_closing():
            return
        speaking = self._conversation.closing or self._hushed
        if not speaking or self._socket.family == socket.AF_UNIX or not self._untaken:
            self._transport.close()
            return
        self._over_at = self._loop.time()
        try:
            self._transport.write_eof()
        except OSError:
            # it is gone already
            self._transport.abort()
        self._transport.resume_reading()

    @property
    def _untaken(self) -> bool:
        return self._transport.get_write_buffer_size() > 0 or kernel.untaken(self._socket) > 0

    def _count_unsent(self) -> None:
        """What the kernel has not taken yet is memory of ours: it stays counted."""
        unsent = self._transport.get_write_buffer_size()
        change, self._unsent = unsent - self._unsent, unsent
        self._unanswered += change
        if change > 0:
            self._door.owe(change)
        else:
            self._door.answered(-change)

    # -- the flow --------------------------------------------------------------------------------------------------

    def last_words(self) -> bool:
        """Let the caller send no more; True when what it has sent is still to be read to its end."""
        if self._leaving or self._conversation.closing or self._transport.is_closing():
            return False
        if self._socket.family == socket.AF_UNIX:
            # what has been sent stays to be read, and then comes the end
            self._socket.shutdown(socket.SHUT_RD)
            return True
        # on TCP no such end can be set: what has come so far is counted
        self._last = kernel.unread(self._socket)
        return bool(self._last or self._unread)

    def _said_all(self) -> None:
        """Be read no more once the last words are taken."""
        if self._last is not None and self._last <= 0 and not self._unread:
            self._last = None
            self._door.silent(self)
            self.hush()

    def hush(self) -> None:
        """Read no more, for good."""
        self._hushed = True
        self._pause()

    def leave(self) -> None:
        """Close once everything that is owed has gone out."""
        self._leaving = True
        self._unread = b""
        self._answer()

    def cut(self) -> None:
        """Close now."""
        self._transport.abort()

    def _pause(self) -> None:
        """Read no more until `go_on`; who waits for the door's budget is told when there is room."""
        if self._door.full:
            self._door.wait(self)
        self._paused = True
        if not self._gone and self._over_at is None and self._transport.is_reading():
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again, if nothing speaks against it."""
        if self._in_line and not self._door.room.waits(self):
            # there is room for us; the time that we waited is not the caller's
            self._in_line = False
            self._room_at = self._began_at = self._loop.time()
        if not self._paused or self._gone or self._deaf_at is not None or self._hushed or self._in_line:
            return
        if self._conversation.closing or self._busy:
            return
        if self._door.full:
            self._door.wait(self)
            return
        self._paused = False
        if self._began_at is not None:
            # nor is the time that it was not read from
            self._room_at = self._began_at = self._loop.time()
        if self._unread:
            self._take(self._unread)
            self._said_all()
        if self._leaving or self._conversation.closing:
            # what was left was perhaps its last
            self._answer()
        elif not self._paused and not self._gone and not self._transport.is_reading():
            self._transport.resume_reading()
