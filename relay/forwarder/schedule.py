"""Whose turn it is: lanes take turns, and a lane that cannot move is not looked at.

Two rings, because there are two windows: moving lanes share the upstream's, the others an allowance of their own.  A
lane stands in a ring only while it has casts in memory and room in its own window; when a ring's window is full nothing
in it is touched, so ten thousand lanes that stand still cost nothing to those that move.  Each turn is QUANTUM casts at
most.  Pure; `now` is an argument.
"""

from __future__ import annotations

from collections import deque

from relay.forwarder.lanes import Flight, Lane
from relay.forwarder.window import UpstreamWindow
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
        if lane.queued or lane.parked or now < lane.not_before:
            return
        lane.window.lapse(now)
        if lane.waiting and lane.window.room(self.limits):
            lane.queued = True
            self._ring_of(lane).append(lane)

    def pick(self, now: float) -> list[Flight]:
        """The casts to be sent now, counted into the windows; empty when nothing may go."""
        out: list[Flight] = []
        for ring in (self._moving, self._others):
            while ring:
                lane = ring[0]
                if lane.parked:
                    ring.popleft()
                    lane.queued = False
                    continue
                if lane.window.lapse(now):
                    self._others.append(ring.popleft())
                    continue
                room = min(self.window.room(lane.window, self.limits), lane.window.room(self.limits), QUANTUM)
                if room <= 0 and (lane.window.room(self.limits) and not (lane.window.casts and ring is self._others)):
                    break  # the upstream's window is full for every lane of this ring
                ring.popleft()
                lane.queued = False
                # without room it has casts in flight, and enters again with a verdict of theirs
                if room > 0 and now >= lane.not_before:
                    out += self._send(lane, room, now)
                    self.enter(lane, now)
        return out

    def _ring_of(self, lane: Lane) -> deque[Lane]:
        return self._moving if lane.window.moving else self._others

    def _send(self, lane: Lane, room: int, now: float) -> list[Flight]:
        """Pull casts and count them in.  The bytes may be overshot by one cast, so that every cast fits."""
        flights = lane.pull(room)
        left = lane.window.most_bytes(self.limits) - lane.window.bytes
        size, limit = 0, min(left, self.window.bytes_left(lane.window, self.limits))
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
        self._moved(lane, was_moving)

    def failed(self, lane: Lane, size: int, now: float) -> None:
        """One of a lane's casts came back, not done."""
        window = lane.window
        was_moving = window.moving
        self.window.add(was_moving, -1, -size)
        window.failed(size, now)
        self._moved(lane, was_moving)

    def staffed(self, lane: Lane, now: float) -> None:
        """The upstream has workers for a lane: it is taken to move until it stalls."""
        was_moving = lane.window.moving
        lane.window.proven = True
        lane.window.heard_at = now
        self._moved(lane, was_moving)

    def check(self, lane: Lane, now: float) -> bool:
        """Notice that a lane has stalled; True when it just did."""
        was_moving = lane.window.moving
        if lane.window.check(now):
            self._moved(lane, was_moving)
            return True
        return False

    def _moved(self, lane: Lane, was_moving: bool) -> None:
        """A lane may have changed its class: what it has in flight, and its place in a ring, go with it."""
        if lane.window.moving == was_moving:
            return
        self.window.move(lane.window, was_moving)
        if lane.queued:
            (self._moving if was_moving else self._others).remove(lane)
            self._ring_of(lane).append(lane)

    def empty(self) -> None:
        """Nobody's turn: every lane is to enter anew."""
        for lane in (*self._moving, *self._others):
            lane.queued = False
        self._moving.clear()
        self._others.clear()

    def clear(self) -> None:
        """The link is gone: nobody is in flight, nobody's turn."""
        self.empty()
        self.window.reset()
