"""Changing a spool while no agent runs: under its lock, by the same moves, in the same slices as the agent's writer.

What another process owns is not touched (SpoolOwned, 75), and where there is no spool none is made (SpoolMissing).
Opening does what the start of an agent does, the checkpoint and a migration included.  Raises SpoolUnusable for
whatever the disk says; each slice is then on disk as a whole, or not at all.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from relay.clock import Clock
from relay.errors import SpoolUnusable
from relay.spool import selecting
from relay.spool.edits import EXPORT, OPERATOR, SLICE, Edit, Tally, Verb, apply, states_for
from relay.spool.moving import Imported, Incoming, bring_in, lines, parse_all
from relay.spool.opening import close_spool, machine_id, open_spool
from relay.spool.reading import STATES, SpoolMissing, connect
from relay.spool.selecting import Selection
from relay.spool.transitions import Transitions

_T = TypeVar("_T")


class Spooled:
    """A spool of one's own; `close` lets it go."""

    def __init__(self, path: Path, clock: Clock, uid: int) -> None:
        """Open it; `uid` is who changes it."""
        if not path.exists():
            raise SpoolMissing(f"there is no spool at {path}")
        self.path = path
        self.clock = clock
        self.uid = uid
        self._opened = open_spool(path, clock.wall() / 1e6, machine_id(), 0)
        self.identity = self._opened.identity
        self.next_id = self.identity.next_id
        self.transitions = Transitions(self._opened.conn, self._opened.draining)
        try:
            self.transitions.load()
        except sqlite3.Error as error:
            self.close()
            raise SpoolUnusable(f"{path}: {error}") from None

    def close(self) -> None:
        """Write the log back, and let the lock go."""
        close_spool(self._opened)

    def edit(self, verb: Verb, selection: Selection, *, held_by: str = "", dry_run: bool = False) -> Iterator[Tally]:
        """Change what is selected, slice by slice; what came of each.  A dry run is rolled back."""
        edit = Edit(verb, self.uid, held_by or (OPERATOR if verb is Verb.HOLD else ""))
        now = self.clock.wall()
        for chosen in selecting.select(self.path, selection, states_for(verb, selection), now):
            ids = list(chosen.casts)
            tally = self.change(partial(apply, self.transitions, edit, ids, (), now), keep=not dry_run)
            tally.missing = chosen.missing
            yield tally

    def hold_new(self, pattern: str, until: float | None) -> None:
        """Hold what is still to come; `until` in Unix seconds."""
        self.change(lambda: self.transitions.holds.set(pattern, None if until is None else round(until * 1e6)))

    def end_holds(self, conditions: Mapping[str, Any]) -> None:
        """End the hold that a release by these conditions ends."""
        for hold in self.transitions.holds.ended_by(conditions):
            self.change(partial(self.transitions.holds.drop, hold.pattern))

    def bring_in(self, casts: Sequence[Incoming], *, dry_run: bool = False) -> Imported:
        """Import casts, all of them or none."""
        first_id = self.next_id
        self.next_id += len(casts)
        now = self.clock.wall()
        return self.change(partial(bring_in, self.transitions, self.identity, casts, first_id, now), keep=not dry_run)

    def import_lines(self, body: bytes, *, dry_run: bool = False) -> dict[str, int]:
        """Import lines, all of them or none; ValueError names one that cannot be read."""
        said = self.bring_in(parse_all(body), dry_run=dry_run)
        return {"imported": said.imported, "repeated": said.repeated, "twins": said.twins}

    def export(self, selections: Iterable[Selection], *, hold: bool) -> Iterator[bytes]:
        """The lines of what is selected, with `hold` held first; and a last one that says how many are not here."""
        missing, now = 0, self.clock.wall()
        edit = Edit(Verb.HOLD, self.uid, EXPORT)
        for selection in selections:
            states = STATES if not hold or selection.wanted.state == "dead" else ("ready", "deferred", "held")
            for chosen in selecting.select(self.path, selection, states, now):
                ids = list(chosen.casts)
                missing += chosen.missing
                if hold:
                    self.change(partial(apply, self.transitions, edit, ids, (), now))
                with closing(connect(self.path)) as conn:
                    yield from lines(conn, self.identity, ids, now, kept=hold)
        yield json.dumps({"done": True, "in_flight": 0, "missing": missing}).encode() + b"\n"

    def mark(self, ids: Sequence[int]) -> None:
        """Remember that these held casts were written out."""
        edit, now = Edit(Verb.MARK, self.uid), self.clock.wall()
        for start in range(0, len(ids), SLICE):
            self.change(partial(apply, self.transitions, edit, list(ids[start : start + SLICE]), (), now))

    def change(self, change: Callable[[], _T], *, keep: bool = True) -> _T:
        """A transaction; rolled back unless it is to be kept."""
        execute = self.transitions.execute
        try:
            execute("BEGIN IMMEDIATE")
            try:
                result = change()
                if not keep:
                    execute("ROLLBACK")
                    self.transitions.forget()
                    return result
                self.transitions.conclude()
                execute("COMMIT")
            except BaseException:
                if self._opened.conn.in_transaction:
                    execute("ROLLBACK")
                self.transitions.forget()
                raise
        except sqlite3.Error as error:
            raise SpoolUnusable(f"{self.path}: {error}") from None
        self.transitions.committed()
        return result
