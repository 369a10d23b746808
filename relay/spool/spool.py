"""The spool as its users see it: one object that opens, counts, hands over and closes.

Everything here runs in the event loop's thread; the writing is the committer's, and what operators change goes through
`operator`.  `counts` are what the last COMMIT that was told left, so that whoever reads them together with what is in
flight never sees a cast twice or not at all.

Listeners: `on_committed` is called for each batch, after the counts were brought up to date and before the callers are
answered; `on_made_due` when `drain` has made deferred casts due.  Raises what `opening.open_spool` raises; afterwards
a failing disk shows in `failing`, not as an exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from relay.ageing import Limit
from relay.cast import Arrival, LaneName
from relay.clock import Clock
from relay.errors import SpoolUnusable
from relay.settings import Spool as Limits
from relay.spool import statements as sql
from relay.spool import watching
from relay.spool.changes import Counts, Done, Kept, Setback, Took
from relay.spool.committer import Committed, Committer
from relay.spool.holds import Holds
from relay.spool.locking import LOCK_WAIT_S
from relay.spool.opening import Broken, Identity, close_spool, machine_id, open_spool
from relay.spool.operator import Operator
from relay.spool.preparing import prepare
from relay.spool.pulse import Pulse
from relay.spool.suspecting import Suspicion
from relay.spool.transitions import Transitions
from relay.spool.watching import Sights

log = logging.getLogger(__name__)

#: deferred casts that one transaction makes due
DUE_SLICE = 1000
#: casts whose age is looked up at the start, so that it is known about how old any other is
AGES = 32


class Spool:
    """An open spool: making one opens it, `finish` and `close` end it."""

    def __init__(
        self, limits: Limits, clock: Clock, lock_wait_s: float = LOCK_WAIT_S, broken: Broken | None = None
    ) -> None:
        """Open the spool (may block: on the lock up to `lock_wait_s`); `start` begins to write.

        One that was found `broken` is rebuilt first, which takes as long as it is large.
        """
        self._clock = clock
        self._path = limits.path
        self._limits = limits
        self._opened = open_spool(limits.path, clock.wall() / 1e6, machine_id(), lock_wait_s, broken)
        self._next_id = self._opened.identity.next_id
        self._transitions = Transitions(self._opened.conn, self._opened.draining)
        try:
            counts, paused = self._transitions.load(), self._opened.conn.execute(sql.PAUSED).fetchall()
        except sqlite3.Error as error:
            close_spool(self._opened)
            raise SpoolUnusable(f"{self._path}: {error}") from None
        #: counts by lane
        self.counts: dict[LaneName, Counts] = counts
        #: the lanes that stand on disk, by function and priority
        self._numbers = {(name.function, name.priority): name.number for name in self.counts}
        self.draining = self._opened.draining
        #: True once the drain that is on has made the deferred casts due; after a restart that is not known
        self._made_due = False
        #: the upstreams that an operator has paused, and since when (us)
        self.paused: dict[str, int] = dict(paused)
        #: told of each that is paused or resumed
        self.on_paused: Callable[[str, bool], None] = lambda _, __: None
        self.on_committed: Callable[[Committed], None] = lambda _: None
        self.on_made_due: Callable[[], None] = lambda: None
        #: casts of these lanes are about to be changed: nothing of them is sent until `on_unfence`; the ids in flight
        self.on_fence: Callable[[Collection[int]], Collection[int]] = lambda _: ()
        self.on_unfence: Callable[[Collection[int]], None] = lambda _: None
        #: where signs of a broken spool are told
        self.suspicion = Suspicion(limits.path, clock)
        self._committer: Committer | None = None
        #: what operators change, one transaction each; from `start` on
        self.operator: Operator
        #: casts accepted since the start
        self.accepted = 0

    def start(self, loop: asyncio.AbstractEventLoop, broken: Callable[[BaseException], None]) -> None:
        """Start the writer; `broken` is called when it ends by a bug."""
        self._committer = Committer(
            self._transitions,
            self._opened.conn,
            self._path,
            self._limits,
            loop,
            self._told,
            broken,
            self._clock,
            self.suspicion.suspect,
        )
        self.operator = Operator(self, self._transitions, self._committer, self._clock)
        now = self._clock.wall()
        # a page that cannot be read costs a measure, never the start
        with contextlib.suppress(sqlite3.Error):
            self.pulse.remember([(id_, (now - at) / 1e6) for id_, at in self._transitions.ages(AGES)])
        self.pulse.mark(self._next_id)
        self._committer.start()

    @property
    def identity(self) -> Identity:
        """Who this spool is, for the keys of its casts."""
        return self._opened.identity

    @property
    def failing(self) -> str | None:
        """The disk's error while COMMITs fail, else None."""
        return self._writer.failing

    @property
    def trouble(self) -> str | None:
        """The disk's error while COMMITs fail, or just those with new casts, else None."""
        return self._writer.trouble.any

    @property
    def rotten(self) -> Sequence[int]:
        """Ids of casts that the last whole verification found damaged."""
        return self._writer.rotten

    @property
    def unread(self) -> int:
        """Casts that could not be read from disk when their turn came last."""
        return self._transitions.unread

    @property
    def refusing(self) -> str | None:
        """The code that new casts are refused with, else None."""
        return self._writer.refusing

    @property
    def pulse(self) -> Pulse:
        """What is measured of the spool's work."""
        return self._writer.pulse

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self._limits

    @property
    def path(self) -> Path:
        """The database's path, for readers."""
        return self._path

    @property
    def _writer(self) -> Committer:
        assert self._committer is not None, "the spool has not been started"
        return self._committer

    def look(self) -> Sights:
        """What can be seen of it from outside; may block, and may be called from any thread."""
        return watching.look(self._path)

    def bytes_on_disk(self) -> int:
        """Bytes of the database and its WAL."""
        total = 0
        for suffix in ("", "-wal"):
            try:
                total += os.stat(f"{self._path}{suffix}").st_size
            except FileNotFoundError:
                continue
        return total

    def name(self, lane: int) -> LaneName:
        """The function and priority behind a lane's number."""
        return self._transitions.name(lane)

    def append(self, arrival: Arrival) -> None:
        """Write these casts; `arrival.settled` is called once they are on disk or refused."""
        arrival.first_id = self.reserve(len(arrival.casts))
        self.pulse.mark(arrival.first_id)
        arrival.prepared = prepare(arrival, self._clock.wall(), self._numbers)
        self._writer.append(arrival)

    def reserve(self, casts: int) -> int:
        """Give out so many ids; the first of them."""
        first_id = self._next_id
        self._next_id += casts
        return first_id

    @property
    def keeps_done(self) -> bool:
        """True where a history of casts that are done is wanted."""
        return self._limits.keep_done > 0

    def store(self, done: Sequence[Done], setbacks: Sequence[Setback], kept: Sequence[Kept] = ()) -> None:
        """Write what attempts came to; soon, and never lost but by a crash, which only repeats casts."""
        self.pulse.completed([one[0] for one in done])
        self._writer.store(done, setbacks, (), kept)

    def retire_late(self, ids: Sequence[int], kept: Sequence[Kept] = ()) -> None:
        """Retire casts that are not in flight, whatever has become of them; those that are gone are passed over."""
        self._writer.store((), (), ids, kept)

    def take(
        self,
        lane: int,
        last_id: int,
        casts: int,
        size: int,
        taken: Callable[[Took], None],
        limit: Limit | None = None,
    ) -> None:
        """Read the next ready casts of a lane; see Transitions.take."""
        self._writer.take(lambda transitions: transitions.take(lane, last_id, casts, size, limit), taken)

    def take_due(
        self,
        lane: int,
        now: int,
        far: int,
        casts: int,
        size: int,
        taken: Callable[[Took], None],
        limit: Limit | None = None,
    ) -> None:
        """Read deferred casts of a lane that are due; see Transitions.take_due."""
        self._writer.take(lambda transitions: transitions.take_due(lane, now, far, casts, size, limit), taken)

    def expire(
        self,
        lane: int,
        after_id: int | None,
        after_due: int,
        casts: int,
        swept: Callable[[Took], None],
        limit: Limit,
    ) -> None:
        """Bury what is too old of a lane; see Transitions.expire."""
        self._writer.take(lambda transitions: transitions.expire(lane, after_id, after_due, casts, limit), swept)

    @property
    def next_id(self) -> int:
        """The id that the next cast will get, if it is accepted."""
        return self._next_id

    @property
    def steps(self) -> str | None:
        """The steps of the wall clock, as they were remembered."""
        return self._transitions.steps

    def remember_steps(self, text: str) -> None:
        """Write down the steps of the wall clock."""
        self._writer.call(lambda transitions: transitions.set_steps(text)).add_done_callback(_logged)

    def find(self, id_: int, found: Callable[[int | None], None]) -> None:
        """Tell `found` the id if that cast is here and not dead, else None; after all that was handed in before."""
        self._writer.look(lambda transitions: transitions.find(id_), found)

    def find_unique(self, unique: bytes, found: Callable[[int | None], None]) -> None:
        """Tell `found` the id of a living cast with this unique, else None; after all that was handed in before."""
        self._writer.look(lambda transitions: transitions.find_unique(unique), found)

    async def drain(self) -> None:
        """Refuse new casts from now on, over restarts too, and make deferred ones due once, a slice at a time.

        Asked again it does what an earlier one could not finish.  Raises SpoolUnusable where the disk fails.
        """
        if self.draining and self._made_due:
            return
        try:
            await self._writer.drain(True)
            self.draining, self._made_due = True, False
            now, after_id = self._clock.wall(), 0
            while True:
                last: int | None = await self._writer.call(partial(_make_due, now, after_id))
                if last is None:
                    break
                after_id = last
        except sqlite3.Error as error:
            raise SpoolUnusable(f"{self._path}: {error}") from None
        self._made_due = True
        self.on_made_due()

    async def resume(self) -> None:
        """Accept again; raises SpoolUnusable where the disk fails."""
        # first: from the COMMIT on, which is told later, nobody may be told that nothing comes any more
        before, self.draining = self.draining, False
        try:
            await self._writer.drain(False)
        except sqlite3.Error as error:
            self.draining = before
            raise SpoolUnusable(f"{self._path}: {error}") from None

    async def catch_up(self) -> None:
        """Returns once the counts have all that was handed to the writer before; SpoolUnusable where the disk fails."""
        try:
            await self._writer.call(lambda _: None)
        except sqlite3.Error as error:
            raise SpoolUnusable(f"{self._path}: {error}") from None

    @property
    def holds(self) -> Holds:
        """The patterns of functions whose new casts are held, for reading."""
        return self._transitions.holds

    def refresh(self) -> None:
        """Bring `refusing` up to date, while nobody casts."""
        self._writer.refresh()

    def limit(self, limits: Limits) -> None:
        """Put other limits in force (the path stays)."""
        self._limits = limits
        self._writer.limit(limits)

    async def finish(self) -> None:
        """Write what was handed in; returns once all of it has been told."""
        await self._writer.stop()
        # what the writer posted last stands in the loop's queue before this
        await asyncio.sleep(0)

    def close(self) -> None:
        """Close the database and let the lock go; `finish` comes first."""
        close_spool(self._opened)

    def _told(self, committed: Committed) -> None:
        for number, change in committed.changes.counts.items():
            name = self._transitions.name(number)
            if name not in self.counts:
                self.counts[name] = Counts()
                self._numbers[name.function, name.priority] = number
            self.counts[name].add(change)
            self.accepted += change.accepted
        self.on_committed(committed)
        for arrival in committed.arrivals:
            arrival.answered = True
            arrival.settled(arrival)


def _logged(result: asyncio.Future[Any]) -> None:
    if not result.cancelled() and result.exception() is not None:
        log.error("the spool cannot be written: %s; a step of the clock is not remembered", result.exception())


def _make_due(now: int, after_id: int, transitions: Transitions) -> int | None:
    return transitions.make_due(now, after_id, DUE_SLICE)
