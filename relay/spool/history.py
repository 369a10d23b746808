"""The history of casts that are done, where one is wanted: a row each, written in the transaction that retires them.

So a kill neither loses one nor has it twice: a cast stands in `casts` until it stands here.  What is kept is what tells
how it went, never the payload; the attempts that did not go well stay where they are.

Bounded: a transaction that writes here removes as many of the oldest as are too many, and SLICE more than it wrote at
most; what is too old goes by a chore, SLICE a transaction.  While the disk is full or fails nothing is written: a
history must not be what keeps a cast from being retired.  A row that rotted so far that it cannot be told of is left
out.

Synchronous, on the writer's connection, inside its transactions.  Raises sqlite3.Error as SQLite does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from relay.spool import statements as sql
from relay.spool.changes import Kept

#: rows that one transaction removes, beyond as many as it wrote
SLICE = 500


class History:
    """The table `done`, on `conn`."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        #: as of the last COMMIT, and what this transaction changed
        self.rows = 0
        self._change = 0

    def load(self) -> None:
        """Count what is there."""
        self.rows = self._conn.execute(sql.COUNT_DONE).fetchone()[0]

    def committed(self) -> None:
        """COMMIT returned."""
        self.rows += self._change
        self._change = 0

    def forget(self) -> None:
        """The transaction was rolled back."""
        self._change = 0

    def keep(self, kept: Sequence[Kept], most: int) -> None:
        """Write these down, before they are retired; `most` rows are kept in all."""
        self._change += self._conn.executemany(sql.KEEP_DONE, kept).rowcount
        self._cut(most, len(kept) + SLICE)

    def drop(self, before: int, most: int) -> int:
        """Remove those that were done before a moment (us), or are more than `most`, SLICE at most; how many."""
        removed = self._remove(sql.DONE_BEFORE, (before, SLICE))
        return removed + self._cut(most, SLICE - removed)

    def _cut(self, most: int, slice_: int) -> int:
        excess = min(self.rows + self._change - most, slice_)
        return self._remove(sql.OLDEST_DONE, (excess,)) if excess > 0 else 0

    def _remove(self, which: str, parameters: tuple[int, ...]) -> int:
        self._conn.execute(sql.DROP_DONE_ATTEMPTS.format(which), parameters)
        removed = self._conn.execute(sql.DROP_DONE.format(which), parameters).rowcount
        self._change -= removed
        return removed
