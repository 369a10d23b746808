"""What goes into the spool's writer and what comes out of it, as values.

`Counts` are a lane's numbers or a change of them; `Done` and `Setback` are verdicts to be stored; `Took` is what a
take found; `Changes` is what one transaction did, told to others only after its COMMIT returned.  Never does I/O,
never fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from relay.cast import Taken, Waiting
from relay.spool.schema import COUNTS


class Counts:
    """The counts of one lane, or a change of them: an integer a name of schema.COUNTS."""

    __slots__ = COUNTS
    accepted: int
    completed: int
    purged: int
    deferred: int
    held: int
    dead: int
    bytes: int
    failures: int
    coalesced: int
    expired: int
    repeats: int

    def __init__(self, values: Sequence[int] = (0,) * len(COUNTS)) -> None:
        for name, value in zip(COUNTS, values, strict=True):
            setattr(self, name, value)

    def values(self) -> tuple[int, ...]:
        """The numbers in the order of COUNTS."""
        return tuple([getattr(self, name) for name in COUNTS])

    def copy(self) -> Counts:
        """The same numbers, which then stay as they are."""
        return Counts(self.values())

    def add(self, change: Counts) -> None:
        """Add a change, number by number."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(change, name))

    @property
    def ready(self) -> int:
        """Casts that are ready or in flight from there; derived, so that the sum always holds."""
        return self.accepted - self.completed - self.purged - self.deferred - self.held - self.dead

    @property
    def kept(self) -> int:
        """Casts on disk, whatever their state."""
        return self.accepted - self.completed - self.purged


class Attempt(NamedTuple):
    """One attempt that did not go well; times in microseconds."""

    number: int
    began_at: int
    took: int
    upstream: str
    reason: str
    error: str


#: a cast that is done: (id, lane, payload bytes, was deferred when it was taken, sends that ended in doubt)
Done: TypeAlias = tuple[int, int, int, bool, int]


#: what the history is told of a cast that is done: (id, lane, attempts, failures, us when the attempt began that had it
#: done, us when it was done, upstream)
Kept: TypeAlias = tuple[int, int, int, int, int, int, str]


class Setback(NamedTuple):
    """An attempt that did not go well, to be stored.  `due_at` (us) None: the cast is dead.

    `deferred` says that it had a fate of state deferred when it was taken; `failed` that this counts as a failure;
    `doubts` how many of its sends ended in doubt; `attempts` and `failures` are the new totals.
    """

    id: int
    lane: int
    deferred: bool
    due_at: int | None
    attempts: int
    failures: int
    failed: bool
    doubts: int
    reason: str
    error: str
    log: tuple[Attempt, ...]


class Took(NamedTuple):
    """What a take found: casts in order; `last_id` is where the next one goes on, `exhausted` that there is no more.

    For deferred casts `next_due` is when the next one is due (us), None when there is none, and `scheduled` whether
    its caller named that moment.  `failed` says that the disk could not be read, and nothing else is to be believed.
    """

    casts: list[Taken]
    last_id: int
    exhausted: bool
    next_due: int | None
    scheduled: bool = False
    failed: bool = False


#: a take that the disk failed
FAILED = Took([], 0, False, None, failed=True)


@dataclass(slots=True)
class Changes:
    """What one transaction did: counts by lane, casts accepted by lane, and by lane how many in flight have ended."""

    counts: dict[int, Counts] = field(default_factory=dict)
    last_ids: dict[int, int] = field(default_factory=dict)
    fresh: dict[int, list[Waiting]] = field(default_factory=dict)
    #: lane -> (from ready, from deferred)
    ended: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: lane -> when the first of the casts it deferred is due (us)
    due: dict[int, int] = field(default_factory=dict)
    #: lanes in which it accepted casts for later
    scheduled: set[int] = field(default_factory=set)
    #: casts that were retired late, or were found to be gone already
    retired_late: list[int] = field(default_factory=list)
    #: (lane, id) of deferred casts that are no longer taken
    settled: list[tuple[int, int]] = field(default_factory=list)
    #: casts that were to be retired and were not there: rot, for nobody else removes what is in flight
    absent: int = 0
    #: lane -> ids of casts that an operator took out of the forwarder's reach
    left: dict[int, list[int]] = field(default_factory=dict)

    def of(self, lane: int) -> Counts:
        """The change of one lane."""
        found = self.counts.get(lane)
        if found is None:
            found = self.counts[lane] = Counts()
        return found
