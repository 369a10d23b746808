"""Functions that are held: which lanes keep back what is still to come, by whose pattern, and until when.

The table `holds` is the truth; what is kept here is read from it at the start and after a change, so that an arrival
costs a look into a dict, and nothing at all while nothing is held; a ROLLBACK brings back what was before.  Runs in the
writer's thread, inside its transactions.  Raises sqlite3.Error as SQLite does.

A hold whose `until` has passed keeps nothing back; `lapsed` names it, and whoever runs the chores ends it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

from relay.cast import Prepared
from relay.spool import statements as sql


class Hold(NamedTuple):
    """A glob of functions, and when it lapses (us since the epoch), None for never."""

    pattern: str
    until: int | None

    def lapsed(self, now: int) -> bool:
        """True once it is over."""
        return self.until is not None and self.until <= now


class Holds:
    """The holds of a spool, and the lanes that they match."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._execute = conn.execute
        self.all: tuple[Hold, ...] = ()
        #: lane -> the holds that match it
        self.lanes: dict[int, list[Hold]] = {}
        #: both as of the last COMMIT, once this transaction has changed them
        self._before: tuple[tuple[Hold, ...], dict[int, list[Hold]]] | None = None

    def load(self) -> None:
        """Read them from disk."""
        self.all = tuple([Hold(*row) for row in self._execute(sql.HOLDS)])
        self.lanes = {}
        if self.all:
            for lane, pattern, until in self._execute(sql.HELD_LANES):
                self.lanes.setdefault(lane, []).append(Hold(pattern, until))

    def committed(self) -> None:
        """The transaction is on disk."""
        self._before = None

    def forget(self) -> None:
        """The transaction was rolled back."""
        if self._before is not None:
            (self.all, self.lanes), self._before = self._before, None

    def _remember(self) -> None:
        if self._before is None:
            self._before = self.all, dict(self.lanes)

    def made(self, lane: int, function: bytes) -> None:
        """A lane is new: see which holds match it."""
        if self.all:
            found = [Hold(*row) for row in self._execute(sql.HOLDS_OF, (function,))]
            if found:
                self._remember()
                self.lanes[lane] = found

    def pattern(self, lane: int, now: int) -> str | None:
        """By which hold a new cast of this lane is held, if by any."""
        if not self.lanes:
            return None
        return next((hold.pattern for hold in self.lanes.get(lane, ()) if not hold.lapsed(now)), None)

    def concern(self, made: Prepared, now: int) -> bool:
        """True where some of these casts are held."""
        return any(self.pattern(lane, now) is not None for lane, _ in made.fresh)

    def set(self, pattern: str, until: int | None) -> None:
        """Hold what comes for functions that match, until a moment or for ever; again: with another end."""
        self._remember()
        self._execute(sql.SET_HOLD, (pattern, until))
        self.load()

    def ended_by(self, conditions: Mapping[str, Any]) -> list[Hold]:
        """The holds that a release by these conditions ends: its own function's, or all where there is none."""
        return [hold for hold in self.all if not conditions or conditions == {"function": hold.pattern}]

    def drop(self, pattern: str) -> bool:
        """End that hold; False where there is none."""
        self._remember()
        known = any(hold.pattern == pattern for hold in self.all)
        self._execute(sql.DROP_HOLD, (pattern,))
        self.load()
        return known
