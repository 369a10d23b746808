"""Taking: casts come off the disk to be sent, in the order they were accepted, or once they are due.

Each is held against its checksum here: one that is not what was accepted is doomed, and so is one whose lifetime is
over.  What is doomed is not handed out; it is buried with the next transaction, and again with the one after that if
that fails.  A take reads, and needs no transaction.

A cast that cannot be read at all is not condemned for it: SQLite calls a page corrupt, too, when the disk failed to
read it, and what fails to read today may be read tomorrow.  It is deferred for UNREAD_S, with the reason `unreadable`,
so that it stands in nobody's way; `found_unread` says so, and whoever hears it has the whole spool looked at.

No cast is handed out twice.  A flipped bit in an index makes one entry of it name its neighbour: SQLite sees nothing,
that cast would come once more, and in the counts it would stand for the one that no index knows of any more, which
nobody would miss.  So what a take has met is passed over when it comes again; `found_twice` says so.

What was handed out of those that have a fate is remembered in the ledger until its verdict is stored; of the others
whoever forwards knows how far a lane was read.  Raises sqlite3.Error as SQLite does: then nothing was taken.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

from relay.ageing import Limit
from relay.cast import Taken, sound
from relay.lifecycle import Event, State, after
from relay.spool import statements as sql
from relay.spool.changes import FAILED, Setback, Took
from relay.spool.codes import primary
from relay.spool.ending import EXPIRED, set_fate
from relay.spool.ledger import Ledger
from relay.spool.schema import number

assert after(State.READY, Event.DAMAGE) is after(State.DEFERRED, Event.DAMAGE) is State.DEAD
assert after(State.READY, Event.EXPIRE) is after(State.DEFERRED, Event.EXPIRE) is State.DEAD
assert after(State.READY, Event.UNREAD) is after(State.DEFERRED, Event.UNREAD) is State.DEFERRED

#: why a cast is buried or deferred that was not sent, and what is said of it
DAMAGED, UNREAD = "damaged", "unreadable"
_WHY = {
    DAMAGED: "its checksum does not fit",
    UNREAD: "it could not be read from disk",
    EXPIRED: "its lifetime was over",
}
#: seconds until a cast that could not be read is read again; `[forwarder] backoff_max`, where that is less
UNREAD_S = 60.0
#: casts that are to be set back and are not yet, beyond which nothing is taken
MOST_DOOMED = 10_000
#: what SQLite says where a page could not be read, be it the disk or the page
_PAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR)


class _Doomed(NamedTuple):
    """A cast that is not to be sent now: its checksum does not fit, its lifetime is over, or it could not be read."""

    id: int
    lane: int
    deferred: bool
    attempts: int
    failures: int
    reason: str


class Taking:
    """Casts to be sent, over a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        #: casts that a take found doomed, and how many of them this transaction buries
        self._doomed: dict[int, _Doomed] = {}
        self._buried: list[int] = []
        #: ids of casts that could not be read when their turn came last; MOST_DOOMED of them at most
        self.unread: set[int] = set()
        #: True when the last take met a cast twice, or out of order
        self.found_twice = False

    def committed(self) -> None:
        """What was to be buried is."""
        for id_ in self._buried:
            del self._doomed[id_]
        self._buried = []

    def forget(self) -> None:
        """It is not, and will be with the next transaction."""
        self._buried = []

    def take(self, lane: int, last_id: int, casts: int, size: int, limit: Limit | None = None) -> Took:
        """The next ready casts of a lane after `last_id`: at most `casts`, and `size` payload bytes but for the first.

        A cast whose CRC does not fit is buried as damaged at once, in a transaction of the committer's, and one that is
        beyond `limit` as expired.
        """
        self.found_twice = False
        if len(self._doomed) >= MOST_DOOMED:
            return FAILED
        taken: list[Taken] = []
        seen = 0
        for row in self._rows(lane, last_id, casts):
            if row[0] <= last_id:
                self.found_twice = True
                seen += 1
                continue
            length = _size(row)
            if taken and size < length:
                return Took(taken, last_id, False, None)
            seen += 1
            size -= length
            last_id = row[0]
            if not sound(row):
                self._doomed[last_id] = _Doomed(last_id, lane, False, 0, 0, self._blame(row))
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
            rows: list[tuple[Any, ...]] = self._ledger.execute(sql.TAKE_READY, (lane, last_id, casts)).fetchall()
        except sqlite3.Error as error:
            if primary(error) not in _PAGE:
                raise
            ids = self._ledger.execute(sql.READY_IDS, (lane, last_id, casts)).fetchall()
            rows = [self._read_cast(id_) for (id_,) in ids]
        return rows

    def take_due(self, lane: int, now: int, far: int, casts: int, size: int, limit: Limit | None = None) -> Took:
        """Deferred casts of a lane that are due at `now`, or only after `far` (the clock was set back; both us).

        Those that are damaged or beyond `limit` are buried, as in `take`.
        """
        out = self._ledger.taken_due.setdefault(lane, set())
        most = casts + len(out) + 1
        backoff, scheduled = self._ledger.execute(sql.NEXT_DUE, (lane, now, lane, now)).fetchone()
        bounds = (lane, most, lane, now, most, lane, now, most, lane, far, most, most)
        due = self._ledger.execute(sql.DUE_IDS, bounds).fetchall()
        taken: list[Taken] = []
        doomed: list[_Doomed] = []
        exhausted = True
        distinct = {row[0]: row for row in due}
        self.found_twice = len(distinct) < len(due)
        for id_, *fate in distinct.values():
            if id_ in out:
                continue
            # a fate has no checksum
            attempts, failures, deferred, aged_from = map(number, fate)
            if len(taken) + len(doomed) == casts:
                exhausted = False
                break
            row = self._read_cast(id_)
            if taken and size < _size(row):
                exhausted = False
                break
            size -= _size(row)
            if not sound(row):
                doomed.append(_Doomed(id_, lane, bool(deferred), attempts, failures, self._blame(row)))
                continue
            self.unread.discard(id_)
            since = max(row[2], row[3] or 0, aged_from)
            if limit is not None and limit.reached(id_, since):
                doomed.append(_Doomed(id_, lane, bool(deferred), attempts, failures, EXPIRED))
            else:
                cast = (id_, row[6], row[8], since)
                taken.append(Taken(cast, attempts, failures, bool(deferred), self.key(id_)))
        # only now: what an error left unread is not taken
        out.update([one.cast[0] for one in taken])
        self._ledger.again.update([one.cast[0] for one in taken if not one.deferred])
        self._doom(lane, doomed)
        next_due = min([moment for moment in (backoff, scheduled) if isinstance(moment, int)], default=None)
        return Took(taken, 0, exhausted, next_due, scheduled is not None and next_due == scheduled)

    def _doom(self, lane: int, doomed: list[_Doomed]) -> None:
        """Casts with a fate are to be buried, and not to be taken before they are."""
        self._ledger.taken_due.setdefault(lane, set()).update([one.id for one in doomed])
        self._ledger.again.update([one.id for one in doomed if not one.deferred])
        self._doomed.update({one.id: one for one in doomed})

    def expire(self, lane: int, after_id: int | None, after_due: int, casts: int, limit: Limit) -> Took:
        """Bury casts of a lane that are beyond `limit` and not taken; looks at some `casts` of each kind at most.

        Ready ones after `after_id` (None: none of them), in order, up to the first that is not too old; `last_id` is
        the last one buried.  Deferred ones from `after_due` (us) on; `next_due` is where to go on, None when all were
        seen.  Released and revived ones, whose lifetime began then.
        """
        last_id, next_due, out = 0, None, self._ledger.taken_due.get(lane, set())
        self.found_twice = False
        if after_id is not None:
            for id_, accepted_at, not_before in self._ledger.execute(
                sql.READY_AGES, (lane, after_id, casts)
            ).fetchall():
                if id_ <= max(after_id, last_id):
                    # what is before may be in flight
                    self.found_twice = True
                    continue
                if not limit.reached(id_, max(number(accepted_at), number(not_before))):
                    break
                self._doomed[id_] = _Doomed(id_, lane, False, 0, 0, EXPIRED)
                last_id = id_
        rows = self._ledger.execute(sql.SCHEDULED_AGES, (lane, limit.moment, casts)).fetchall()
        rows += self._ledger.execute(sql.AGAIN_AGES, (lane, casts)).fetchall()
        backoff = self._ledger.execute(sql.BACKOFF_AGES, (lane, after_due, casts)).fetchall()
        if len(backoff) == casts:
            next_due = number(backoff[-1][-1], limit.moment) + 1
        self._doom(
            lane,
            [
                _Doomed(id_, lane, bool(deferred), number(attempts), number(failures), EXPIRED)
                for id_, since, deferred, attempts, failures, _ in rows + backoff
                if id_ not in out and isinstance(since, int) and limit.reached(id_, since)
            ],
        )
        return Took([], last_id, next_due is None, next_due)

    def _read_cast(self, id_: int) -> tuple[Any, ...]:
        """A cast's row, or just its id where its page cannot be read, or nothing is there; any other error is raised.

        It is read twice: what the disk failed to read once is there at the second look.
        """
        found: tuple[Any, ...] | None = None
        for _ in range(2):
            try:
                found = self._ledger.execute(sql.READ_CAST, (id_,)).fetchone()
            except sqlite3.Error as error:
                if primary(error) not in _PAGE:
                    raise
                continue
            break
        return found or (id_,)

    def _blame(self, row: tuple[Any, ...]) -> str:
        """Why a row is not sound."""
        if len(row) > 1:
            self.unread.discard(row[0])
            return DAMAGED
        if len(self.unread) < MOST_DOOMED:
            self.unread.add(row[0])
        return UNREAD

    def key(self, id_: int) -> bytes | None:
        """The idempotency key that a cast was imported with, if it was."""
        if not self._ledger.imported:
            return None
        found = self._ledger.execute(sql.IMPORTED_KEY, (id_,)).fetchone()
        return None if found is None else str(found[0]).encode()

    @property
    def found_damage(self) -> bool:
        """True when a take found casts that are damaged."""
        return any(one.reason == DAMAGED for one in self._doomed.values())

    @property
    def found_unread(self) -> bool:
        """True when a take found casts that cannot be read."""
        return any(one.reason == UNREAD for one in self._doomed.values())

    @property
    def found_doomed(self) -> bool:
        """True when a take found casts to be buried or deferred."""
        return bool(self._doomed)

    def bury_doomed(self, now: int) -> None:
        """Bury what the takes found rotten or too old, and defer what they could not read; `now` in microseconds.

        After a ROLLBACK it is done with the next transaction.
        """
        self._buried = list(self._doomed)
        for one in self._doomed.values():
            if one.deferred or one.id in self._ledger.again:
                self._ledger.changes.settled.append((one.lane, one.id))
            due_at = now + round(UNREAD_S * 1e6) if one.reason == UNREAD else None
            why = _WHY[one.reason]
            set_fate(
                self._ledger,
                Setback(
                    one.id, one.lane, one.deferred, due_at, one.attempts, one.failures, False, 0, one.reason, why, ()
                ),
                now,
            )


def _size(row: tuple[Any, ...]) -> int:
    """The bytes of a row's payload, 0 where it has none that can be believed."""
    return len(row[8]) if len(row) > 8 and isinstance(row[8], bytes) else 0
