"""Accepting: what callers handed over becomes rows, each with an id of its own, or that of its living twin.

A batch is inserted with many rows a statement, because SQLite then works outside the interpreter's lock for all of them
at once.  What was prepared in the event loop's thread goes in as it is; the rest is gone through cast by cast: casts
for later, held ones, a lane that is new, and what may be twins or have no room.

Inside a transaction of the writer's; the ledger has what it does until COMMIT returned.  Raises sqlite3.Error as SQLite
does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relay.cast import COLUMNS, SHORT_COLUMNS, Arrival, Waiting, checksum, seed
from relay.lifecycle import Event, State, after
from relay.spool import statements as sql
from relay.spool.ledger import Ledger
from relay.spool.preparing import digest, kept_unique

assert after(State.NOWHERE, Event.SCHEDULE) is State.DEFERRED

#: bytes of payload beyond which an arrival's casts are inserted one at a time; no read of small casts brings so many
LARGE = 256 * 1024


class Accepting:
    """New casts, over a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def append(self, arrivals: Sequence[Arrival], now: int, closed: str | None, casts: int, size: int) -> None:
        """Insert what these callers handed over and set each arrival's `outcome`.

        `now` in microseconds; `closed` is the code that refuses every new cast, if any; otherwise up to `casts` new
        ones with `size` bytes have room, and what is beyond gets `spool_full`.  A cast whose unique belongs to a living
        one gets that one's id, whether or not there is room.
        """
        twins, holds = self._twins(arrivals), self._ledger.holds
        short: list[object] = []
        full: list[object] = []
        for arrival in arrivals:
            made = arrival.prepared
            fits = closed is None and len(arrival.casts) <= casts and arrival.size <= size
            fits = fits and not (holds.lanes and made and holds.concern(made, now))
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
        for start, count in sql.pieces(len(values) // columns):
            self._ledger.execute(statements[count], values[start * columns : (start + count) * columns])

    def _insert_large(self, values: list[object], *, short: bool) -> None:
        """Row by row: SQLite copies all that a statement is given, and keeps it until the next time."""
        statement, columns = sql.INSERT_LARGE, len(COLUMNS)
        if short:
            statement, columns = sql.INSERT_LARGE_SHORT, len(SHORT_COLUMNS)
        for start in range(0, len(values), columns):
            self._ledger.execute(statement, values[start : start + columns])
        self._ledger.execute(statement, (None,) * columns)

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
        ledger = self._ledger
        outcome: list[int | str] = []
        for id_, (function, given, payload, priority) in enumerate(arrival.casts, arrival.first_id):
            unique = kept_unique(given, payload)
            twin = twins.get((function, unique)) if unique else None
            if twin is not None:
                ledger.changes.of(ledger.lane(function, priority)).coalesced += 1
                outcome.append(twin)
            elif closed is not None:
                outcome.append(closed)
            elif casts < 1 or size < len(payload):
                outcome.append("spool_full")
            else:
                casts -= 1
                size -= len(payload)
                lane = ledger.lane(function, priority)
                key = digest(unique) if unique else None
                later = arrival.not_before
                crc = checksum(seed(lane, now, later, arrival.uid), id_, key, unique, payload)
                values += (id_, lane, now, later, arrival.uid, key, unique, crc, payload)
                self._count_fresh(lane, [(id_, unique, payload, max(now, later or 0))])
                pattern = ledger.holds.pattern(lane, now)
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
        changes = self._ledger.changes
        changes.fresh[lane].pop()
        changes.of(lane).deferred += 1
        changes.due[lane] = min(later, changes.due.get(lane, later))
        changes.scheduled.add(lane)
        self._ledger.execute(sql.SCHEDULE, (id_, lane, later, now))

    def _hold_fresh(self, lane: int, id_: int, pattern: str, now: int) -> None:
        """The cast just counted as fresh is of a function that is held."""
        changes = self._ledger.changes
        changes.fresh[lane].pop()
        changes.of(lane).held += 1
        self._ledger.execute(sql.HOLD_FRESH, (id_, lane, now, f"new {pattern}"))

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
        for start, count in sql.pieces(len(digests)):
            for id_, lane, unique in self._ledger.execute(sql.FIND_TWINS[count], digests[start : start + count]):
                name = self._ledger.names.get(lane)
                if name is not None:
                    twins[name.function, unique] = id_
        return twins

    def _count_fresh(self, lane: int, fresh: list[Waiting]) -> None:
        """Count accepted casts of one lane, and remember them for whoever forwards."""
        changes = self._ledger.changes
        counts = changes.of(lane)
        counts.accepted += len(fresh)
        counts.bytes += sum([len(cast[2]) for cast in fresh])
        changes.last_ids[lane] = fresh[-1][0]
        known = changes.fresh.get(lane)
        if known is None:
            changes.fresh[lane] = fresh
        else:
            known += fresh


def _distinct(keys: list[tuple[bytes, bytes]]) -> bool:
    return len(keys) < 2 or len(set(keys)) == len(keys)
