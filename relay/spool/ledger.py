"""What the writer knows of the spool beside its tables: lanes and their counts, what is taken, and what changes now.

A transaction notes in `changes` what it does; nothing of it may be told to anybody before COMMIT returned.  After that
`committed` hands it out, once, and what is kept here is the new state of things; after a ROLLBACK `forget` makes it
again what the disk says.  The stages of a cast's life (`accepting`, `taking`, `ending`) all write through one of these.

Runs in the writer's thread.  Raises sqlite3.Error as SQLite does.
"""

from __future__ import annotations

import sqlite3

from relay.cast import LaneName
from relay.spool import statements as sql
from relay.spool.changes import Changes, Counts
from relay.spool.holds import Holds


class Ledger:
    """The lanes in memory and the transaction's changes, over `conn`."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.execute = conn.execute
        self._lanes: dict[tuple[bytes, int], int] = {}
        self.names: dict[int, LaneName] = {}
        #: lanes that this transaction made
        self._made: list[tuple[bytes, int]] = []
        #: casts and payload bytes on disk, as of the last COMMIT
        self.kept = 0
        self.kept_bytes = 0
        #: by lane the casts with a fate that were handed out, or are to be buried, and have no verdict yet
        self.taken_due: dict[int, set[int]] = {}
        #: those of them that count as ready: released or revived, they have a fate all the same
        self.again: set[int] = set()
        #: the patterns whose new casts are held
        self.holds = Holds(conn)
        #: True once a cast was imported: only then is a key of its own looked for
        self.imported = False
        self.changes = Changes()

    def load(self) -> dict[LaneName, Counts]:
        """Read the lanes and their counts, what is held, and whether anything was imported."""
        found: dict[LaneName, Counts] = {}
        for number, function, priority, *values in self.execute(sql.LANES):
            name = LaneName(number, function, priority)
            self._lanes[function, priority] = number
            self.names[number] = name
            found[name] = counts = Counts(values)
            self.kept += counts.kept
            self.kept_bytes += counts.bytes
        self.holds.load()
        self.imported = self.execute(sql.ANY_IMPORT).fetchone() is not None
        return found

    def lane(self, function: bytes, priority: int) -> int:
        """The number of a lane, made when it is new."""
        number = self._lanes.get((function, priority))
        if number is None:
            number = self.execute(sql.INSERT_LANE, (function, priority)).lastrowid
            assert number is not None
            self._lanes[function, priority] = number
            self.names[number] = LaneName(number, function, priority)
            self._made.append((function, priority))
            self.holds.made(number, function)
        return number

    # -- the transaction -------------------------------------------------------------------------------------------

    def conclude(self) -> None:
        """The last statements before COMMIT: the counts, so that they change with the casts or not at all."""
        for lane, counts in self.changes.counts.items():
            self.execute(sql.COUNT, (*counts.values(), self.changes.last_ids.get(lane, 0), lane))

    def committed(self) -> Changes:
        """COMMIT returned: what it did, once."""
        changes, self.changes = self.changes, Changes()
        self._made.clear()
        self.holds.committed()
        for lane, id_ in changes.settled:
            self.taken_due[lane].discard(id_)
            self.again.discard(id_)
        for counts in changes.counts.values():
            self.kept += counts.kept
            self.kept_bytes += counts.bytes
        return changes

    def forget(self) -> None:
        """The transaction was rolled back."""
        for key in self._made:
            del self.names[self._lanes.pop(key)]
        self._made.clear()
        self.changes = Changes()
        self.holds.forget()

    # -- what an operator does to casts ----------------------------------------------------------------------------

    def bring_back(self, lane: int, due_at: int, scheduled: bool) -> None:
        """Casts of a lane may go again at `due_at` (us), by their caller's word or at once: whoever forwards looks."""
        self.changes.due[lane] = min(due_at, self.changes.due.get(lane, due_at))
        if scheduled:
            self.changes.scheduled.add(lane)

    def withdraw(self, lane: int, id_: int) -> None:
        """A cast that could be taken, and is not in flight, can be taken no longer."""
        self.changes.left.setdefault(lane, []).append(id_)
        if id_ in self.taken_due.get(lane, ()):
            self.changes.settled.append((lane, id_))
