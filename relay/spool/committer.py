"""The one writer: a thread that owns the spool's connection, and turns what waits into one COMMIT.

The theory.  Work comes in through one queue.  Whatever has gathered there while the last COMMIT ran becomes the next
batch: verdicts first (or an equal unique would join a cast that is done), then arrivals; one transaction, one fsync.
Casts that were read in one turn of the loop come in together at its end, so that one COMMIT has all of them.  No timer
stands on the path of an insert: batching comes from load by itself.  Verdicts alone are not urgent, since a lost one
only repeats a cast, so they wait up to LINGER_S for an insert to share its fsync.  Takes read and need no COMMIT; calls
are the operator's, each in a transaction of its own, because one that fails must not refuse callers.

Promises: what a batch accepted is told (`told`, in the event loop's thread) after its COMMIT returned; if it failed,
all its arrivals are refused with `spool_error`, its verdicts are kept for the next one, and a COMMIT is tried as
`trouble` says until one succeeds.  An error from the disk is never passed over: it is logged once for each spell, and
shown by `failing`.  With nothing to write, `upkeep` gets its slices.

Never does: open the spool, look at the network, know the forwarder.  A bug here ends the agent through `broken`.

Bounds: those of a `batch`; the queue itself is bounded by those who fill it (intake by unanswered bytes, the
forwarder by VERDICTS_LIMIT).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from asyncio import AbstractEventLoop, Future, to_thread
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from relay.cast import Arrival
from relay.clock import Clock
from relay.settings import Spool as Limits
from relay.spool.ballast import Ballast
from relay.spool.batch import Batch, Call, Look, Stop, Take, Verdicts
from relay.spool.changes import FAILED, Changes, Done, Kept, Setback, Took
from relay.spool.codes import is_sign, primary
from relay.spool.pulse import Pulse
from relay.spool.room import Room
from relay.spool.transitions import Transitions
from relay.spool.trouble import Trouble
from relay.spool.upkeep import Upkeep

log = logging.getLogger(__name__)

#: seconds that verdicts may wait for company
LINGER_S = 0.01


class Committed(NamedTuple):
    """What a batch came to, told in the event loop's thread; `error` is the disk's, and then nothing was changed."""

    arrivals: Sequence[Arrival]
    changes: Changes
    error: str | None


class Committer:
    """The writer's thread; all methods but `run` are called in the event loop's thread."""

    def __init__(
        self,
        transitions: Transitions,
        conn: sqlite3.Connection,
        path: Path,
        limits: Limits,
        loop: AbstractEventLoop,
        told: Callable[[Committed], None],
        broken: Callable[[BaseException], None],
        clock: Clock,
        suspect: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._transitions = transitions
        self._conn = conn
        ballast = Ballast(path)
        ballast.find()
        self._room = Room(conn, path, limits, ballast)
        self._upkeep = Upkeep(conn, path, lambda sign: self._post(suspect, sign))
        self._loop = loop
        self._told = told
        self._broken = broken
        self._suspect = suspect
        self._clock = clock
        self._queue: SimpleQueue[Arrival | Verdicts | Take | Look | Call | Stop] = SimpleQueue()
        #: arrivals of this turn of the loop
        self._gathered: list[Arrival] = []
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        #: verdicts that a failed COMMIT left, and a take that the last batch had no time for
        self._left = Verdicts()
        self._held_back: Take | None = None
        self._most_done = limits.keep_done_max
        self._closed: str | None = None
        self.pulse = Pulse()
        #: how the disk has been
        self.trouble = Trouble()

    # -- from the event loop ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def append(self, arrival: Arrival) -> None:
        """Have these casts written; the arrival's `settled` is called when they are, or were refused.

        They go to the writer at the end of this turn of the loop, with those of all others that were read in it: an
        idle writer would begin with the first alone, and the others would wait for a COMMIT more.
        """
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(arrival)

    def _hand_over(self) -> None:
        """The arrivals of this turn, at once."""
        gathered, self._gathered = self._gathered, []
        for arrival in gathered:
            self._queue.put(arrival)

    def _put_behind(self, item: Verdicts | Take | Look | Call | Stop) -> None:
        """Have something done behind all that was handed in before."""
        self._hand_over()
        self._queue.put(item)

    def store(
        self,
        done: Sequence[Done],
        setbacks: Sequence[Setback],
        late: Sequence[int] = (),
        kept: Sequence[Kept] = (),
    ) -> None:
        """Have these verdicts written, soon; `late` are casts that an attempt has done which had ended otherwise.

        `kept` is what the history gets of those that are done.
        """
        self._put_behind(Verdicts(done, setbacks, late, kept))

    def take(self, read: Callable[[Transitions], Took], taken: Callable[[Took], None]) -> None:
        """Read in the writer's thread; `taken` gets what was read, in the event loop's, in order with `told`."""
        self._put_behind(Take(read, taken))

    def look(self, read: Callable[[Transitions], int | None], found: Callable[[int | None], None]) -> None:
        """Read in the writer's thread, after everything handed in before; `found` is told in the event loop's."""
        self._put_behind(Look(read, found))

    def call(self, change: Callable[[Transitions], Any]) -> Future[Any]:
        """Run `change` in a transaction of its own; its result comes after COMMIT."""
        future: Future[Any] = self._loop.create_future()
        self._put_behind(Call(change, future))
        return future

    def drain(self, draining: bool) -> Future[Any]:
        """Refuse new casts from its COMMIT on, or no longer."""
        return self.call(lambda transitions: transitions.set_draining(draining))

    def limit(self, limits: Limits) -> None:
        """Put other limits in force."""
        self._room.limit(limits)
        self._most_done = limits.keep_done_max
        self.refresh()

    def refresh(self) -> None:
        """Look again whether new casts have room; an idle writer would not notice by itself."""
        self.look(self._look_for_room, lambda _: None)

    async def stop(self) -> None:
        """Write everything that was handed in before, then end; returns once it has."""
        self._put_behind(Stop())
        await to_thread(self._thread.join)

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._look_for_room(self._transitions)
            while self._round():
                pass
        except BaseException as error:  # noqa: BLE001 - whatever it is, the agent cannot go on without its writer
            self._post(self._broken, error)

    def _round(self) -> bool:
        batch = self._collect()
        failing = self.trouble.failing
        if failing and self.trouble.rests(time.monotonic()) and not batch.stop:
            self._refuse(batch, failing)
        elif batch.arrivals or batch.verdicts or self.trouble.any:
            self._commit(batch)
        elif batch.idle:
            self._upkeep.step(time.monotonic())
        for look in batch.looks:
            self._answer(look)
        for call in batch.calls:
            self._serve(call)
        return not batch.stop

    def _collect(self) -> Batch:
        """Everything that waits now, at least one thing; verdicts alone linger."""
        batch = Batch()
        batch.judge(self._left)
        self._left = Verdicts()
        failing = self.trouble.failing is not None
        deadline = self.trouble.retry_at if self.trouble.any else self._upkeep.next_at
        while not batch.full:
            try:
                item = self._next(None if batch.urgent(failing) else deadline)
            except Empty:
                break
            if type(item) is Arrival:
                batch.accept(item)
            elif type(item) is Verdicts:
                if not (failing or batch.verdicts):
                    deadline = min(deadline, time.monotonic() + LINGER_S)
                batch.judge(item)
            elif type(item) is Take:
                if batch.read_enough:
                    self._held_back = item
                    break
                batch.answered(self._read(item))
            elif type(item) is Look:
                batch.looks.append(item)
            elif type(item) is Call:
                batch.calls.append(item)
            else:
                batch.stop = True
        return batch

    def _next(self, deadline: float | None) -> Arrival | Verdicts | Take | Look | Call | Stop:
        """What was handed in first, waited for until `deadline` if there is one; Empty where nothing is."""
        if self._held_back is not None:
            held_back, self._held_back = self._held_back, None
            return held_back
        if deadline is None:
            return self._queue.get_nowait()
        return self._queue.get(timeout=max(0.0, deadline - time.monotonic()))

    def _commit(self, batch: Batch) -> None:
        transitions, trouble, now = self._transitions, self.trouble, self._clock.wall()
        casts = bool(batch.arrivals)
        self.pulse.begin()
        try:
            self._conn.execute("BEGIN IMMEDIATE")
            if batch.kept and trouble.any is None and self._closed != "disk_full":
                transitions.history.keep(batch.kept, self._most_done)
            transitions.store(batch.done, batch.setbacks, now)
            # after the setbacks: one of them may be what the cast was set back by
            transitions.retire_late(batch.late)
            transitions.bury_doomed(now)
            closed, room, size = self._look_at_room()
            if trouble.any:
                closed, casts = self._probe(closed, now, casts=casts)
            if batch.arrivals:
                transitions.append(batch.arrivals, now, closed, room, size)
            transitions.conclude()
            self._conn.execute("COMMIT")
        except sqlite3.Error as error:
            self.pulse.end(None)
            self._failed(batch, error, casts=casts)
            return
        if trouble.succeeded(casts=casts):
            log.info("the spool can be written again")
        changes = transitions.committed()
        if changes.absent:
            self._post(self._suspect, "casts that are done were not there to be retired")
        self.pulse.end(sum([counts.accepted for counts in changes.counts.values()]))
        self._look_for_room(transitions)
        self._post(self._told, Committed(batch.arrivals, changes, None))

    def _probe(self, closed: str | None, now: int, *, casts: bool) -> tuple[str | None, bool]:
        """Find out whether the disk is well again: (what refuses casts, whether writing casts is tried)."""
        trouble, moment = self.trouble, time.monotonic()
        if trouble.refuses(moment):
            closed, casts = "spool_error", False
        rehearse = not casts and trouble.rehearses(moment)
        if trouble.failing or rehearse:
            self._transitions.touch(now, rehearse=rehearse)
        return closed, casts or rehearse

    def _failed(self, batch: Batch, error: sqlite3.Error, *, casts: bool) -> None:
        """Nothing of the batch happened: callers are refused, verdicts are kept."""
        if self._conn.in_transaction:
            self._conn.execute("ROLLBACK")
        self._transitions.forget()
        if self.trouble.any is None:
            log.error("the spool cannot be written: %s; %d casts refused", error, batch.casts)
        if self.trouble.failed(str(error), time.monotonic(), casts=casts):
            log.error("the spool still cannot be written: %s; casts are refused, and it is tried now and then", error)
        self._look_for_signs(error)
        if primary(error) == sqlite3.SQLITE_FULL:
            self._make_room(casts=casts)
        elif self._room.exceeds_quota(error):
            self._room.over_quota()
        self._refuse(batch, str(error))

    def _refuse(self, batch: Batch, error: str) -> None:
        self._left = Verdicts(batch.done, batch.setbacks, batch.late, batch.kept)
        for arrival in batch.arrivals:
            arrival.outcome = ["spool_error"] * len(arrival.casts)
        self._post(self._told, Committed(batch.arrivals, Changes(), error))

    def _make_room(self, *, casts: bool) -> None:
        try:
            self._room.filled(casts=casts)
        except sqlite3.Error as error:
            self._unread(error)

    def _look_for_signs(self, error: sqlite3.Error) -> None:
        """A spool that is rotten fails so; whether it is, others find out."""
        if is_sign(error):
            self._post(self._suspect, str(error))

    def _unread(self, error: sqlite3.Error) -> None:
        log.error("the spool cannot be read: %s", error)
        self._look_for_signs(error)

    def _read(self, take: Take) -> int:
        """Answer it; how many casts it has read."""
        unread = self._transitions.unread
        try:
            took = take.read(self._transitions)
        except sqlite3.Error as error:
            self._unread(error)
            took = FAILED
        self._post(take.taken, took)
        if self._transitions.found_damage:
            log.error("casts were found damaged: they are set aside as dead, with the reason damaged")
        if self._transitions.found_unread:
            if not unread:
                log.error("casts cannot be read from disk: they are read again in a minute, and others go on meanwhile")
            self._post(self._suspect, "casts cannot be read")
        if self._transitions.found_twice:
            self._post(self._suspect, "an index names a cast twice")
        if self._transitions.found_doomed:
            self._commit(Batch())
        return len(took.casts)

    def _answer(self, look: Look) -> None:
        try:
            found = look.read(self._transitions)
        except sqlite3.Error as error:
            self._unread(error)
            found = None
        self._post(look.found, found)

    def _serve(self, call: Call) -> None:
        try:
            result = self._transact(call.change)
        except Exception as error:  # noqa: BLE001 - the caller of `call` gets whatever it is
            self._post(_fail, call.result, error)
        else:
            self._post(_succeed, call.result, result)

    def _transact(self, change: Callable[[Transitions], Any]) -> Any:
        self._conn.execute("BEGIN IMMEDIATE")
        try:
            result = change(self._transitions)
            self._transitions.conclude()
            self._conn.execute("COMMIT")
        except BaseException:
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")
            self._transitions.forget()
            raise
        changes = self._transitions.committed()
        self._look_for_room(self._transitions)
        self._post(self._told, Committed((), changes, None))
        return result

    @property
    def failing(self) -> str | None:
        """The disk's last error while COMMITs fail, else None."""
        return self.trouble.failing

    @property
    def rotten(self) -> Sequence[int]:
        """Ids of casts that lie damaged on disk, as of the last whole verification."""
        return self._upkeep.rotten

    @property
    def refusing(self) -> str | None:
        """The code that new casts are refused with, as of the last batch, else None."""
        return "spool_error" if self.trouble.any else self._closed

    def overfull(self, casts: int, size: int) -> str | None:
        """The code that so many more casts and bytes are refused with, if they are; in the writer's thread."""
        closed, room, left = self._look_at_room()
        return closed or ("spool_full" if casts > room or size > left else None)

    def _look_for_room(self, _: Transitions) -> None:
        """Behind a COMMIT, or with nothing to write: what goes wrong here is nobody's verdict."""
        try:
            self._look_at_room()
        except sqlite3.Error as error:
            self._unread(error)

    def _look_at_room(self) -> tuple[str | None, int, int]:
        """(code that refuses every new cast, casts that have room, bytes that have room)."""
        ledger = self._transitions.ledger
        closed, casts, size = self._room.left(ledger.kept, ledger.kept_bytes)
        closed = "draining" if self._transitions.draining else closed
        self._closed = closed or ("spool_full" if casts < 1 or size < 1 else None)
        return closed, casts, size

    def _post(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            # the loop is closed: nobody is left to be told
            log.debug("the loop is closed")


def _succeed(future: Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
