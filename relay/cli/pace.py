"""How fast something goes towards nothing, and when it will be there; pure, `now` is an argument (seconds).

The rate is that of the last WINDOW_S seconds, so that it follows a backlog whose easy part is done.
"""

from __future__ import annotations

from collections import deque

#: seconds that a rate looks back, and seconds without which it is none yet
WINDOW_S, LEAST_S = 15.0, 1.0
#: a wait that is longer is no estimate any more
LONGEST_S = 7 * 86400.0


class Pace:
    """Looks at what is left."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def look(self, now: float, left: int) -> None:
        """So much is left at this moment."""
        self._seen.append((now, left))
        while now - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """How much goes in a second; None where that cannot be said yet."""
        if not self._seen:
            return None
        (began, before), (now, left) = self._seen[0], self._seen[-1]
        return max(0, before - left) / (now - began) if now - began >= LEAST_S else None

    def seconds_for(self, left: int) -> float | None:
        """How long so much takes at this rate; None where nothing goes, or so slowly that nobody knows."""
        rate = self.rate
        seconds = left / rate if rate else None
        return seconds if seconds is not None and seconds <= LONGEST_S else None
