"""What may be in flight: for one function, and for one upstream in all.  Pure; `now` is an argument (monotonic
seconds).

The theory.  A function without workers takes jobs for ever and answers none, so nothing that has not shown itself may
hold what others need.  A function is *moving* while it answers: it has completed a cast on this link, and gave a
verdict within the last STALL_S.  It is *stalled* when its casts in flight had none for so long, and *trying* otherwise.

Moving and trying functions share the upstream's window, and never have more in flight than that; trying ones have a
part of it at most, one of TRYING_PART.  What stalled ones have in flight cannot be called back, and takes nothing from
the window.  Trying and stalled ones together have an allowance as large as the window, and once that is used up each of
them may still have one cast in flight: the cast that finds out.  In bytes they have the allowance only.

An upstream's window opens slowly on a new link: to OPENING casts at first, to one more with each that completes, and
to twice as many with each OPENING_S that the link holds.  A job server keeps what was submitted on a link that is lost
until a worker takes it, so links that are lost again and again must not leave a whole window there each time.

A function's own window starts at START casts, grows by one with each cast that completes (so it doubles in the time of
a round trip), and shrinks once START verdicts in a row are failures, down to one: an outage behind the workers then
costs a few casts a failure, not all of them.
"""

from __future__ import annotations

from enum import Enum

from relay.settings import Forwarder as Limits

#: casts in flight that a function starts with
START = 8
#: bytes in flight that a function starts with; one cast always fits
START_BYTES = 256 * 1024
#: the part of an upstream's window that functions may have that have not shown themselves: one of so many
TRYING_PART = 4
#: how many times window_bytes the functions that are not moving may have in flight, so that each can still try one cast
TRIES = 4
#: casts that a new link lets out at first, and seconds in which that doubles
OPENING = 64
OPENING_S = 1.0
_WIDE_OPEN = 1 << 20
#: seconds without a verdict after which a function with casts in flight is stalled
STALL_S = 2.0


class Side(Enum):
    """What a function is at an upstream, and by that what its casts in flight count against."""

    MOVING = "moving"
    TRYING = "trying"
    STALLED = "stalled"


class FunctionWindow:
    """One function's window on one link, in casts and bytes."""

    __slots__ = ("bytes", "casts", "failures", "heard_at", "limit", "proven", "stalled")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nothing is in flight, and the server has to be found out anew."""
        self.limit = START
        self.casts = 0
        self.bytes = 0
        self.failures = 0
        self.proven = False
        self.stalled = False
        self.heard_at = 0.0

    @property
    def moving(self) -> bool:
        """True while it answers."""
        return self.proven and not self.stalled

    @property
    def side(self) -> Side:
        """What its casts in flight count against."""
        if self.stalled:
            return Side.STALLED
        return Side.MOVING if self.proven else Side.TRYING

    def room(self, limits: Limits) -> int:
        """Casts that may be sent now, as far as this function alone is asked."""
        if self.casts and self.bytes >= self.most_bytes(limits):
            return 0
        most = self.limit if self.moving else min(self.limit, START)
        return max(0, min(most, limits.function_window) - self.casts)

    def most_bytes(self, limits: Limits) -> int:
        """Bytes that may be in flight, beyond a first cast."""
        return limits.function_window_bytes if self.moving else min(START_BYTES, limits.function_window_bytes)

    def sent(self, casts: int, size: int, now: float) -> None:
        """So many casts went out."""
        if not self.casts:
            self.heard_at = now
        self.casts += casts
        self.bytes += size

    def completed(self, casts: int, size: int, now: float, limits: Limits) -> None:
        """So many casts are done."""
        self._heard(casts, size, now)
        self.proven = True
        self.failures = 0
        self.limit = min(limits.function_window, self.limit + casts)

    def failed(self, size: int, now: float) -> None:
        """A cast came back with a verdict, but not done."""
        self._heard(1, size, now)
        self.failures += 1
        if self.failures >= START:
            self.limit = max(1, self.limit // 2)

    def returned(self, size: int) -> None:
        """A cast came back without a verdict."""
        self.casts -= 1
        self.bytes -= size

    def _heard(self, casts: int, size: int, now: float) -> None:
        self.casts -= casts
        self.bytes -= size
        self.heard_at = now
        self.stalled = False

    def lapse(self, now: float) -> bool:
        """Notice that it was idle for too long to be taken to move still; True when it just was."""
        if self.proven and not self.casts and now - self.heard_at >= STALL_S:
            self.proven = False
            self.limit = START
            return True
        return False

    def check(self, now: float) -> bool:
        """Notice that it has stalled; True when it just did."""
        if self.casts and not self.stalled and now - self.heard_at >= STALL_S:
            self.stalled = True
            return True
        return False


class UpstreamWindow:
    """What is in flight at one upstream: of moving, of trying, and of stalled functions."""

    __slots__ = ("moving", "moving_bytes", "open_to", "opens_at", "stalled", "still_bytes", "trying")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nothing is in flight, and a new link begins."""
        self.moving = self.trying = self.stalled = 0
        #: bytes of moving functions, and of all others
        self.moving_bytes = self.still_bytes = 0
        self.open_to = OPENING
        self.opens_at = 0.0

    @property
    def casts(self) -> int:
        """All that is in flight."""
        return self.moving + self.trying + self.stalled

    def open(self, now: float) -> None:
        """There is a link."""
        self.opens_at = now + OPENING_S

    def tick(self, now: float) -> bool:
        """Open further as time goes on; True when it just did."""
        if now < self.opens_at or self.open_to >= _WIDE_OPEN:
            return False
        self.open_to *= 2
        self.opens_at = now + OPENING_S
        return True

    def room(self, window: FunctionWindow, limits: Limits) -> int:
        """Casts that may be sent for this function, as far as the upstream is asked."""
        most = min(limits.window, self.open_to)
        left = most - self.moving - self.trying
        if window.moving:
            return max(0, left) if self.moving_bytes < limits.window_bytes or not self.moving else 0
        allowed = most - self.trying - self.stalled if self.still_bytes < limits.window_bytes else 0
        alone = 0 if window.casts or self.still_bytes >= TRIES * limits.window_bytes else 1
        allowed = max(alone, allowed)
        if not window.stalled:
            allowed = min(allowed, left, max(1, most // TRYING_PART) - self.trying)
        return max(0, allowed)

    def bytes_left(self, window: FunctionWindow, limits: Limits) -> int:
        """Bytes that may still be sent for a function of this side; none left, or less, where only a try is due."""
        return limits.window_bytes - (self.moving_bytes if window.moving else self.still_bytes)

    def add(self, side: Side, casts: int, size: int) -> None:
        """Count casts in, or out with negative numbers."""
        if side is Side.MOVING:
            self.moving += casts
            self.moving_bytes += size
            return
        self.still_bytes += size
        if side is Side.TRYING:
            self.trying += casts
        else:
            self.stalled += casts

    def move(self, window: FunctionWindow, was: Side) -> None:
        """A function changed sides, and what it has in flight with it."""
        if window.side is not was:
            self.add(was, -window.casts, -window.bytes)
            self.add(window.side, window.casts, window.bytes)
