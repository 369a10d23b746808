"""Whose turn it is: lanes take turns, and a lane that cannot move is not looked at.

Two rings, because there are two windows: moving lanes share the upstream's, the others an allowance of their own.  A
lane stands in a ring only while it has casts in memory and room in its own window; when a ring's window is full nothing
in it is touched, so ten thousand lanes that stand still cost nothing to those that move.  Each turn is QUANTUM casts at
most.  Pure; `now` is an argument.
"""

from __future__ import annotations

from collections import deque

from relay.forwarder.lanes import Flight, Lane
from relay.forwarder.window import START_BYTES, TRIES, UpstreamWindow
from relay.settings import Forwarder as Limits

#: casts of one lane before it is the next one's turn
QUANTUM = 64


class Schedule:
    """The lanes that have something to send, for one upstream's window."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.window = UpstreamWindow()
        self._moving: deque[Lane] = deque()
        self._others: deque[Lane] = deque()

    def enter(self, lane: Lane, now: float) -> None:
        """Have this lane take turns, if it has something to send and room of its own."""
        if not lane.queued and now >= lane.not_before and lane.waiting and lane.window.room(self.limits):
            lane.queued = True
            (self._moving if lane.window.moving else self._others).append(lane)

    def pick(self, now: float) -> list[Flight]:
        """The casts to be sent now, counted into the windows; empty when nothing may go."""
        out: list[Flight] = []
        for ring in (self._moving, self._others):
            while ring:
                lane = ring[0]
                room = min(self.window.room(lane.window, self.limits), lane.window.room(self.limits), QUANTUM)
                if room <= 0 and self._full(ring):
                    break
                ring.popleft()
                lane.queued = False
                if room > 0 and now >= lane.not_before:
                    out += self._send(lane, room, now)
                    self.enter(lane, now)
        return out

    def _full(self, ring: deque[Lane]) -> bool:
        """True when no lane of this ring could send; one of the others without a cast in flight nearly always can.

        A lane that leaves the ring for lack of room has casts in flight, and comes back with a verdict of theirs.
        """
        if ring is self._moving:
            return ring[0].window.moving and ring[0].window.room(self.limits) > 0
        return self.window.others_bytes >= TRIES * self.limits.window_bytes

    def _send(self, lane: Lane, room: int, now: float) -> list[Flight]:
        """Pull casts and count them in.  The bytes may be overshot by one cast, so that every cast fits."""
        flights = lane.pull(room)
        most = self.limits.function_window_bytes if lane.window.moving else START_BYTES
        size, limit = 0, most - lane.window.bytes
        for number, flight in enumerate(flights):
            if number and size >= limit:
                for back in reversed(flights[number:]):
                    back.track.again.appendleft(back)
                del flights[number:]
                break
            size += flight.size
        lane.window.sent(len(flights), size, now)
        self.window.add(lane.window.moving, len(flights), size)
        return flights

    def completed(self, lane: Lane, casts: int, size: int, now: float) -> None:
        """So many of a lane's casts are done."""
        window = lane.window
        was_moving = window.moving
        self.window.add(was_moving, -casts, -size)
        window.completed(casts, size, now, self.limits)
        self.window.move(window, was_moving)

    def failed(self, lane: Lane, size: int, now: float) -> None:
        """One of a lane's casts came back, not done."""
        window = lane.window
        was_moving = window.moving
        self.window.add(was_moving, -1, -size)
        window.failed(size, now)
        self.window.move(window, was_moving)

    def check(self, lane: Lane, now: float) -> bool:
        """Notice that a lane has stalled; True when it just did."""
        was_moving = lane.window.moving
        if lane.window.check(now):
            self.window.move(lane.window, was_moving)
            return True
        return False

    def clear(self) -> None:
        """The link is gone: nobody is in flight, nobody's turn."""
        for lane in (*self._moving, *self._others):
            lane.queued = False
        self._moving.clear()
        self._others.clear()
        self.window.reset()
