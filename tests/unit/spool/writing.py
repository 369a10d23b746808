"""The writer's side of a spool on a real file, driven by hand: what the committer does, one step at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from relay.cast import Arrival, LaneName, Submission, Taken
from relay.spool.changes import Attempt, Changes, Counts, Done, Kept, Setback
from relay.spool.edits import Edit, Tally, Verb, apply
from relay.spool.opening import close_spool, open_spool
from relay.spool.preparing import prepare
from relay.spool.transitions import Transitions

#: a moment, and the moments around it, in microseconds
NOW = 1_700_000_000_000_000
ENOUGH = 1 << 40


def cast(function: bytes = b"f", payload: bytes = b"x", unique: bytes = b"", priority: int = 1) -> Submission:
    """A submission."""
    return function, unique, payload, priority


class Writer:
    """One spool, opened and written without a thread."""

    def __init__(self, path: Path, machine: str = "machine", now_s: float = 1000.0) -> None:
        self.path = path
        self.machine = machine
        self.now_s = now_s
        #: what the last edit changed
        self.changed = Changes()
        self._open()

    def _open(self) -> None:
        self.opened = open_spool(self.path, self.now_s, self.machine, lock_wait_s=0)
        self.conn = self.opened.conn
        self.identity = self.opened.identity
        self.next_id = self.identity.next_id
        self.transitions = Transitions(self.conn, self.opened.draining)
        self.counts: dict[LaneName, Counts] = self.transitions.load()

    def close(self) -> None:
        """End as an agent ends."""
        close_spool(self.opened)

    def reopen(self) -> None:
        """End, and begin again from what the disk says."""
        self.close()
        self._open()

    # -- transactions ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """As the committer begins a batch."""
        self.conn.execute("BEGIN IMMEDIATE")

    def commit(self) -> Changes:
        """As the committer ends it."""
        self.transitions.conclude()
        self.conn.execute("COMMIT")
        changes = self.transitions.committed()
        for number, change in changes.counts.items():
            self.counts.setdefault(self.transitions.name(number), Counts()).add(change)
        return changes

    def rollback(self) -> None:
        """As the committer ends it when the disk failed."""
        # a disk that is full ends the transaction by itself
        if self.conn.in_transaction:
            self.conn.execute("ROLLBACK")
        self.transitions.forget()

    def write(self, change: Callable[[], None]) -> Changes:
        """One transaction."""
        self.begin()
        change()
        return self.commit()

    # -- the moves -------------------------------------------------------------------------------------------------

    def arrival(self, casts: Sequence[Submission], uid: int | None = 1, *, prepared: bool = True) -> Arrival:
        """Casts as the spool hands them to the writer, made ready beforehand where they can be."""
        made = Arrival(list(casts), uid, lambda arrival: None)
        made.first_id = self.next_id
        self.next_id += len(casts)
        if prepared:
            lanes = {(name.function, name.priority): name.number for name in self.counts}
            made.prepared = prepare(made, NOW, lanes)
        return made

    def append(
        self,
        *arrivals: Arrival,
        closed: str | None = None,
        casts: int = ENOUGH,
        size: int = ENOUGH,
    ) -> Changes:
        """Accept these in one transaction."""
        return self.write(lambda: self.transitions.append(arrivals, NOW, closed, casts, size))

    def accept(self, *casts: Submission) -> list[int]:
        """Accept casts, and their ids."""
        arrival = self.arrival(casts)
        self.append(arrival)
        ids = [one for one in arrival.outcome if isinstance(one, int)]
        assert len(ids) == len(casts)
        return ids

    def store(
        self,
        done: Sequence[Done] = (),
        setbacks: Sequence[Setback] = (),
        kept: Sequence[Kept] = (),
        most: int = ENOUGH,
    ) -> Changes:
        """Store verdicts in one transaction; deferred casts were taken before, as the forwarder takes them."""
        for lane in {one[1] for one in done if one[3]} | {one.lane for one in setbacks if one.deferred}:
            if lane not in self.transitions.ledger.taken_due:
                self.transitions.take_due(lane, ENOUGH << 20, ENOUGH << 20, 1000, ENOUGH)

        def change() -> None:
            self.transitions.history.keep(kept, most)
            self.transitions.store(done, setbacks, NOW)

        return self.write(change)

    def edit(self, verb: Verb, *ids: int, busy: Collection[int] = (), now: int = NOW, held_by: str = "") -> Tally:
        """What an operator does, in one transaction."""
        self.begin()
        tally = apply(self.transitions, Edit(verb, 0, held_by), ids, busy, now)
        self.changed = self.commit()
        return tally

    def lane(self, function: bytes = b"f", priority: int = 1) -> int:
        """The number of a lane that is there."""
        return next(name.number for name in self.counts if (name.function, name.priority) == (function, priority))

    def take(self, lane: int, after: int = 0, casts: int = 1000, size: int = ENOUGH) -> list[Taken]:
        """The ready casts of a lane."""
        return self.transitions.take(lane, after, casts, size).casts

    # -- what stands on disk ---------------------------------------------------------------------------------------

    def rows(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        """What a second connection reads."""
        reader = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            return reader.execute(query, parameters).fetchall()
        finally:
            reader.close()

    def check_counts(self) -> None:
        """The counts in memory and on disk are what the casts and fates on disk add up to."""
        for name, counts in self.counts.items():
            of_fates = dict(self.rows("SELECT state, count(*) FROM fates WHERE lane = ? GROUP BY state", name.number))
            kept, size = self.rows(
                "SELECT count(*), coalesce(sum(length(payload)), 0) FROM casts WHERE lane = ?", name.number
            )[0]
            assert counts.kept == kept, name
            assert counts.bytes == size, name
            assert counts.deferred == of_fates.get("deferred", 0), name
            assert counts.held == of_fates.get("held", 0), name
            assert counts.dead == of_fates.get("dead", 0), name
            of_fates.pop("ready", None)
            assert counts.ready == kept - sum(of_fates.values()), name  # type: ignore[arg-type, operator]
        assert self.counts == {} or self.counts.keys() == Transitions(self.conn).load().keys()
        on_disk = {name: counts.values() for name, counts in Transitions(self.conn).load().items()}
        assert {name: counts.values() for name, counts in self.counts.items()} == on_disk
        assert self.transitions.ledger.kept == sum(counts.kept for counts in self.counts.values())
        assert self.transitions.ledger.kept_bytes == sum(counts.bytes for counts in self.counts.values())
        orphans = "SELECT count(*) FROM {} WHERE id NOT IN (SELECT id FROM casts)"
        assert self.rows(orphans.format("fates")) == [(0,)]
        assert self.rows(f"{orphans.format('attempts')} AND id NOT IN (SELECT id FROM done)") == [(0,)]
        assert self.rows("SELECT count(*) FROM done WHERE id IN (SELECT id FROM casts)") == [(0,)]
        assert self.rows("SELECT count(*) FROM done") == [(self.transitions.history.rows,)]


def setback(
    id_: int,
    lane: int,
    due_at: int | None,
    *,
    deferred: bool = False,
    attempts: int = 1,
    failures: int = 1,
    failed: bool = True,
    doubts: int = 0,
    log: int = 0,
) -> Setback:
    """An attempt that did not go well; `log` is the number of the attempt to keep, if any."""
    kept = (Attempt(log, NOW, 5, "server:4730", "work_fail", "why"),) if log else ()
    return Setback(id_, lane, deferred, due_at, attempts, failures, failed, doubts, "work_fail", "why", kept)
