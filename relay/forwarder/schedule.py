"""Whose turn it is at one upstream: lanes take turns, and a lane that cannot move is not looked at.

Two rings: of lanes that move, and of those that are trying or stalled, which may have less than the whole window.  The
latter come first, or those that move would leave them no room.  A lane's share stands in a ring only while the lane has
casts in memory, sends them here, and has room in its own window; when there is no room for a ring nothing in it is
touched, so ten thousand lanes that stand still cost nothing to those that move.  Each turn is QUANTUM casts at most.  A
lane whose function the server has trouble with rests for a while, here only.  Pure; `now` is an argument.
"""

from __future__ import annotations

from collections import deque

from relay.forwarder.lanes import Flight, Lane, Share
from relay.forwarder.window import Side, UpstreamWindow
from relay.settings import Forwarder as Limits

#: casts of one lane before it is the next one's turn
QUANTUM = 64


class Schedule:
    """The lanes that have something to send, for one upstream's window."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.window = UpstreamWindow()
        self.shares: dict[Lane, Share] = {}
        self._moving: deque[Share] = deque()
        self._others: deque[Share] = deque()
        #: those with casts in flight here that have not stalled, and those that rest
        self._flying: set[Share] = set()
        self._resting: set[Share] = set()

    def share(self, lane: Lane) -> Share:
        """What the lane has of this upstream, made when it is new."""
        share = self.shares.get(lane)
        if share is None:
            share = self.shares[lane] = Share(lane, self)
            lane.shares.append(share)
        return share

    def enter(self, share: Share, now: float) -> None:
        """Have this lane take turns, if it has something to send here and room of its own."""
        if share.queued or not share.routed or share.parked or share.lane.fences or now < share.not_before:
            return
        share.window.lapse(now)
        if share.lane.waiting and share.window.room(share.lane.rule):
            share.queued = True
            self._ring_of(share).append(share)

    def pick(self, now: float, most: int = 1 << 30) -> list[Flight]:
        """The casts to be sent now, `most` at most, counted into the windows; empty when nothing may go."""
        out: list[Flight] = []
        for ring in (self._others, self._moving):
            while ring and len(out) < most:
                share = ring[0]
                if share.parked or not share.routed or share.lane.fences:
                    ring.popleft()
                    share.queued = False
                    continue
                if share.window.lapse(now):
                    self._others.append(ring.popleft())
                    continue
                room = min(self.window.room(share.window, self.limits), share.window.room(share.lane.rule), QUANTUM)
                if room <= 0 and (
                    share.window.room(share.lane.rule) and not (share.window.casts and ring is self._others)
                ):
                    break  # the upstream's window is full for every lane of this ring
                ring.popleft()
                share.queued = False
                # without room it has casts in flight, and enters again with a verdict of theirs
                if room > 0 and now >= share.not_before:
                    out += self._send(share, min(room, most - len(out)), now)
                    self.enter(share, now)
        return out

    def _ring_of(self, share: Share) -> deque[Share]:
        return self._moving if share.window.moving else self._others

    def _send(self, share: Share, room: int, now: float) -> list[Flight]:
        """Pull casts and count them in.  The bytes may be overshot by one cast, so that every cast fits."""
        flights = share.lane.pull(room)
        if not flights:
            return flights
        left = share.window.most_bytes(share.lane.rule) - share.window.bytes
        size, limit = 0, min(left, self.window.bytes_left(share.window, self.limits))
        for number, flight in enumerate(flights):
            if number and size >= limit:
                for back in reversed(flights[number:]):
                    back.track.again.insert(0, back)
                del flights[number:]
                break
            size += flight.size
        share.window.sent(len(flights), size, now)
        self.window.add(share.window.side, len(flights), size)
        self._flying.add(share)
        return flights

    def sent(self, share: Share, size: int, now: float) -> None:
        """A cast goes out here beside what was picked."""
        share.window.sent(1, size, now)
        self.window.add(share.window.side, 1, size)
        self._flying.add(share)

    def withdrawn(self, share: Share, size: int) -> None:
        """One of a lane's casts was picked, and is not to be sent."""
        self.window.add(share.window.side, -1, -size)
        share.window.casts -= 1
        share.window.bytes -= size

    def completed(self, share: Share, casts: int, size: int, now: float) -> None:
        """So many of a lane's casts are done."""
        window = share.window
        was = window.side
        self.window.add(was, -casts, -size)
        window.completed(casts, size, now, share.lane.rule)
        self.window.open_to += casts
        share.troubles = 0
        self._moved(share, was)

    def failed(self, share: Share, size: int, now: float) -> None:
        """One of a lane's casts came back, not done."""
        window = share.window
        was = window.side
        self.window.add(was, -1, -size)
        window.failed(size, now)
        self._moved(share, was)

    def returned(self, share: Share, size: int) -> None:
        """One of a lane's casts came back without a verdict."""
        self.window.add(share.window.side, -1, -size)
        share.window.returned(size)

    def staffed(self, share: Share, now: float) -> None:
        """The upstream has workers for a lane: it is taken to move until it stalls."""
        was = share.window.side
        share.window.proven = True
        share.window.heard_at = now
        self._moved(share, was)

    def check(self, share: Share, now: float) -> bool:
        """Notice that a lane has stalled; True when it just did."""
        was = share.window.side
        if share.window.check(now):
            self._moved(share, was)
            return True
        return False

    def rest(self, share: Share, until: float) -> None:
        """Leave a lane alone here for a while."""
        share.not_before = until
        self._resting.add(share)

    def tick(self, now: float) -> None:
        """Notice which lanes have stalled, which have rested enough, and that the window opens."""
        self.window.tick(now)
        landed = [
            share for share in self._flying if not share.window.casts or share.window.stalled or self.check(share, now)
        ]
        self._flying.difference_update(landed)
        for share in [share for share in self._resting if now >= share.not_before]:
            self._resting.discard(share)
            self.enter(share, now)

    def _moved(self, share: Share, was: Side) -> None:
        """A lane may have changed sides: what it has in flight, and its place in a ring, go with it."""
        side = share.window.side
        if side is was:
            return
        self.window.move(share.window, was)
        if was is Side.STALLED:
            self._flying.add(share)
        if share.queued and Side.MOVING in (side, was):
            (self._moving if was is Side.MOVING else self._others).remove(share)
            self._ring_of(share).append(share)

    @property
    def routed(self) -> bool:
        """True while any lane's casts go here."""
        return any(share.routed for share in self.shares.values())

    def empty(self) -> None:
        """Nobody's turn: every lane is to enter anew."""
        for share in (*self._moving, *self._others):
            share.queued = False
        self._moving.clear()
        self._others.clear()

    def clear(self) -> None:
        """The link is gone: nobody is in flight, nobody's turn, and nothing is known of any lane."""
        self.empty()
        self.window.reset()
        self._flying.clear()
        self._resting.clear()
        for share in self.shares.values():
            share.reset()

    def leave(self) -> None:
        """The upstream is one no longer: no lane has a share of it."""
        self.clear()
        for lane, share in self.shares.items():
            lane.shares.remove(share)
        self.shares.clear()
