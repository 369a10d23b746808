"""What the spool measures of its own work: how long a COMMIT took, how many casts it accepted, and how long casts took
from acceptance to done.

Nothing here costs anything for each cast: a batch is observed as one.  The time to completion needs no timestamp a
cast either.  Ids are given out in the order of acceptance, so a few marks (an id, and when it was the next one) say
when any cast was accepted; for each bound of the histogram one look into the marks finds the id that is just so old,
and one into the sorted ids of the batch how many are younger.

Bounds: MARKS marks; when they are used up every second one of the older half goes, so that an age is known to a part
of itself, as a histogram wants it.  The sum is estimated from SAMPLE casts of a batch.

`committed` is called in the writer's thread, everything else in the event loop's.  Never fails, never does I/O.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable

from relay.histogram import Histogram

#: marks that are kept, and seconds between two of them
MARKS = 4096
MARK_S = 0.005
#: casts of a batch that its sum is estimated from
SAMPLE = 32
#: more than any id
_NONE = 1 << 63

COMMIT_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
BATCH_CASTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
COMPLETION_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 3600, 14_400, 86_400)


class Pulse:
    """The measures of one spool since its start; `now` gives monotonic seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.commit_seconds = Histogram(COMMIT_S)
        self.batch_casts = Histogram(BATCH_CASTS)
        self.completion_seconds = Histogram(COMPLETION_S)
        #: seconds that the last COMMIT took
        self.commit_s = 0.0
        #: when the COMMIT that runs began, None while none does
        self.committing_since: float | None = None
        #: ids that were the next ones, and when
        self._ids: list[int] = []
        self._times: list[float] = []

    def begin(self) -> None:
        """A transaction begins."""
        self.committing_since = self._now()

    def end(self, casts: int | None) -> None:
        """It is over: it accepted so many casts, or (None) came to nothing."""
        began, self.committing_since = self.committing_since, None
        if casts is None or began is None:
            return
        self.commit_s = self._now() - began
        self.commit_seconds.observe(self.commit_s)
        if casts:
            self.batch_casts.observe(casts)

    def remember(self, accepted: Iterable[tuple[int, float]]) -> None:
        """Mark casts of earlier starts: ids, ascending, and how many seconds ago they were accepted."""
        now = self._now()
        for id_, age in accepted:
            since = self._times[-1] if self._times else float("-inf")
            self._ids.append(id_)
            # a wall clock that was set back must not make a later cast the older one
            self._times.append(min(now, max(since, now - age)))

    def mark(self, next_id: int) -> None:
        """The id that a cast accepted now gets."""
        now = self._now()
        if self._times and (now - self._times[-1] < MARK_S or next_id <= self._ids[-1]):
            return
        if len(self._ids) >= MARKS:
            half = MARKS // 2
            self._ids[:half] = self._ids[:half:2]
            self._times[:half] = self._times[:half:2]
        self._ids.append(next_id)
        self._times.append(now)

    def completed(self, ids: Iterable[int]) -> None:
        """These casts are done."""
        done = sorted(ids)
        if not done or not self._ids:
            return
        now, histogram, counted = self._now(), self.completion_seconds, 0
        for number, bound in enumerate(histogram.bounds):
            within = len(done) - bisect_left(done, self._id_at(now - bound))
            histogram.counts[number] += within - counted
            counted = within
            if counted == len(done):
                break
        histogram.counts[-1] += len(done) - counted
        some = done[:: 1 + len(done) // SAMPLE]
        histogram.sum += sum([max(0.0, now - self._time_of(id_)) for id_ in some]) * len(done) / len(some)

    def _id_at(self, moment: float) -> int:
        """The first id that was given out at that moment, or later."""
        at = bisect_left(self._times, moment)
        if at == 0:
            # the marks do not reach back so far: whatever is done is taken to be younger
            return 0
        return self._ids[at] if at < len(self._ids) else _NONE

    def _time_of(self, id_: int) -> float:
        return self._times[max(0, bisect_right(self._ids, id_) - 1)]
