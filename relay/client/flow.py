"""A row of casts on their way to the agent: what is to be sent, what is unanswered, what can be given to the caller.

The theory.  Casts stand in one row, in the caller's order.  From the left: those with an answer, which the caller gets;
those that this connection has been given; those still to be sent.  An answer belongs to the leftmost cast without one,
because the agent answers in order.

    [answered ... | given to this connection ... | still to be sent ...]
                  '---------- unanswered ------------------------------'

When a connection is lost its part of the row is *in doubt* (on disk, or not) and is sent once more, under the same
uniques, on a new connection: the agent gives the first handle again to what it has already.  That is why a cast is
packed once and keeps its packet.  An ERROR that closes the connection answers everything unanswered: the agent reads
nothing after it.

What is lost when:
    kept connection, nothing of it sent   -> a new connection, not counted: the agent was restarted meanwhile
    the connection, otherwise             -> a new connection, once and after FAREWELL_S; it counts until something
                                             is answered
    no new connection, something in doubt -> try to connect until the time is up, then Unanswered
    no new connection, nothing in doubt   -> Unavailable, at once
    the time is up                        -> Unanswered if something is in doubt, else Unavailable

Both shells (blocking, asyncio) feed it and do what it says.  No I/O; of the clock only what goes into a unique and a
delay: `patience_s` is what is left of the timeout, and the shell takes from it the time that it spends.  Bounded: a
caller adds only while there is `room`.

The window is small enough to write without reading: WINDOW_CASTS answers of at most some 120 bytes fit in what the
agent buffers for a caller that does not read (64 KiB), so the two never wait for each other.  The alternative, to wait
for both directions at once, needs a selector for each connection, and eventlet has none that works after a fork.

Raises what `relay.client.errors` says, with the unanswered casts on it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from itertools import dropwhile, islice
from typing import Any

from relay.client.errors import CLOSING, Rejected, Unanswered, Unavailable, rejected
from relay.client.submission import Cast, submission
from relay.protocol.framing import BadFrame, Framer, Packet
from relay.protocol.packets import RES, Kind

#: casts that may be unanswered
WINDOW_CASTS = 500
#: bytes of packets that may be unanswered; one more always fits
WINDOW_BYTES = 2 * 1024 * 1024
#: casts added before the shell sends them
BATCH = 125
#: seconds that an item may take to come before what is there already is sent
LINGER_S = 0.005
#: new connections that may be lost without an answer between them
TRIES = 2
#: seconds between two tries to connect while something is in doubt, or the agent's backlog of connections is full
PAUSE_S = 0.02
#: seconds between the loss of a connection and the next one: an agent that is killed closes its connections before the
#: socket it listens on, and what connects in between is lost as well
FAREWELL_S = 0.1
#: bytes kept of an answer
_KEEP = 8192


class _Slot:
    """A cast in the row."""

    __slots__ = ("answer", "cast", "packet")

    def __init__(self, cast: Cast, packet: bytes, answer: Rejected | None = None) -> None:
        self.cast = cast
        self.packet = packet
        self.answer: str | Rejected | None = answer


class Flow:
    """See the module; `timeout_s` is the longest time without an answer."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        #: seconds that are left of the timeout
        self.patience_s = timeout_s
        #: the whole row, and the part of it without an answer
        self._row: deque[_Slot] = deque()
        self._unanswered: deque[_Slot] = deque()
        self._bytes = 0
        #: of the unanswered, from the left: how many this connection was given, and how many a lost one was
        self._given = 0
        self._doubtful = 0
        #: new connections lost since the last answer
        self._losses = 0
        self._answered = False
        #: True until the first connection
        self.untried = True
        self._kept = False
        self._touched = False
        self._closed = False
        self._framer = Framer(frozenset((RES,)), _KEEP, _KEEP)

    # -- the caller's side -------------------------------------------------------------------------------------------

    @property
    def room(self) -> bool:
        """True while another cast may be added."""
        return len(self._row) < WINDOW_CASTS and self._bytes < WINDOW_BYTES

    @property
    def settled(self) -> bool:
        """True when every cast has its answer."""
        return not self._unanswered

    @property
    def has_answers(self) -> bool:
        """True when `answers` has something to give."""
        return bool(self._row) and self._row[0].answer is not None

    def add(self, item: Cast | tuple[Any, ...]) -> None:
        """One cast more; TypeError or ValueError if it is none.  One that cannot be sent is rejected at once."""
        try:
            cast, packet = submission(time.time_ns(), os.urandom(10), *item)
        except Rejected as error:
            self._row.append(_Slot(error.casts[0], b"", error))
            return
        slot = _Slot(cast, packet)
        self._row.append(slot)
        self._unanswered.append(slot)
        self._bytes += len(packet)

    def answers(self) -> Iterator[str | Rejected]:
        """The answers that are next in the caller's order; each is given once."""
        row = self._row
        while row and row[0].answer is not None:
            answer = row.popleft().answer
            assert answer is not None
            yield answer

    # -- the shell's side: a connection ------------------------------------------------------------------------------

    @property
    def reusable(self) -> bool:
        """True when nothing more can come on this connection: it may carry other casts."""
        return not (self._unanswered or self._closed or self._framer.midway)

    @property
    def worth_reading(self) -> bool:
        """True where a connection that takes nothing more may hold an answer: it was given something, or is new."""
        return self._touched or not self._kept

    def connected(self, *, kept: bool) -> None:
        """Go on with this connection, a new one or one that was kept."""
        self.untried = False
        self._kept = kept
        self._given = 0
        self._touched = self._closed = False
        self._framer = Framer(frozenset((RES,)), _KEEP, _KEEP)

    def outgoing(self) -> bytes:
        """What is to be sent; it is not given again on this connection."""
        if not self._given:
            # all that this connection was given is answered: what follows has not touched it yet
            self._touched = False
        packets = [slot.packet for slot in islice(self._unanswered, self._given, None)]
        self._given = len(self._unanswered)
        return packets[0] if len(packets) == 1 else b"".join(packets)

    def sent(self) -> None:
        """Some of it has left."""
        self._touched = True

    def feed(self, data: bytes) -> None:
        """What came; raises Unanswered where these are no answers of a relay-agent's."""
        try:
            self._take(self._framer.feed(data))
        except BadFrame as error:
            self._take(error.packets)
            raise self._broken(str(error)) from error

    def turned(self, left_s: float) -> None:
        """A turn of sending and reading is over, with so much left of the time it had."""
        self.patience_s = self._timeout_s if self._answered or self.settled else left_s
        self._answered = False

    # -- the shell's side: when it goes wrong ------------------------------------------------------------------------

    def lost(self, error: OSError) -> float:
        """The connection is gone: the seconds after which a new one is worth a try, if one is; else raises."""
        if self._touched:
            self._doubtful = max(self._doubtful, self._given)
        elif self._kept:
            return 0.0
        self._losses += 1
        if self._losses >= TRIES:
            raise self.late(f"the connection was lost, twice ({error})") from error
        return FAREWELL_S

    def refused(self, error: OSError, path: str) -> None:
        """There is no new connection: returns if waiting for one is right, else raises Unavailable."""
        # a full backlog of connections is a busy agent, not an absent one
        if not self._doubtful and not isinstance(error, BlockingIOError):
            raise Unavailable(
                f"no relay-agent takes casts at {path}: {error.strerror or error}", self._pending()
            ) from error

    def late(self, why: str) -> Unanswered | Unavailable:
        """What to raise once the time is up, or nothing is left to try."""
        if self._doubtful or self._touched:
            return Unanswered(f"{why}; the cast may be on disk: cast again with the same unique", self._pending())
        return Unavailable(f"{why}; nothing was sent", self._pending())

    @property
    def timeout(self) -> str:
        """The time that is up, in words."""
        return f"no answer in {self._timeout_s:g} s"

    # -- the inside --------------------------------------------------------------------------------------------------

    def _take(self, packets: list[Packet]) -> None:
        for kind, body in packets:
            if self._closed:
                return
            text = body.decode("utf-8", "backslashreplace")
            if kind == Kind.JOB_CREATED and self._given:
                self._answered_by().answer = text
            elif kind == Kind.ERROR:
                code, _, sentence = text.partition("\0")
                self._refuse(code, sentence)
            else:
                raise self._broken(f"a packet of type {kind} answers no cast")

    def _answered_by(self) -> _Slot:
        """The leftmost cast without an answer, which is about to get it."""
        slot = self._unanswered.popleft()
        self._bytes -= len(slot.packet)
        slot.packet = b""
        if self._given:
            self._given -= 1
        if self._doubtful:
            self._doubtful -= 1
        self._losses = 0
        self._answered = self._kept = True
        return slot

    def _refuse(self, code: str, text: str) -> None:
        self._closed = code in CLOSING
        if not self._given and not self._closed:
            raise self._broken(f"ERROR {code} answers no cast")
        while self._unanswered:
            in_doubt = self._doubtful > 0
            slot = self._answered_by()
            slot.answer = error = rejected(code, text, slot.cast)
            error.in_doubt = error.in_doubt or in_doubt
            if not self._closed:
                return

    def _broken(self, what: str) -> Unanswered:
        return Unanswered(f"what answered is no relay-agent: {what}", self._pending())

    def _pending(self) -> tuple[Cast, ...]:
        """All that the caller will get no answer for, in order."""
        return tuple(slot.cast for slot in dropwhile(lambda slot: slot.answer is not None, self._row))
