"""What can happen to casts on disk: append, take, retire, defer, bury, as functions on one connection.

Synchronous, in the writer's thread, inside a transaction that the committer begins and ends.  What a transaction
changed is collected in `Changes`; nothing of it may be told to anybody before COMMIT returned.  After a ROLLBACK the
committer calls `forget`, and the memory kept here is again what the disk says.

Moves of a cast are those of `lifecycle`; the names of its states on disk come from there.  Raises sqlite3.Error as
SQLite does; never swallows one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from relay.ageing import Limit
from relay.cast import COLUMNS, SHORT_COLUMNS, Arrival, LaneName, Taken, Waiting, checksum, seed, sound
from relay.lifecycle import Event, State, after
from relay.spool import statements as sql
from relay.spool.changes import Changes, Counts, Done, Setback, Took
from relay.spool.holds import Holds
from relay.spool.preparing import digest, kept_unique

_DEFERRED = after(State.IN_FLIGHT, Event.FAIL)
_DEAD = after(State.IN_FLIGHT, Event.EXHAUST)
assert after(State.NOWHERE, Event.SCHEDULE) is _DEFERRED
assert after(State.IN_FLIGHT, Event.REFUSE) is _DEAD
assert after(State.READY, Event.DAMAGE) is _DEAD
assert after(State.READY, Event.EXPIRE) is after(State.DEFERRED, Event.EXPIRE) is _DEAD

#: why a cast is buried that was not sent, and what is said of it
DAMAGED, EXPIRED = "damaged", "expired"
_WHY = {DAMAGED: "its checksum does not fit", EXPIRED: "its lifetime was over"}

#: bytes of payload beyond which an arrival's casts are inserted one at a time; no read of small casts brings so many
LARGE = 256 * 1024
#: attempts kept of a cast that does not go well
ATTEMPTS_KEPT = 10


def pieces(n: int) -> Iterable[tuple[int, int]]:
    """Cut n rows into (start, rows) for the statements there are."""
    start = 0
    for size in sql.CHUNKS:
        while n - start >= size:
            yield start, size
            start += size


class _Doomed(NamedTuple):
    """A cast that is to be buried: its checksum does not fit, or its lifetime is over."""

    id: int
    lane: int
    deferred: bool
    attempts: int
    failures: int
    reason: str


class Transitions:
    """The spool's lanes in memory and the moves of casts, on `conn`."""

    def __init__(self, conn: sqlite3.Connection, draining: bool = False) -> None:
        self.execute = self._execute = conn.execute
        self.many = conn.executemany
        self._lanes: dict[tuple[bytes, int], int] = {}
        self._names: dict[int, LaneName] = {}
        #: lanes that this transaction made
        self._made: list[tuple[bytes, int]] = []
        #: casts and payload bytes on disk, as of the last COMMIT
        self.kept = 0
        self.kept_bytes = 0
        #: deferred casts handed out by `take_due` and without a verdict yet
        self._taken_due: dict[int, set[int]] = {}
        #: those of them that count as ready: released or revived, they have a fate all the same
        self._again: set[int] = set()
        #: the patterns whose new casts are held
        self.holds = Holds(conn)
        #: True once a cast was imported: only then is a key of its own looked for
        self.imported = False
        #: casts that a take found rotten, and how many of them this transaction buries
        self._doomed: dict[int, _Doomed] = {}
        self._buried: list[int] = []
        #: whether new casts are refused: as of the last COMMIT, and as this transaction leaves it
        self.draining = draining
        self._drains = draining
        self.changes = Changes()
        #: the steps of the wall clock, as they were remembered at the start
        self.steps: str | None = None

    def load(self) -> dict[LaneName, Counts]:
        """Read the lanes and their counts, and what is held."""
        found: dict[LaneName, Counts] = {}
        for number, function, priority, *values in self._execute(sql.LANES):
            name = LaneName(number, function, priority)
            self._lanes[function, priority] = number
            self._names[number] = name
            found[name] = counts = Counts(values)
            self.kept += counts.kept
            self.kept_bytes += counts.bytes
        self.holds.load()
        steps = self._execute(sql.GET_META, ("clock_steps",)).fetchone()
        self.steps = None if steps is None else str(steps[0])
        self.imported = self._execute(sql.ANY_IMPORT).fetchone() is not None
        return found

    def ages(self, casts: int) -> list[tuple[int, int]]:
        """At most so many casts from end to end of what is here: ids, ascending, and when accepted (us).

        One that cannot be read, or is no number any more, is left out: its turn will come when it is taken.
        """
        first, last = self._execute(sql.ENDS).fetchone()
        if first is None:
            return []
        found: set[tuple[int, int]] = set()
        for id_ in range(first, last + 1, max(1, (last - first) // casts + 1)):
            try:
                row = self._execute(sql.ACCEPTED_FROM, (id_,)).fetchone()
            except sqlite3.Error:
                continue
            if row is not None and isinstance(row[1], int):
                found.add(row)
        return sorted(found)

    def name(self, lane: int) -> LaneName:
        """The function and priority of a lane's number."""
        return self._names[lane]

    # -- the transaction -------------------------------------------------------------------------------------------

    def conclude(self) -> None:
        """The last statements before COMMIT: the counts, so that they change with the casts or not at all."""
        for lane, counts in self.changes.counts.items():
            self._execute(sql.COUNT, (*counts.values(), self.changes.last_ids.get(lane, 0), lane))

    def committed(self) -> Changes:
        """COMMIT returned: what it did, once."""
        changes, self.changes = self.changes, Changes()
        self._made.clear()
        self.draining = self._drains
        self.holds.committed()
        for id_ in self._buried:
            del self._doomed[id_]
        self._buried = []
        for lane, id_ in changes.settled:
            self._taken_due[lane].discard(id_)
            self._again.discard(id_)
        for counts in changes.counts.values():
            self.kept += counts.kept
            self.kept_bytes += counts.bytes
        return changes

    def forget(self) -> None:
        """The transaction was rolled back."""
        for key in self._made:
            del self._names[self._lanes.pop(key)]
        self._made.clear()
        self._drains = self.draining
        self._buried = []
        self.changes = Changes()
        self.holds.forget()

    # -- accepting -------------------------------------------------------------------------------------------------

    def append(self, arrivals: Sequence[Arrival], now: int, closed: str | None, casts: int, size: int) -> None:
        """Insert what these callers handed over and set each arrival's `outcome`.

        `now` in microseconds; `closed` is the code that refuses every new cast, if any; otherwise up to `casts` new
        ones with `size` bytes have room, and what is beyond gets `spool_full`.  A cast whose unique belongs to a living
        one gets that one's id, whether or not there is room.
        """
        twins = self._twins(arrivals)
        short: list[object] = []
        full: list[object] = []
        for arrival in arrivals:
            made = arrival.prepared
            fits = closed is None and len(arrival.casts) <= casts and arrival.size <= size
            fits = fits and not (self.holds.lanes and made and self.holds.concern(made, now))
            if made is not None and fits and twins.keys().isdisjoint(made.keys) and _distinct(made.keys):
                casts -= len(arrival.casts)
                size -= arrival.size
                if arrival.size > LARGE:
                    self._insert_large(made.values, short=not made.keys)
                elif made.keys:
                    full += made.values
                else:
                    short += made.values
                if made.keys:
                    twins.update(zip(made.keys, made.ids, strict=True))
                for lane, fresh in made.fresh:
                    self._count_fresh(lane, fresh)
                arrival.outcome = range(arrival.first_id, arrival.first_id + len(arrival.casts))
            else:
                rows: list[object] = [] if arrival.size > LARGE else full
                casts, size = self._add_each(arrival, now, closed, casts, size, rows, twins)
                if arrival.size > LARGE:
                    self._insert_large(rows, short=False)
        self._insert(sql.INSERT_SHORT, short, len(SHORT_COLUMNS))
        self._insert(sql.INSERT_CASTS, full, len(COLUMNS))

    def _insert(self, statements: Mapping[int, str], values: list[object], columns: int) -> None:
        for start, count in pieces(len(values) // columns):
            self._execute(statements[count], values[start * columns : (start + count) * columns])

    def _insert_large(self, values: list[object], *, short: bool) -> None:
        """Row by row: SQLite copies all that a statement is given, and keeps it until the next time."""
        statement, columns = sql.INSERT_LARGE, len(COLUMNS)
        if short:
            statement, columns = sql.INSERT_LARGE_SHORT, len(SHORT_COLUMNS)
        for start in range(0, len(values), columns):
            self._execute(statement, values[start : start + columns])
        self._execute(statement, (None,) * columns)

    def lane(self, function: bytes, priority: int) -> int:
        """The number of a lane, made when it is new."""
        number = self._lanes.get((function, priority))
        if number is None:
            number = self._execute(sql.INSERT_LANE, (function, priority)).lastrowid
            assert number is not None
            self._lanes[function, priority] = number
            self._names[number] = LaneName(number, function, priority)
            self._made.append((function, priority))
            self.holds.made(number, function)
        return number

    def _add_each(
        self,
        arrival: Arrival,
        now: int,
        closed: str | None,
        casts: int,
        size: int,
        values: list[object],
        twins: dict[tuple[bytes, bytes], int],
    ) -> tuple[int, int]:
        """Cast by cast: its twin's id, a refusal, or an id of its own.  Returns the room that is left."""
        outcome: list[int | str] = []
        for id_, (function, given, payload, priority) in enumerate(arrival.casts, arrival.first_id):
            unique = kept_unique(given, payload)
            twin = twins.get((function, unique)) if unique else None
            if twin is not None:
                self.changes.of(self.lane(function, priority)).coalesced += 1
                outcome.append(twin)
            elif closed is not None:
                outcome.append(closed)
            elif casts < 1 or size < len(payload):
                outcome.append("spool_full")
            else:
                casts -= 1
                size -= len(payload)
                lane = self.lane(function, priority)
                key = digest(unique) if unique else None
                later = arrival.not_before
                crc = checksum(seed(lane, now, later, arrival.uid), id_, key, unique, payload)
                values += (id_, lane, now, later, arrival.uid, key, unique, crc, payload)
                self._count_fresh(lane, [(id_, unique, payload, max(now, later or 0))])
                pattern = self.holds.pattern(lane, now)
                if pattern is not None:
                    self._hold_fresh(lane, id_, pattern, now)
                elif later is not None and later > now:
                    self._schedule(lane, id_, later, now)
                if unique:
                    twins[function, unique] = id_
                outcome.append(id_)
        arrival.outcome = outcome
        return casts, size

    def _schedule(self, lane: int, id_: int, later: int, now: int) -> None:
        """The cast just counted as fresh is for later: it is deferred from the start."""
        self.changes.fresh[lane].pop()
        self.changes.of(lane).deferred += 1
        self.changes.due[lane] = min(later, self.changes.due.get(lane, later))
        self.changes.scheduled.add(lane)
        self._execute(sql.SCHEDULE, (id_, lane, later, now))

    def _hold_fresh(self, lane: int, id_: int, pattern: str, now: int) -> None:
        """The cast just counted as fresh is of a function that is held."""
        self.changes.fresh[lane].pop()
        self.changes.of(lane).held += 1
        self._execute(sql.HOLD_FRESH, (id_, lane, now, f"new {pattern}"))

    def _twins(self, arrivals: Sequence[Arrival]) -> dict[tuple[bytes, bytes], int]:
        """(function, unique) -> id of each living cast that has the digest of one of these."""
        digests: list[int] = []
        for arrival in arrivals:
            if arrival.prepared is not None:
                digests += arrival.prepared.digests
            else:
                for _, given, payload, _ in arrival.casts:
                    unique = kept_unique(given, payload)
                    if unique is not None:
                        digests.append(digest(unique))
        twins: dict[tuple[bytes, bytes], int] = {}
        for start, count in pieces(len(digests)):
            for id_, lane, unique in self._execute(sql.FIND_TWINS[count], digests[start : start + count]):
                name = self._names.get(lane)
                if name is not None:
                    twins[name.function, unique] = id_
        return twins

    def _count_fresh(self, lane: int, fresh: list[Waiting]) -> None:
        """Count accepted casts of one lane, and remember them for whoever forwards."""
        counts = self.changes.of(lane)
        counts.accepted += len(fresh)
        counts.bytes += sum([len(cast[2]) for cast in fresh])
        self.changes.last_ids[lane] = fresh[-1][0]
        known = self.changes.fresh.get(lane)
        if known is None:
            self.changes.fresh[lane] = fresh
        else:
            known += fresh

    # -- taking ----------------------------------------------------------------------------------------------------

    def take(self, lane: int, last_id: int, casts: int, size: int, limit: Limit | None = None) -> Took:
        """The next ready casts of a lane after `last_id`: at most `casts`, and `size` payload bytes but for the first.

        A cast whose CRC does not fit is buried as damaged at once, in a transaction of the committer's, and one that is
        beyond `limit` as expired.
        """
        taken: list[Taken] = []
        seen = 0
        for row in self._rows(lane, last_id, casts):
            if taken and size < _size(row):
                return Took(taken, last_id, False, None)
            seen += 1
            size -= _size(row)
            last_id = row[0]
            if not sound(row):
                self._doomed[last_id] = _Doomed(last_id, lane, False, 0, 0, DAMAGED)
                continue
            since = max(row[2], row[3] or 0)
            if limit is not None and limit.reached(last_id, since):
                self._doomed[last_id] = _Doomed(last_id, lane, False, 0, 0, EXPIRED)
            else:
                taken.append(Taken((last_id, row[6], row[8], since), 0, 0, False))
        return Took(taken, last_id, seen < casts, None)

    def _rows(self, lane: int, last_id: int, casts: int) -> Iterable[tuple[Any, ...]]:
        """Ready casts of a lane as they stand on disk; a page that cannot be read costs only the casts on it.

        What cannot be read at all comes as a row of its id and nothing else, which is not sound.
        """
        try:
            rows: list[tuple[Any, ...]] = self._execute(sql.TAKE_READY, (lane, last_id, casts)).fetchall()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            ids = self._execute(sql.READY_IDS, (lane, last_id, casts)).fetchall()
            rows = [self._read_cast(id_) for (id_,) in ids]
        return rows

    def take_due(self, lane: int, now: int, far: int, casts: int, size: int, limit: Limit | None = None) -> Took:
        """Deferred casts of a lane that are due at `now`, or only after `far` (the clock was set back; both us).

        Those that are damaged or beyond `limit` are buried, as in `take`.
        """
        out = self._taken_due.setdefault(lane, set())
        most = casts + len(out) + 1
        backoff, scheduled = self._execute(sql.NEXT_DUE, (lane, now, lane, now)).fetchone()
        bounds = (lane, most, lane, now, most, lane, now, most, lane, far, most, most)
        due = self._execute(sql.DUE_IDS, bounds).fetchall()
        taken: list[Taken] = []
        doomed: list[_Doomed] = []
        exhausted = True
        for id_, attempts, failures, deferred, aged_from in due:
            if id_ in out:
                continue
            if len(taken) + len(doomed) == casts:
                exhausted = False
                break
            row = self._read_cast(id_)
            if taken and size < _size(row):
                exhausted = False
                break
            size -= _size(row)
            if not sound(row):
                doomed.append(_Doomed(id_, lane, bool(deferred), attempts, failures, DAMAGED))
                continue
            since = max(row[2], row[3] or 0, aged_from or 0)
            if limit is not None and limit.reached(id_, since):
                doomed.append(_Doomed(id_, lane, bool(deferred), attempts, failures, EXPIRED))
            else:
                cast = (id_, row[6], row[8], since)
                taken.append(Taken(cast, attempts, failures, bool(deferred), self.key(id_)))
        # only now: what an error left unread is not taken
        out.update([one.cast[0] for one in taken])
        self._again.update([one.cast[0] for one in taken if not one.deferred])
        self._doom(lane, doomed)
        next_due = min([moment for moment in (backoff, scheduled) if moment is not None], default=None)
        return Took(taken, 0, exhausted, next_due, scheduled is not None and next_due == scheduled)

    def _doom(self, lane: int, doomed: list[_Doomed]) -> None:
        """Casts with a fate are to be buried, and not to be taken before they are."""
        self._taken_due.setdefault(lane, set()).update([one.id for one in doomed])
        self._again.update([one.id for one in doomed if not one.deferred])
        self._doomed.update({one.id: one for one in doomed})

    def expire(self, lane: int, after_id: int | None, after_due: int, casts: int, limit: Limit) -> Took:
        """Bury casts of a lane that are beyond `limit` and not taken; looks at some `casts` of each kind at most.

        Ready ones after `after_id` (None: none of them), in order, up to the first that is not too old; `last_id` is
        the last one buried.  Deferred ones from `after_due` (us) on; `next_due` is where to go on, None when all were
        seen.  Released and revived ones, whose lifetime began then.
        """
        last_id, next_due, out = 0, None, self._taken_due.get(lane, set())
        if after_id is not None:
            for id_, accepted_at, not_before in self._execute(sql.READY_AGES, (lane, after_id, casts)).fetchall():
                if not limit.reached(id_, max(accepted_at, not_before or 0)):
                    break
                self._doomed[id_] = _Doomed(id_, lane, False, 0, 0, EXPIRED)
                last_id = id_
        rows = self._execute(sql.SCHEDULED_AGES, (lane, limit.moment, casts)).fetchall()
        rows += self._execute(sql.AGAIN_AGES, (lane, casts)).fetchall()
        backoff = self._execute(sql.BACKOFF_AGES, (lane, after_due, casts)).fetchall()
        if len(backoff) == casts:
            next_due = backoff[-1][-1] + 1
        self._doom(
            lane,
            [
                _Doomed(id_, lane, bool(deferred), attempts, failures, EXPIRED)
                for id_, since, deferred, attempts, failures, _ in rows + backoff
                if id_ not in out and limit.reached(id_, since)
            ],
        )
        return Took([], last_id, next_due is None, next_due)

    def _read_cast(self, id_: int) -> tuple[Any, ...]:
        """A cast's row, or just its id where it cannot be read; an error of the disk, which may pass, is raised.

        SQLite calls a page corrupt, too, when the disk failed to read it: so it is read twice.
        """
        found: tuple[Any, ...] | None = None
        for _ in range(2):
            try:
                found = self._execute(sql.READ_CAST, (id_,)).fetchone()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                continue
            break
        return found or (id_,)

    def key(self, id_: int) -> bytes | None:
        """The idempotency key that a cast was imported with, if it was."""
        if not self.imported:
            return None
        found = self._execute(sql.IMPORTED_KEY, (id_,)).fetchone()
        return None if found is None else found[0].encode()

    @property
    def found_damage(self) -> bool:
        """True when a take found casts that are damaged."""
        return any(one.reason == DAMAGED for one in self._doomed.values())

    @property
    def found_doomed(self) -> bool:
        """True when a take found casts to be buried."""
        return bool(self._doomed)

    def bury_doomed(self, now: int) -> None:
        """Bury what the takes found rotten or too old; after a ROLLBACK it is buried with the next transaction."""
        self._buried = list(self._doomed)
        for one in self._doomed.values():
            if one.deferred or one.id in self._again:
                self.changes.settled.append((one.lane, one.id))
            why = _WHY[one.reason]
            self._set_fate(
                Setback(
                    one.id, one.lane, one.deferred, None, one.attempts, one.failures, False, 0, one.reason, why, ()
                ),
                now,
            )

    # -- looking ---------------------------------------------------------------------------------------------------

    def find(self, id_: int) -> int | None:
        """The id, if that cast is here and not dead."""
        found = self._execute(sql.FIND_ID, (id_,)).fetchone()
        return None if found is None else id_

    def find_unique(self, unique: bytes) -> int | None:
        """The newest living cast with this unique, whatever its function."""
        for id_, _, known in self._execute(sql.FIND_TWINS[1], (digest(unique),)):
            if known == unique:
                living: int = id_
                return living
        return None

    def find_twin(self, function: bytes, unique: bytes) -> int | None:
        """The newest living cast of this function with this unique."""
        for id_, lane, known in self._execute(sql.FIND_TWINS[1], (digest(unique),)):
            if known == unique and self._names[lane].function == function:
                living: int = id_
                return living
        return None

    # -- verdicts --------------------------------------------------------------------------------------------------

    def store(self, done: Sequence[Done], setbacks: Sequence[Setback], now: int) -> None:
        """Write what attempts came to: retire what is done, defer or bury the rest.  `now` in microseconds."""
        self._retire(done)
        ended, again = self.changes.ended, self._again
        for setback in setbacks:
            self._set_fate(setback, now)
            self._count_ended(setback.lane, setback.id, setback.deferred)
        for id_, lane, size, deferred, doubts in done:
            counts = self.changes.of(lane)
            counts.completed += 1
            counts.bytes -= size
            counts.repeats += doubts
            if deferred:
                counts.deferred -= 1
                self._execute(sql.DELETE_FATE, (id_,))
                self._execute(sql.DELETE_ATTEMPTS, (id_,))
                self._count_ended(lane, id_, True)
            elif again and id_ in again:
                self._execute(sql.DELETE_FATE, (id_,))
                self._execute(sql.DELETE_ATTEMPTS, (id_,))
                self._count_ended(lane, id_, False)
            else:
                ready, due = ended.get(lane, (0, 0))
                ended[lane] = ready + 1, due

    def _count_ended(self, lane: int, id_: int, deferred: bool) -> None:
        ready, due = self.changes.ended.get(lane, (0, 0))
        if deferred or id_ in self._again:
            self.changes.settled.append((lane, id_))
        self.changes.ended[lane] = (ready, due + 1) if deferred else (ready + 1, due)

    def _retire(self, done: Sequence[Done]) -> None:
        """Delete casts that are done, as ranges where their ids are contiguous."""
        loose: list[int] = []
        for first, last in ranges(sorted([one[0] for one in done])):
            if last - first < 2:
                loose += range(first, last + 1)
            else:
                self._execute(sql.DELETE_RANGE, (first, last))
        for start, count in pieces(len(loose)):
            self._execute(sql.DELETE_IDS[count], loose[start : start + count])

    def retire_late(self, ids: Sequence[int]) -> None:
        """Retire casts that are not in flight, whatever their state; what is gone was retired, or purged, before."""
        for id_ in ids:
            self.changes.retired_late.append(id_)
            found = self._execute(sql.FIND_LATE, (id_,)).fetchone()
            if found is None:
                continue
            lane, size, state = found
            assert after(State(state or State.READY.value), Event.DONE) is State.RETIRED
            counts = self.changes.of(lane)
            counts.completed += 1
            counts.bytes -= size
            counts.deferred -= state == State.DEFERRED.value
            counts.held -= state == State.HELD.value
            counts.dead -= state == State.DEAD.value
            self._retire_row(lane, id_)

    def _retire_row(self, lane: int, id_: int) -> None:
        for statement in (sql.DELETE_IDS[1], sql.DELETE_FATE, sql.DELETE_ATTEMPTS):
            self._execute(statement, (id_,))
        if id_ in self._taken_due.get(lane, ()):
            self.changes.settled.append((lane, id_))

    def _set_fate(self, setback: Setback, now: int) -> None:
        state = _DEAD if setback.due_at is None else _DEFERRED
        counts = self.changes.of(setback.lane)
        counts.failures += setback.failed
        counts.expired += setback.reason == EXPIRED
        counts.repeats += setback.doubts
        counts.deferred += (state is _DEFERRED) - setback.deferred
        counts.dead += state is _DEAD
        if setback.due_at is not None:
            due = self.changes.due
            due[setback.lane] = min(setback.due_at, due.get(setback.lane, setback.due_at))
        self._execute(
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
            self._execute(sql.INSERT_ATTEMPT, (setback.id, *attempt))
        if setback.attempts > ATTEMPTS_KEPT:
            self._execute(sql.DROP_OLD_ATTEMPTS, (setback.id, setback.attempts - ATTEMPTS_KEPT))

    # -- the operator ----------------------------------------------------------------------------------------------

    def touch(self, now: int, *, rehearse: bool) -> None:
        """Write something, to see whether that works; to rehearse, a cast too, which does not stay."""
        self._execute(sql.SET_META, ("failed_until", now))
        if rehearse:
            self._execute(sql.REHEARSE)
            self._execute(sql.END_REHEARSAL)

    def pause(self, server: str, paused: bool, now: int) -> None:
        """Remember that an upstream is paused since `now` (us), or no longer."""
        if paused:
            self._execute(sql.PAUSE, (server, now))
        else:
            self._execute(sql.UNPAUSE, (server,))

    def set_steps(self, text: str) -> None:
        """Remember the steps of the wall clock."""
        self._execute(sql.SET_META, ("clock_steps", text))

    def set_draining(self, draining: bool) -> None:
        """Remember that new casts are refused, or no longer."""
        self._execute(sql.SET_META, ("draining", int(draining)))
        self._drains = draining

    def bring_back(self, lane: int, due_at: int, scheduled: bool) -> None:
        """Casts of a lane may go again at `due_at` (us), by their caller's word or at once: whoever forwards looks."""
        self.changes.due[lane] = min(due_at, self.changes.due.get(lane, due_at))
        if scheduled:
            self.changes.scheduled.add(lane)

    def withdraw(self, lane: int, id_: int) -> None:
        """A cast that could be taken, and is not in flight, can be taken no longer."""
        self.changes.left.setdefault(lane, []).append(id_)
        if id_ in self._taken_due.get(lane, ()):
            self.changes.settled.append((lane, id_))

    def make_due(self, now: int, after_id: int, casts: int) -> int | None:
        """Make at most `casts` deferred casts with an id over `after_id` due `now` (us).

        Returns the last id seen, to go on from, or None when there is none left.
        """
        ids = [row[0] for row in self._execute(sql.DEFERRED_AFTER, (after_id, now, casts))]
        if not ids:
            return None
        self._execute(sql.MAKE_DUE, (now, ids[0], ids[-1], now))
        last: int = ids[-1]
        return last


def ranges(ids: Sequence[int]) -> Iterable[tuple[int, int]]:
    """Sorted ids as (first, last) of each contiguous run."""
    if not ids:
        return
    first = last = ids[0]
    for id_ in ids:
        if id_ > last + 1:
            yield first, last
            first = id_
        last = id_
    yield first, last


def _size(row: tuple[Any, ...]) -> int:
    """The bytes of a row's payload, 0 where it has none that can be believed."""
    return len(row[8]) if len(row) > 8 and isinstance(row[8], bytes) else 0


def _distinct(keys: list[tuple[bytes, bytes]]) -> bool:
    return len(keys) < 2 or len(set(keys)) == len(keys)
