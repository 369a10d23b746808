"""What can happen to casts on disk, and to what the spool remembers beside them, as functions on one connection.

Synchronous, in the writer's thread, inside a transaction that the committer begins and ends.  The stages of a cast's
life are `accepting`, `taking` and `ending`, over one ledger; here is what joins them, and what is no stage: looking a
cast up, and what an operator decides.  Nothing of a transaction may be told to anybody before COMMIT returned.  After a
ROLLBACK the committer calls `forget`, and the memory kept here is again what the disk says.

Moves of a cast are those of `lifecycle`; the names of its states on disk come from there.  Raises sqlite3.Error as
SQLite does; never swallows one.
"""

from __future__ import annotations

import sqlite3

from relay.cast import LaneName
from relay.spool import statements as sql
from relay.spool.accepting import Accepting
from relay.spool.changes import Changes, Counts
from relay.spool.ending import Ending
from relay.spool.history import History
from relay.spool.ledger import Ledger
from relay.spool.preparing import digest
from relay.spool.taking import Taking


class Transitions:
    """The moves of casts on `conn`, stage by stage."""

    def __init__(self, conn: sqlite3.Connection, draining: bool = False) -> None:
        self.execute = conn.execute
        self.many = conn.executemany
        self.ledger = ledger = Ledger(conn)
        accepting, ending = Accepting(ledger), Ending(ledger)
        self._taking = taking = Taking(ledger)
        self.append = accepting.append
        self.take, self.take_due, self.expire = taking.take, taking.take_due, taking.expire
        self.bury_doomed = taking.bury_doomed
        self.store, self.retire_late = ending.store, ending.retire_late
        #: the patterns whose new casts are held
        self.holds = ledger.holds
        #: the casts that are done, where they are kept
        self.history = History(conn)
        #: whether new casts are refused: as of the last COMMIT, and as this transaction leaves it
        self.draining = draining
        self._drains = draining
        #: the steps of the wall clock, as they were remembered at the start
        self.steps: str | None = None

    def load(self) -> dict[LaneName, Counts]:
        """Read what is kept in memory of it: the lanes with their counts, what is held, the steps of the clock."""
        found = self.ledger.load()
        self.history.load()
        steps = self.execute(sql.GET_META, ("clock_steps",)).fetchone()
        self.steps = None if steps is None else str(steps[0])
        return found

    def ages(self, casts: int) -> list[tuple[int, int]]:
        """At most so many casts from end to end of what is here: ids, ascending, and when accepted (us).

        One that cannot be read, or is no number any more, is left out: its turn will come when it is taken.
        """
        first, last = self.execute(sql.ENDS).fetchone()
        if first is None:
            return []
        found: set[tuple[int, int]] = set()
        for id_ in range(first, last + 1, max(1, (last - first) // casts + 1)):
            try:
                row = self.execute(sql.ACCEPTED_FROM, (id_,)).fetchone()
            except sqlite3.Error:
                continue
            if row is not None and isinstance(row[1], int):
                found.add(row)
        return sorted(found)

    def name(self, lane: int) -> LaneName:
        """The function and priority of a lane's number."""
        return self.ledger.names[lane]

    @property
    def found_damage(self) -> bool:
        """True when a take found casts that are damaged."""
        return self._taking.found_damage

    @property
    def found_unread(self) -> bool:
        """True when a take found casts that cannot be read."""
        return self._taking.found_unread

    @property
    def found_twice(self) -> bool:
        """True when the last take met a cast twice: an index is rotten."""
        return self._taking.found_twice

    @property
    def unread(self) -> int:
        """Casts that could not be read when their turn came last."""
        return len(self._taking.unread)

    @property
    def found_doomed(self) -> bool:
        """True when a take found casts to be buried or deferred."""
        return self._taking.found_doomed

    # -- the transaction -------------------------------------------------------------------------------------------

    def conclude(self) -> None:
        """The last statements before COMMIT."""
        self.ledger.conclude()

    def committed(self) -> Changes:
        """COMMIT returned: what it did, once."""
        self.draining = self._drains
        self._taking.committed()
        self.history.committed()
        return self.ledger.committed()

    def forget(self) -> None:
        """The transaction was rolled back."""
        self._drains = self.draining
        self._taking.forget()
        self.history.forget()
        self.ledger.forget()

    # -- looking ---------------------------------------------------------------------------------------------------

    def find(self, id_: int) -> int | None:
        """The id, if that cast is here and not dead."""
        found = self.execute(sql.FIND_ID, (id_,)).fetchone()
        return None if found is None else id_

    def find_unique(self, unique: bytes) -> int | None:
        """The newest living cast with this unique, whatever its function."""
        for id_, _, known in self.execute(sql.FIND_TWINS[1], (digest(unique),)):
            if known == unique:
                living: int = id_
                return living
        return None

    def find_twin(self, function: bytes, unique: bytes) -> int | None:
        """The newest living cast of this function with this unique."""
        for id_, lane, known in self.execute(sql.FIND_TWINS[1], (digest(unique),)):
            name = self.ledger.names.get(lane)
            if known == unique and name is not None and name.function == function:
                living: int = id_
                return living
        return None

    # -- the operator ----------------------------------------------------------------------------------------------

    def touch(self, now: int, *, rehearse: bool) -> None:
        """Write something, to see whether that works; to rehearse, a cast too, which does not stay."""
        self.execute(sql.SET_META, ("failed_until", now))
        if rehearse:
            self.execute(sql.REHEARSE)
            self.execute(sql.END_REHEARSAL)

    def pause(self, server: str, paused: bool, now: int) -> None:
        """Remember that an upstream is paused since `now` (us), or no longer."""
        if paused:
            self.execute(sql.PAUSE, (server, now))
        else:
            self.execute(sql.UNPAUSE, (server,))

    def set_steps(self, text: str) -> None:
        """Remember the steps of the wall clock."""
        self.execute(sql.SET_META, ("clock_steps", text))

    def set_draining(self, draining: bool) -> None:
        """Remember that new casts are refused, or no longer."""
        self.execute(sql.SET_META, ("draining", int(draining)))
        self._drains = draining

    def make_due(self, now: int, after_id: int, casts: int) -> int | None:
        """Make at most `casts` deferred casts with an id over `after_id` due `now` (us).

        Returns the last id seen, to go on from, or None when there is none left.
        """
        ids = [row[0] for row in self.execute(sql.DEFERRED_AFTER, (after_id, now, casts))]
        if not ids:
            return None
        self.execute(sql.MAKE_DUE, (now, ids[0], ids[-1], now))
        last: int = ids[-1]
        return last
