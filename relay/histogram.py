"""How often a measure fell where: counts by upper bound, and a sum.

Written by one thread and read by any: a reader may see an observation in its bucket and not yet in the sum, never a
total that is not that of the buckets, because the total is theirs.  Pure; never fails.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Counts of observations up to each of `bounds` (ascending), and of those beyond the last."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """One observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[int]:
        """How many were at most each bound; last, how many there were."""
        total, out = 0, []
        for count in self.counts:
            total += count
            out.append(total)
        return out
