"""Ending: what attempts came to is written; a cast that is done is retired, the others are deferred or buried.

A cast that goes well costs one DELETE, shared with its neighbours where ids are contiguous; what did not go well gets a
fate, a small row of its own, and its last attempts.

Inside a transaction of the writer's; the ledger has what it does until COMMIT returned.  Raises sqlite3.Error as SQLite
does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from relay.lifecycle import Event, State, after
from relay.spool import statements as sql
from relay.spool.changes import Done, Setback
from relay.spool.ledger import Ledger
from relay.spool.schema import number

_DEFERRED = after(State.IN_FLIGHT, Event.FAIL)
_DEAD = after(State.IN_FLIGHT, Event.EXHAUST)
assert after(State.IN_FLIGHT, Event.REFUSE) is _DEAD

_STATES = frozenset(state.value for state in State)
#: the reason of a setback by which a cast's lifetime was over
EXPIRED = "expired"
#: attempts kept of a cast that does not go well
ATTEMPTS_KEPT = 10


class Ending:
    """Verdicts, over a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def store(self, done: Sequence[Done], setbacks: Sequence[Setback], now: int) -> None:
        """Write what attempts came to: retire what is done, defer or bury the rest.  `now` in microseconds."""
        self._retire(done)
        changes, again = self._ledger.changes, self._ledger.again
        for setback in setbacks:
            set_fate(self._ledger, setback, now)
            self._count_ended(setback.lane, setback.id, setback.deferred)
        change_of, ended = changes.of, changes.ended
        for id_, lane, size, deferred, doubts in done:
            counts = change_of(lane)
            counts.completed += 1
            counts.bytes -= size
            counts.repeats += doubts
            if deferred or (again and id_ in again):
                counts.deferred -= deferred
                self._ledger.execute(sql.DELETE_FATE, (id_,))
                self._ledger.execute(sql.DELETE_ATTEMPTS, (id_,))
                self._count_ended(lane, id_, deferred)
            else:
                ready, due = ended.get(lane, (0, 0))
                ended[lane] = ready + 1, due

    def _count_ended(self, lane: int, id_: int, deferred: bool) -> None:
        changes = self._ledger.changes
        ready, due = changes.ended.get(lane, (0, 0))
        if deferred or id_ in self._ledger.again:
            changes.settled.append((lane, id_))
        changes.ended[lane] = (ready, due + 1) if deferred else (ready + 1, due)

    def _retire(self, done: Sequence[Done]) -> None:
        """Delete casts that are done, as ranges where their ids are contiguous."""
        execute = self._ledger.execute
        loose: list[int] = []
        deleted = 0
        for first, last in sql.ranges(sorted([one[0] for one in done])):
            if last - first < 2:
                loose += range(first, last + 1)
            else:
                deleted += delete_range(execute, first, last)
        for start, count in sql.pieces(len(loose)):
            deleted += execute(sql.DELETE_IDS[count], loose[start : start + count]).rowcount
        self._ledger.changes.absent += len(done) - deleted

    def retire_late(self, ids: Sequence[int]) -> None:
        """Retire casts that are not in flight, whatever their state; what is gone was retired, or purged, before."""
        ledger = self._ledger
        for id_ in ids:
            ledger.changes.retired_late.append(id_)
            found = ledger.execute(sql.FIND_LATE, (id_,)).fetchone()
            if found is None:
                continue
            lane, size, state = found
            if lane not in ledger.names or not (state is None or state in _STATES):
                # rot: it can be counted nowhere
                continue
            assert after(State(state or State.READY.value), Event.DONE) is State.RETIRED
            counts = ledger.changes.of(lane)
            counts.completed += 1
            counts.bytes -= number(size)
            counts.deferred -= state == State.DEFERRED.value
            counts.held -= state == State.HELD.value
            counts.dead -= state == State.DEAD.value
            self._retire_row(lane, id_)

    def _retire_row(self, lane: int, id_: int) -> None:
        ledger = self._ledger
        for statement in (sql.DELETE_IDS[1], sql.DELETE_FATE, sql.DELETE_ATTEMPTS):
            ledger.execute(statement, (id_,))
        if id_ in ledger.taken_due.get(lane, ()):
            ledger.changes.settled.append((lane, id_))


def delete_range(execute: Callable[..., sqlite3.Cursor], first: int, last: int) -> int:
    """Delete the casts of a range of ids; how many were there.

    SQLite walks the table from the first to one behind the last.  Where a pointer between its pages has rotted, lower
    ids may follow, and it would delete them, too: then sqlite3.DatabaseError, before any of it is committed.
    """
    deleted = execute(sql.DELETE_RANGE, (first, last)).rowcount
    if deleted > last - first + 1:
        error = sqlite3.DatabaseError("more casts were deleted than there can be")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error
    return deleted


def set_fate(ledger: Ledger, setback: Setback, now: int) -> None:
    """Defer or bury a cast, and count it; `now` in microseconds."""
    state = _DEAD if setback.due_at is None else _DEFERRED
    counts = ledger.changes.of(setback.lane)
    counts.failures += setback.failed
    counts.expired += setback.reason == EXPIRED
    counts.repeats += setback.doubts
    counts.deferred += (state is _DEFERRED) - setback.deferred
    counts.dead += state is _DEAD
    if setback.due_at is not None:
        due = ledger.changes.due
        due[setback.lane] = min(setback.due_at, due.get(setback.lane, setback.due_at))
    ledger.execute(
        sql.SET_FATE,
        (
            setback.id,
            setback.lane,
            state.value,
            setback.due_at,
            now,
            setback.attempts,
            setback.failures,
            setback.reason,
            setback.error,
        ),
    )
    for attempt in setback.log:
        ledger.execute(sql.INSERT_ATTEMPT, (setback.id, *attempt))
    if setback.attempts > ATTEMPTS_KEPT:
        ledger.execute(sql.DROP_OLD_ATTEMPTS, (setback.id, setback.attempts - ATTEMPTS_KEPT))
