"""The model that the spool is compared with: a dictionary of casts, and a few numbers a lane."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.cast import Arrival
from relay.spool.preparing import kept_unique
from tests.unit.spool.writing import NOW

#: a lane: function and priority
Lane = tuple[bytes, int]


@dataclass
class Known:
    """A cast as the model knows it."""

    lane: Lane
    unique: bytes | None
    payload: bytes
    state: str = "ready"
    due_at: int = 0
    attempts: int = 0
    failures: int = 0
    rotten: bool = False
    scheduled: bool = False
    #: ready with a fate: it was released, revived or imported
    again: bool = False
    not_before: int = 0
    #: when its lifetime began
    since: int = NOW


@dataclass
class Tally:
    """What the model counts of a lane."""

    accepted: int = 0
    completed: int = 0
    purged: int = 0
    coalesced: int = 0
    failures: int = 0


@dataclass
class Disk:
    """What the model says stands on disk."""

    casts: dict[int, Known] = field(default_factory=dict)
    tallies: dict[Lane, Tally] = field(default_factory=dict)
    draining: bool = False
    #: where casts were imported from
    origins: set[str] = field(default_factory=set)

    def copy(self) -> Disk:
        """What a transaction works on until it is committed."""
        casts = {id_: Known(**vars(known)) for id_, known in self.casts.items()}
        tallies = {lane: Tally(**vars(tally)) for lane, tally in self.tallies.items()}
        return Disk(casts, tallies, self.draining, set(self.origins))

    def tally(self, lane: Lane) -> Tally:
        """The numbers of a lane, which is there from now on."""
        return self.tallies.setdefault(lane, Tally())

    def twin(self, function: bytes, unique: bytes) -> int | None:
        """The living cast that an equal unique joins."""
        for id_, known in self.casts.items():
            if known.lane[0] == function and known.unique == unique and known.state != "dead":
                return id_
        return None

    def accept(self, arrival: Arrival, casts: int, size: int) -> tuple[list[int | str], int, int]:
        """What each of these should be told, and the room that is left."""
        told: list[int | str] = []
        for id_, (function, given, payload, priority, *_) in enumerate(arrival.casts, arrival.first_id):
            unique = kept_unique(given, payload)
            twin = self.twin(function, unique) if unique else None
            if twin is not None:
                self.tally((function, priority)).coalesced += 1
                told.append(twin)
            elif self.draining:
                told.append("draining")
            elif casts < 1 or size < len(payload):
                told.append("spool_full")
            else:
                casts, size = casts - 1, size - len(payload)
                known = self.casts[id_] = Known((function, priority), unique, payload)
                if arrival.not_before is not None and arrival.not_before > NOW:
                    known.state, known.due_at, known.scheduled = "deferred", arrival.not_before, True
                    known.since = known.not_before = arrival.not_before
                self.tally((function, priority)).accepted += 1
                told.append(id_)
        return told, casts, size
