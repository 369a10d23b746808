"""What an operator does to casts: hold, release, retry, bury, revive, purge, a slice of them in one transaction.

The same code serves the agent's writer and relay-cli with the agent down.  Each move stands in `lifecycle`; where a
cast is by now in a state that the table does not move, it is left alone and counted.  What is in flight (`busy`, told
by whoever forwards) is skipped and counted, and so is a revive that meets a living twin: a cast of the same function
with the same unique.  Counts change in the same COMMIT.

Runs inside a transaction that others begin and end.  Bounds: a slice is as long as its caller makes it; see SLICE.
Raises sqlite3.Error as SQLite does, never swallows one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from relay.lifecycle import TABLE, Event, State
from relay.spool import statements as sql
from relay.spool.changes import Counts
from relay.spool.ending import delete_range
from relay.spool.reading import STATES
from relay.spool.selecting import Selection
from relay.spool.statements import pieces, ranges
from relay.spool.transitions import Transitions

#: casts that one transaction changes
SLICE = 500
#: the reasons that an operator is: of a cast that is held and had none, and of one that is buried; each ends with that
HELD, BURIED = "held", "buried"

#: held by an operator's word, or by `export --hold`; by `hold --new` it is `new` and the pattern
OPERATOR, EXPORT = "operator", "export"


class Verb(Enum):
    """What can be done; the values are the words that operators use."""

    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"
    BURY = "bury"
    REVIVE = "revive"
    PURGE = "purge"
    #: remember that held casts were written out by `export --hold`, and purge those that were
    MARK = "mark exported"
    MOVE = "purge exported"


_EVENTS = {
    Verb.HOLD: Event.HOLD,
    Verb.RELEASE: Event.RELEASE,
    Verb.BURY: Event.BURY,
    Verb.REVIVE: Event.REVIVE,
    Verb.PURGE: Event.PURGE,
    Verb.MOVE: Event.MOVE,
}
_ON_DISK = (State.READY, State.DEFERRED, State.HELD, State.DEAD)


def concerned(verb: Verb) -> tuple[str, ...]:
    """The states, by their names, that a verb changes casts of."""
    if verb is Verb.RETRY:
        return (State.DEFERRED.value,)
    if verb is Verb.MARK:
        return (State.HELD.value,)
    return tuple(state.value for state in _ON_DISK if (state, _EVENTS[verb]) in TABLE)


def states_for(verb: Verb, selection: Selection) -> tuple[str, ...]:
    """The states in which casts are looked for: for names all of them, so that what is skipped is counted."""
    return STATES if selection.names is not None else concerned(verb)


def fenced(verb: Verb) -> bool:
    """True for a verb that changes casts which may be in the forwarder's memory, or in flight."""
    return verb in (Verb.HOLD, Verb.BURY, Verb.RETRY)


@dataclass(frozen=True, slots=True)
class Edit:
    """A verb, who asked for it (None: nobody, a chore), and, for hold and release, by whom the cast is held.

    `held_by` empty means, for a release: whoever holds it.
    """

    verb: Verb
    uid: int | None
    held_by: str = ""


@dataclass(slots=True)
class Tally:
    """What came of it.  `matched` is the sum of the others, always: changed, and skipped for one of three reasons.

    `other` are casts that are (by now) in a state that the verb does not change, or gone.
    """

    changed: int = 0
    in_flight: int = 0
    twins: int = 0
    other: int = 0
    #: names that no cast bears; they were not matched
    missing: int = 0
    #: the ids that were changed, in order; of one slice only
    ids: list[int] = field(default_factory=list)

    @property
    def matched(self) -> int:
        """All of them."""
        return self.changed + self.in_flight + self.twins + self.other

    @property
    def skipped(self) -> int:
        """Those that were not changed."""
        return self.in_flight + self.twins + self.other

    def add(self, more: Tally) -> None:
        """Count another slice in."""
        self.changed += more.changed
        self.in_flight += more.in_flight
        self.twins += more.twins
        self.other += more.other
        self.missing += more.missing

    def shown(self) -> dict[str, int]:
        """The numbers, as they are answered."""
        names = ("matched", "changed", "skipped", "in_flight", "twins", "other", "missing")
        return {name: getattr(self, name) for name in names}


class _Found(NamedTuple):
    """A cast and its fate, as statements.EDITED reads them."""

    id: int
    lane: int
    not_before: int | None
    bytes: int
    digest: int | None
    state: str | None
    scheduled: int | None
    due_at: int | None
    attempts: int
    failures: int
    reason: str
    error: str
    held_by: str
    exported: int


def apply(transitions: Transitions, edit: Edit, ids: Sequence[int], busy: Collection[int], now: int) -> Tally:
    """Do it to these casts; `busy` are ids in flight, `now` in microseconds."""
    tally = Tally()
    found: dict[int, _Found] = {}
    for start, count in pieces(len(ids)):
        for row in transitions.execute(sql.EDITED[count], ids[start : start + count]):
            # what rot made of a fate is no state that any verb knows
            if row[1] in transitions.ledger.names and (row[5] is None or row[5] in STATES):
                found[row[0]] = _Found(*row)
    slice_ = _Slice(transitions, edit, now)
    for id_ in ids:
        one = found.get(id_)
        if one is None or not slice_.applies(one):
            tally.other += 1
        elif id_ in busy:
            tally.in_flight += 1
        elif edit.verb is Verb.REVIVE and one.digest is not None and not slice_.alone(one):
            tally.twins += 1
        else:
            slice_.change(one)
            tally.changed += 1
            tally.ids.append(id_)
    slice_.write()
    return tally


class _Slice:
    """One transaction's part of an edit: decides cast by cast, and writes at the end."""

    def __init__(self, transitions: Transitions, edit: Edit, now: int) -> None:
        self._transitions = transitions
        self._edit = edit
        self._now = now
        self._fates: list[tuple[Any, ...]] = []
        self._gone: list[int] = []
        #: (function, unique) of casts that this transaction brought back to life
        self._living: set[tuple[bytes, bytes]] = set()

    def applies(self, one: _Found) -> bool:
        """True where the verb changes a cast in this state."""
        edit, state = self._edit, State(one.state or "ready")
        if edit.verb is Verb.RETRY:
            return state is State.DEFERRED and not one.scheduled
        if edit.verb is Verb.MARK:
            return state is State.HELD
        if edit.verb is Verb.MOVE and not one.exported:
            return False
        if edit.verb is Verb.RELEASE and edit.held_by and one.held_by != edit.held_by:
            return False
        return (state, _EVENTS[edit.verb]) in TABLE

    def alone(self, one: _Found) -> bool:
        """True where no cast that lives has this one's function and unique."""
        unique: bytes = self._transitions.execute(sql.UNIQUE, (one.id,)).fetchone()[0]
        function = self._transitions.name(one.lane).function
        if (function, unique) in self._living or self._transitions.find_twin(function, unique) is not None:
            return False
        self._living.add((function, unique))
        return True

    def change(self, one: _Found) -> None:
        """Decide what becomes of a cast."""
        verb, state = self._edit.verb, State(one.state or "ready")
        if verb is Verb.RETRY:
            self._keep(one, State.DEFERRED, due_at=min(one.due_at or self._now, self._now))
            self._transitions.ledger.bring_back(one.lane, self._now, scheduled=False)
            return
        if verb is Verb.MARK:
            self._keep(one, State.HELD, held_by=one.held_by, exported=1)
            return
        event = _EVENTS[verb]
        early = one.not_before is not None and one.not_before > self._now
        if event in (Event.RELEASE, Event.REVIVE) and early:
            event = Event.POSTPONE
        target = TABLE[state, event]
        self._count(one, state, target)
        if state in (State.READY, State.DEFERRED):
            self._transitions.ledger.withdraw(one.lane, one.id)
        if target is State.PURGED:
            self._gone.append(one.id)
        elif target is State.HELD:
            self._keep(one, target, reason=one.reason or HELD, held_by=self._edit.held_by or OPERATOR)
        elif target is State.DEAD:
            before = f"; before that: {one.error}" if one.error else ""
            self._keep(one, target, reason=BURIED, error=f"buried by uid {self._edit.uid}{before}")
        else:
            failures = 0 if verb is Verb.REVIVE else one.failures
            due_at = one.not_before if target is State.DEFERRED else None
            # neither ages while it is held, nor is what is revived too old at once
            self._keep(
                one,
                target,
                due_at=due_at,
                scheduled=int(due_at is not None),
                failures=failures,
                reason="" if one.reason in (HELD, BURIED) else one.reason,
                aged_from=self._now,
            )
            self._transitions.ledger.bring_back(one.lane, due_at or self._now, scheduled=due_at is not None)

    def _keep(
        self,
        one: _Found,
        state: State,
        *,
        due_at: int | None = None,
        scheduled: int = 0,
        failures: int | None = None,
        reason: str | None = None,
        error: str | None = None,
        held_by: str = "",
        exported: int = 0,
        aged_from: int | None = None,
    ) -> None:
        """The cast stays, with this fate."""
        self._fates.append(
            (
                one.id,
                one.lane,
                state.value,
                scheduled,
                due_at,
                self._now,
                one.attempts,
                one.failures if failures is None else failures,
                one.reason if reason is None else reason,
                one.error if error is None else error,
                held_by,
                exported,
                aged_from,
            )
        )

    def _count(self, one: _Found, state: State, target: State) -> None:
        counts = self._transitions.ledger.changes.of(one.lane)
        _move(counts, state, -1)
        _move(counts, target, 1)
        if target is State.PURGED:
            counts.purged += 1
            counts.bytes -= one.bytes

    def write(self) -> None:
        """Put it on disk."""
        self._transitions.many(sql.EDIT_FATE, self._fates)
        for first, last in ranges(sorted(self._gone)):
            delete_range(self._transitions.execute, first, last)
        gone = [(id_,) for id_ in self._gone]
        self._transitions.many(sql.DELETE_FATE, gone)
        self._transitions.many(sql.DELETE_ATTEMPTS, gone)


def _move(counts: Counts, state: State, by: int) -> None:
    """Count a cast into a state, or out of it; what is ready follows from the others."""
    if state in (State.DEFERRED, State.HELD, State.DEAD):
        setattr(counts, state.value, getattr(counts, state.value) + by)
