"""Room for large packets: whose may come in, whose waits, and who has to give way.

The theory.  A packet of more than SMALL bytes is read on only when there is room for all of it; HALF_BYTES is the room
there is, and one packet always fits.  Who finds none stands in line and is not read from.  The first in line is the
next, but one that has something to be read goes before all that have not: those wait for their own caller, not for
room.  A caller asks again for each packet, so one that sends many takes its place behind those that wait.

Who has room and does not use it would hold up the line.  So while somebody in it has something to be read, whoever has
brought less than a share of its packet since the last look (LOOK_S of PACKET_S: at that pace it would not be complete
in time) gives way: its caller is told `too_slow`.  A line behind callers that stand still thus moves at every look.

Runs in the event loop's thread, never fails, has no clock: `look` is called each LOOK_S.
"""

from __future__ import annotations

from typing import Protocol

#: bytes up to which a packet is read on without asking for room
SMALL = 64 * 1024
#: bytes of longer packets that may be on their way at a time; one always may
HALF_BYTES = 32 * 1024 * 1024


class Guest(Protocol):
    """What the room knows of a connection."""

    @property
    def eager(self) -> bool:
        """True when its caller has sent something that is not read yet."""

    @property
    def lags(self) -> bool:
        """True when its packet has hardly moved since the last look, and it is its caller who keeps it back."""

    def go_on(self) -> None:
        """There is room now."""

    def give_way(self) -> None:
        """Leave, because others wait."""


class Room:
    """See the module."""

    def __init__(self) -> None:
        #: who has room, and who stands in line, each with the size of its packet, in the order of coming
        self._held: dict[Guest, int] = {}
        self._line: dict[Guest, int] = {}
        self._taken = 0
        self._advancing = False

    def ask(self, guest: Guest, size: int) -> bool:
        """Room for a packet of `size` bytes; False when it has to wait, and is told to go on when there is."""
        self._line[guest] = size
        self._advance(guest)
        return guest not in self._line

    def waits(self, guest: Guest) -> bool:
        """True while it stands in line."""
        return guest in self._line

    def leave(self, guest: Guest) -> None:
        """Its packet is complete, or not wanted any more, whether it had room or stood in line."""
        self._line.pop(guest, None)
        self._taken -= self._held.pop(guest, 0)
        self._advance()

    def look(self) -> None:
        """Have those give way that hold up the line; called each LOOK_S."""
        for guest in [guest for guest in self._held if guest.lags]:
            # the one before may have made room for all who wait
            if not any(waiting.eager for waiting in self._line):
                break
            guest.give_way()

    def _advance(self, asking: Guest | None = None) -> None:
        """Let in whoever has room now; who asks just now need not be told."""
        if self._advancing:
            # who goes on may leave at once, and leaving leads here again: one loop, not one within another
            return
        self._advancing = True
        try:
            while self._line:
                guest = self._next()
                size = self._line[guest]
                if self._taken and self._taken + size > HALF_BYTES:
                    break
                del self._line[guest]
                self._held[guest] = size
                self._taken += size
                if guest is not asking:
                    guest.go_on()
        finally:
            self._advancing = False

    def _next(self) -> Guest:
        first = next(iter(self._line))
        if len(self._line) == 1:
            return first
        return next((guest for guest in self._line if guest.eager), first)
