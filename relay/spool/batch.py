"""What one COMMIT is made of: what is handed to the writer, and how it gathers until there is enough.

Verdicts linger for company; everything else makes a batch urgent.  Bounds: BATCH_CASTS casts and BATCH_BYTES bytes
beyond the first arrival, and what takes have read before them: with casts in hand a batch has its fill of reads at
READ_CASTS.  Values only; no thread, no clock, no I/O.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from relay.cast import Arrival
from relay.spool.changes import Done, Kept, Setback, Took
from relay.spool.transitions import Transitions

#: verdicts that do not wait for company
LINGER_VERDICTS = 4096
#: casts and bytes of one COMMIT, beyond its first arrival
BATCH_CASTS = 10_000
BATCH_BYTES = 32 * 1024 * 1024
#: casts that takes read for one batch before its COMMIT, once it has casts in hand; each counts for READ_LEAST at least
READ_CASTS = 512
READ_LEAST = 16


class Verdicts(NamedTuple):
    """What attempts came to: `late` are ids of casts done by one that had ended, `kept` is the history's."""

    done: Sequence[Done] = ()
    setbacks: Sequence[Setback] = ()
    late: Sequence[int] = ()
    kept: Sequence[Kept] = ()


class Take(NamedTuple):
    """Casts to be read; `taken` gets them in the event loop's thread."""

    read: Callable[[Transitions], Took]
    taken: Callable[[Took], None]


class Look(NamedTuple):
    """A question, answered after everything that was handed in before it."""

    read: Callable[[Transitions], int | None]
    found: Callable[[int | None], None]


class Call(NamedTuple):
    """A change in a transaction of its own."""

    change: Callable[[Transitions], Any]
    result: Future[Any]


class Stop(NamedTuple):
    """The end: nothing is handed in behind it."""


@dataclass(slots=True)
class Batch:
    """What is collected for one COMMIT."""

    done: list[Done] = field(default_factory=list)
    setbacks: list[Setback] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    casts: int = 0
    size: int = 0
    read: int = 0
    stop: bool = False

    def accept(self, arrival: Arrival) -> None:
        """Casts to be written."""
        self.arrivals.append(arrival)
        self.casts += len(arrival.casts)
        self.size += arrival.size

    def answered(self, casts: int) -> None:
        """A take has read so many casts."""
        self.read += max(READ_LEAST, casts)

    def judge(self, verdicts: Verdicts) -> None:
        """Verdicts to be written."""
        self.done += verdicts.done
        self.setbacks += verdicts.setbacks
        self.late += verdicts.late
        self.kept += verdicts.kept

    @property
    def full(self) -> bool:
        """True when nothing more goes into it."""
        return self.casts >= BATCH_CASTS or self.size >= BATCH_BYTES

    @property
    def read_enough(self) -> bool:
        """True when casts are in hand that no further take may keep waiting."""
        return bool(self.arrivals) and self.read >= READ_CASTS

    def urgent(self, failing: bool) -> bool:
        """True when it may not linger; while the disk fails, verdicts never hurry."""
        if self.arrivals or self.calls or self.looks or self.stop:
            return True
        return self.verdicts >= LINGER_VERDICTS and not failing

    @property
    def idle(self) -> bool:
        """True when nothing at all came in."""
        return not (self.arrivals or self.calls or self.looks or self.stop or self.verdicts or self.read)

    @property
    def verdicts(self) -> int:
        """How many verdicts are in it."""
        return len(self.done) + len(self.setbacks) + len(self.late)
