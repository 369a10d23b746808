"""The one writer: a real thread and a real file; what is told, and when."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from queue import Empty

import pytest

from relay.cast import Arrival, Taken
from relay.clock import Clock
from relay.spool.batch import LINGER_VERDICTS, READ_CASTS, READ_LEAST, Verdicts
from relay.spool.changes import Took
from relay.spool.committer import Committed, Committer
from relay.spool.room import Room
from relay.spool.transitions import Transitions
from relay.spool.trouble import RETRY_S, STRIKES
from tests.unit.limits import unlimited
from tests.unit.spool.writing import ENOUGH, NOW, Writer, cast, setback

#: a test that hangs ends here
GUARD_S = 60
#: a cast that was read, of which only the number counts
UNREAL = Taken((1, None, b"", NOW), 0, 0, False)


class Running:
    """A committer at work on a spool of its own; what it tells is kept, in order."""

    def __init__(self, path: Path, **limits: int) -> None:
        self.writer = Writer(path)
        self.limits = unlimited(path, **{"keep_done_max": 100, **limits})
        self.told: asyncio.Queue[Committed] = asyncio.Queue()
        self.broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        #: called with each Committed, before it is kept
        self.on_told: Callable[[Committed], None] = lambda committed: None
        self.committer = Committer(
            self.writer.transitions,
            self.writer.conn,
            path,
            self.limits,
            asyncio.get_running_loop(),
            self._told,
            self.broken.set_result,
            Clock(),
        )

    def _told(self, committed: Committed) -> None:
        self.on_told(committed)
        self.told.put_nowait(committed)

    async def accept(self, *arrivals: Arrival) -> list[Committed]:
        """Hand in, and wait until all of it was told."""
        for arrival in arrivals:
            self.committer.append(arrival)
        return await self.until(lambda seen: sum(len(one.arrivals) for one in seen) == len(arrivals))

    async def until(self, enough: Callable[[list[Committed]], bool]) -> list[Committed]:
        """What is told, until it is enough."""
        seen: list[Committed] = []
        while not enough(seen):
            seen.append(await self.told.get())
        return seen

    async def in_the_thread(self, do: Callable[[Transitions], int | None]) -> int | None:
        """Run something in the writer's thread, outside a transaction."""
        found: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.committer.look(do, found.set_result)
        return await found

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """Keep the writer's thread busy, so that all that is handed in meanwhile is one batch."""
        reached, go_on = threading.Event(), threading.Event()

        def block(_: Transitions) -> None:
            reached.set()
            go_on.wait(GUARD_S)

        self.committer.look(block, lambda found: None)
        await asyncio.to_thread(reached.wait, GUARD_S)
        try:
            yield
        finally:
            go_on.set()

    async def fill_the_disk(self, full: bool) -> None:
        """Let the database grow no more, or again."""
        (pages,) = self.writer.conn.execute("PRAGMA page_count").fetchone()
        limit = pages if full else 1_000_000
        await self.in_the_thread(lambda _: list(self.writer.conn.execute(f"PRAGMA max_page_count = {limit}")) and None)

    async def forbid_writes(self, forbid: bool) -> None:
        """Have every write fail, or no more."""
        await self.in_the_thread(lambda _: list(self.writer.conn.execute(f"PRAGMA query_only = {forbid:d}")) and None)


def run(path: Path, scenario: Callable[[Running], object], **limits: int) -> None:
    """A scenario with a committer that works; afterwards its thread has ended without a bug."""

    async def whole() -> None:
        async with asyncio.timeout(GUARD_S):
            running = Running(path, **limits)
            running.committer.start()
            try:
                await scenario(running)  # type: ignore[misc]
            finally:
                await running.committer.stop()
            assert not running.broken.done()
            running.writer.close()

    asyncio.run(whole())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the spool is made."""
    return tmp_path / "spool" / "spool.db"


def test_what_is_read_in_one_turn_of_the_loop_shares_a_commit(path: Path) -> None:
    """A writer that waits gets none of it before all of it, or it would begin with the first alone."""

    async def scenario(running: Running) -> None:
        async with running.busy():
            for _ in range(3):
                running.committer.append(running.writer.arrival([cast()]))
            assert running.committer._queue.qsize() == 0
            await asyncio.sleep(0)
            assert running.committer._queue.qsize() == 3
        assert [len(one.arrivals) for one in await running.until(bool)] == [3]

    run(path, scenario)


def test_what_is_asked_behind_a_cast_of_the_same_turn_knows_it(path: Path) -> None:
    """And what was handed in last before the end is written."""

    async def scenario(running: Running) -> None:
        running.committer.append(running.writer.arrival([cast()]))
        assert await running.in_the_thread(lambda writes: len(writes.ages(10))) == 1
        running.committer.append(running.writer.arrival([cast()]))

    told: list[Committed] = []

    async def last(running: Running) -> None:
        running.on_told = told.append
        await scenario(running)

    run(path, last)
    assert sum(len(one.arrivals) for one in told) == 2


BIG = cast(payload=bytes(200_000))


def well(seen: list[Committed]) -> bool:
    """A COMMIT succeeded."""
    return bool(seen) and seen[-1].error is None


# -- after the disk ----------------------------------------------------------------------------------------------------


def test_what_is_told_is_on_disk(path: Path) -> None:
    """When `told` runs, another connection sees the rows and the counts of the batch, whichever batch it is."""

    async def scenario(running: Running) -> None:
        seen: list[bool] = []

        def look(committed: Committed) -> None:
            accepted = [id_ for arrival in committed.arrivals for id_ in arrival.outcome]
            # of one moment: the next batch may be on its way
            rows = running.writer.rows("SELECT id, (SELECT sum(accepted) FROM lanes) FROM casts")
            stored = {row[0] for row in rows}
            seen.append(bool(accepted) and stored >= {*accepted} and {row[1] for row in rows} == {len(stored)})

        running.on_told = look
        for number in range(20):
            await running.accept(
                running.writer.arrival([cast(), cast(b"g%d" % number)]), running.writer.arrival([cast()])
            )
        assert len(seen) >= 20
        assert all(seen)

    run(path, scenario)


def test_nothing_is_told_before_commit_returned(path: Path) -> None:
    """With the writer stopped at its COMMIT nobody hears of the batch; afterwards everybody does."""

    async def scenario(running: Running) -> None:
        reached, go_on = threading.Event(), threading.Event()

        def stop_at_commit(statement: str) -> None:
            if statement == "COMMIT":
                reached.set()
                go_on.wait(GUARD_S)

        running.writer.conn.set_trace_callback(stop_at_commit)
        arrival = running.writer.arrival([cast()])
        running.committer.append(arrival)
        await asyncio.to_thread(reached.wait, GUARD_S)
        for _ in range(10):
            await asyncio.sleep(0)
        assert running.told.empty()
        assert not arrival.answered
        assert running.writer.rows("SELECT id FROM casts") == []
        go_on.set()
        await running.told.get()
        running.writer.conn.set_trace_callback(None)
        assert running.writer.rows("SELECT id FROM casts") == [(arrival.outcome[0],)]

    run(path, scenario)


def test_what_waits_together_is_one_commit(path: Path) -> None:
    """All that was handed in while the writer was busy shares one COMMIT."""

    async def scenario(running: Running) -> None:
        arrivals = [running.writer.arrival([cast(), cast()]) for _ in range(50)]
        async with running.busy():
            for arrival in arrivals:
                running.committer.append(arrival)
        committed = await running.told.get()
        assert list(committed.arrivals) == arrivals
        assert running.told.empty()

    run(path, scenario)


@pytest.mark.parametrize(("casts", "enough"), [(READ_CASTS // 2, 2), (0, READ_CASTS // READ_LEAST)])
def test_who_waits_for_a_commit_waits_for_few_reads(path: Path, casts: int, enough: int) -> None:
    """With a cast in hand the writer reads READ_CASTS for those that send, then comes the COMMIT, then the other takes.

    One that finds nothing takes little time, and counts for little.
    """
    found = Took([UNREAL] * casts, 0, False, None)

    async def scenario(running: Running) -> None:
        happened: list[str] = []
        running.on_told = lambda _: happened.append("told")
        async with running.busy():
            running.committer.append(running.writer.arrival([cast()]))
            for _ in range(enough + 3):
                running.committer.take(lambda _: found, lambda _: happened.append("read"))
        await running.until(bool)
        await running.in_the_thread(lambda _: None)
        assert happened == ["read"] * enough + ["told"] + ["read"] * 3

    run(path, scenario)


def test_reads_before_them_do_not_part_casts_of_one_turn(path: Path) -> None:
    """However much was read, casts that wait together share a COMMIT."""
    much = Took([UNREAL] * READ_CASTS, 0, False, None)

    async def scenario(running: Running) -> None:
        async with running.busy():
            for _ in range(3):
                running.committer.take(lambda _: much, lambda _: None)
            for _ in range(5):
                running.committer.append(running.writer.arrival([cast()]))
        assert [len(one.arrivals) for one in await running.until(bool)] == [5]

    run(path, scenario)


def test_verdicts_of_a_batch_come_before_its_arrivals(path: Path) -> None:
    """An equal unique that waits beside the first one's verdict is a new cast, although it was handed in before it."""

    async def scenario(running: Running) -> None:
        first, second = running.writer.arrival([cast(unique=b"u")]), running.writer.arrival([cast(unique=b"u")])
        await running.accept(first)
        async with running.busy():
            running.committer.append(second)
            running.committer.store([(first.first_id, 1, 1, False, 0)], [])
        await running.until(lambda seen: any(one.arrivals for one in seen))
        assert second.outcome == [second.first_id] != list(first.outcome)

    run(path, scenario)


def test_verdicts_alone_are_written_without_an_insert(path: Path) -> None:
    """A verdict may linger for company, but goes to disk when none comes."""

    async def scenario(running: Running) -> None:
        arrival = running.writer.arrival([cast()])
        await running.accept(arrival)
        running.committer.store([(arrival.first_id, 1, 1, False, 0)], [])
        committed = await running.told.get()
        assert committed.changes.ended == {1: (1, 0)}
        assert running.writer.rows("SELECT count(*) FROM casts") == [(0,)]

    run(path, scenario)


def test_the_history_waits_for_no_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written with the verdicts; while the disk is full nothing is, so that retiring takes no room."""

    async def scenario(running: Running) -> None:
        first, second = running.writer.arrival([cast()]), running.writer.arrival([cast()])
        await running.accept(first, second)
        ids = [first.first_id, second.first_id]
        kept = [(id_, 1, 1, 0, NOW, NOW, "server:4730") for id_ in ids]
        running.committer.store([(ids[0], 1, 1, False, 0)], [], kept=kept[:1])
        await running.told.get()
        monkeypatch.setattr(Room, "left", lambda *_: ("disk_full", 0, 0))
        await running.accept(running.writer.arrival([cast()]))
        running.committer.store([(ids[1], 1, 1, False, 0)], [], kept=kept[1:])
        await running.told.get()
        assert running.writer.rows("SELECT id FROM casts") == []
        assert running.writer.rows("SELECT id FROM done") == [(ids[0],)]

    run(path, scenario)


# -- a disk that fails -------------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_the_whole_batch_and_nothing_of_it_stays(path: Path) -> None:
    """Every arrival of the batch that failed gets spool_error, the small ones too, and none of it is on disk."""

    async def scenario(running: Running) -> None:
        before = running.writer.arrival([cast(payload=b"before")])
        await running.accept(before)
        await running.fill_the_disk(True)
        small, big = running.writer.arrival([cast(), cast(b"new lane")]), running.writer.arrival([BIG])
        async with running.busy():
            running.committer.append(small)
            running.committer.append(big)
        committed = await running.told.get()
        assert committed.error is not None
        assert "full" in committed.error
        assert (small.outcome, big.outcome) == (["spool_error"] * 2, ["spool_error"])
        assert running.writer.rows("SELECT id FROM casts") == [(before.first_id,)]
        assert running.writer.rows("SELECT count(*) FROM lanes") == [(1,)]

    run(path, scenario)


def test_verdicts_of_a_batch_that_failed_are_kept_and_stored(path: Path) -> None:
    """What a worker finished is not forgotten with the batch: it is stored by itself as soon as the disk can."""

    async def scenario(running: Running) -> None:
        arrival = running.writer.arrival([cast(), cast(), cast()])
        await running.accept(arrival)
        done, deferred, _ = (int(id_) for id_ in arrival.outcome)
        await running.forbid_writes(True)
        async with running.busy():
            running.committer.store([(done, 1, 1, False, 0)], [setback(deferred, 1, NOW)])
            running.committer.append(running.writer.arrival([cast()]))
        failed = await running.told.get()
        assert failed.error is not None
        assert failed.changes.ended == {}
        await running.forbid_writes(False)
        *_, stored = await running.until(well)
        assert stored.changes.ended == {1: (2, 0)}
        assert [row[0] for row in running.writer.rows("SELECT id FROM casts")] == list(arrival.outcome)[1:]
        assert running.writer.rows("SELECT id, state FROM fates") == [(deferred, "deferred")]

    run(path, scenario)


def test_a_disk_that_is_well_again_is_noticed_without_work(path: Path) -> None:
    """With nothing handed in, the writer tries by itself until a COMMIT succeeds, and casts are taken again."""

    async def scenario(running: Running) -> None:
        await running.fill_the_disk(True)
        big = running.writer.arrival([BIG])
        await running.accept(big)
        assert big.outcome == ["spool_error"]
        await running.fill_the_disk(False)
        await running.until(well)
        assert running.committer.failing is None
        assert running.committer.refusing is None
        again = running.writer.arrival([BIG])
        await running.accept(again)
        assert again.outcome == [again.first_id]

    run(path, scenario)


def test_a_spell_of_failures_is_shown_and_logged_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`failing` has the disk's words while it fails; the log has one line at its beginning and one at its end."""
    caplog.set_level(logging.INFO, "relay.spool.committer")

    async def scenario(running: Running) -> None:
        await running.forbid_writes(True)
        for _ in range(3):
            await running.accept(running.writer.arrival([cast()]))
            assert running.committer.failing is not None
            assert "readonly" in running.committer.failing
            assert running.committer.refusing == "spool_error"
        await running.forbid_writes(False)
        await running.until(well)
        assert running.committer.failing is None

    run(path, scenario)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_verdicts_that_wait_for_the_disk_do_not_spin(path: Path) -> None:
    """However many verdicts are left over from a failure, the next try waits its time."""
    waits: list[float] = []

    class Quiet:
        def get_nowait(self) -> None:
            waits.append(0)
            raise Empty

        def get(self, timeout: float | None = None) -> None:
            waits.append(-1 if timeout is None else timeout)
            raise Empty

    async def scenario() -> None:
        running = Running(path)
        # failed so far ahead that no machine is slow enough to be past the next try
        running.committer.trouble.failed("disk I/O error", time.monotonic() + GUARD_S, casts=False)
        running.committer._queue = Quiet()  # type: ignore[assignment]
        running.committer._left = Verdicts([(id_, 1, 0, False, 0) for id_ in range(LINGER_VERDICTS)], [])
        batch = running.committer._collect()
        assert batch.verdicts == LINGER_VERDICTS
        running.writer.close()

    asyncio.run(scenario())
    (wait,) = waits
    assert 0 < wait <= GUARD_S + RETRY_S


def test_a_disk_that_goes_on_failing_is_left_alone(path: Path) -> None:
    """After STRIKES failures callers are refused without a try, and relay tries by itself until it is well."""

    async def scenario(running: Running) -> None:
        tries: list[str] = []
        await running.forbid_writes(True)
        for _ in range(STRIKES):
            await running.accept(running.writer.arrival([cast()]))
        running.writer.conn.set_trace_callback(lambda text: tries.append(text) if text.startswith("BEGIN") else None)
        refused = [running.writer.arrival([cast()]) for _ in range(50)]
        began = time.monotonic()
        for arrival in refused:
            await running.accept(arrival)
        took = time.monotonic() - began
        assert [arrival.outcome for arrival in refused] == [["spool_error"]] * 50
        assert len(tries) <= took / RETRY_S + 1
        assert running.committer.refusing == "spool_error"
        await running.forbid_writes(False)
        await running.until(well)
        while running.committer.refusing is not None:
            await running.told.get()
        again = running.writer.arrival([cast()])
        await running.accept(again)
        assert again.outcome == [again.first_id]

    run(path, scenario)


def test_a_page_that_only_new_casts_need_keeps_nothing_else_back(path: Path) -> None:
    """Where inserts fail and the rest does not, verdicts are stored, the forwarder goes on, and casts are refused."""

    async def scenario(running: Running) -> None:
        known = running.writer.arrival([cast(), cast()])
        await running.accept(known)
        await running.in_the_thread(
            lambda _: (
                running.writer.conn.execute(
                    "CREATE TEMP TRIGGER no BEFORE INSERT ON casts BEGIN SELECT RAISE(ABORT, 'malformed'); END"
                )
                and None
            )
        )
        for _ in range(2 * STRIKES):
            arrival = running.writer.arrival([cast()])
            await running.accept(arrival)
            assert arrival.outcome == ["spool_error"]
        await running.until(lambda seen: running.committer.failing is None)
        assert running.committer.trouble.any == "malformed"
        running.committer.store([(known.first_id, 1, 1, False, 0)], [])
        await running.until(lambda seen: any(one.changes.ended for one in seen))
        assert running.committer.refusing == "spool_error"
        await running.in_the_thread(lambda _: running.writer.conn.execute("DROP TRIGGER no") and None)
        while running.committer.refusing is not None:
            await running.told.get()
        assert running.writer.rows("SELECT id FROM casts") == [(known.first_id + 1,)], "a rehearsal leaves nothing"

    run(path, scenario)


def test_verdicts_are_stored_beyond_the_limit_of_the_database(path: Path) -> None:
    """max_page_count stops new casts only: a verdict that needs a page gets one."""

    async def scenario(running: Running) -> None:
        arrival = running.writer.arrival([cast()] * 300)
        await running.accept(arrival)
        await running.fill_the_disk(True)
        long = "why " * 1000
        setbacks = [setback(id_, 1, NOW)._replace(error=long) for id_ in map(int, arrival.outcome)]
        running.committer.store([], setbacks)
        await running.until(lambda seen: any(one.changes.ended for one in seen))
        assert running.writer.rows("SELECT count(*) FROM fates") == [(300,)]

    run(path, scenario)


def test_a_take_that_cannot_be_read_says_so(path: Path) -> None:
    """An error from the disk while reading is told as failed, and the writer goes on."""

    async def scenario(running: Running) -> None:
        def fail(_: Transitions) -> Took:
            raise sqlite3.OperationalError("disk I/O error")

        took: asyncio.Future[Took] = asyncio.get_running_loop().create_future()
        running.committer.take(fail, took.set_result)
        assert (await took).failed
        arrival = running.writer.arrival([cast()])
        await running.accept(arrival)
        assert arrival.outcome == [arrival.first_id]

    run(path, scenario)


def test_damage_that_cannot_be_set_aside_yet_ends_nothing(path: Path) -> None:
    """A rotten cast on a disk that cannot be written: the take is told, the writer lives, and it is buried later."""

    async def scenario(running: Running) -> None:
        arrival = running.writer.arrival([cast(), cast()])
        await running.accept(arrival)
        rotten, good = arrival.outcome
        await running.in_the_thread(
            lambda _: running.writer.conn.execute("UPDATE casts SET crc = crc + 1 WHERE id = ?", (rotten,)) and None
        )
        await running.forbid_writes(True)
        took: asyncio.Queue[Took] = asyncio.Queue()
        running.committer.take(lambda transitions: transitions.take(1, 0, 10, ENOUGH), took.put_nowait)
        assert [one.cast[0] for one in (await took.get()).casts] == [good]
        await running.forbid_writes(False)
        buried = await running.told.get()
        while buried.error is not None:
            buried = await running.told.get()
        assert buried.changes.counts[1].dead == 1
        assert running.writer.rows("SELECT id, state, reason FROM fates") == [(rotten, "dead", "damaged")]

    run(path, scenario)


# -- the operator ------------------------------------------------------------------------------------------------------


def test_drain_refuses_from_its_commit_on(path: Path) -> None:
    """What was handed in before is accepted, what comes after is refused; a resume ends it."""

    async def scenario(running: Running) -> None:
        early, late, again = (running.writer.arrival([cast()]) for _ in range(3))
        running.committer.append(early)
        await running.committer.drain(True)
        await running.until(lambda seen: sum(len(one.arrivals) for one in seen) == 1)
        await running.accept(late)
        assert (list(early.outcome), late.outcome) == ([early.first_id], ["draining"])
        assert running.committer.refusing == "draining"
        assert running.writer.rows("SELECT value FROM meta WHERE name = 'draining'") == [(1,)]
        await running.committer.drain(False)
        await running.accept(again)
        assert again.outcome == [again.first_id]
        assert running.committer.refusing is None

    run(path, scenario)


@pytest.mark.parametrize("prepared", [True, False])
def test_a_known_unique_gets_its_twins_id_while_draining(path: Path, prepared: bool) -> None:
    """A caller that tries again while relay drains hears that its cast is here; a new one beside it is refused."""

    async def scenario(running: Running) -> None:
        first = running.writer.arrival([cast(unique=b"u")])
        await running.accept(first)
        await running.committer.drain(True)
        again = running.writer.arrival([cast(unique=b"v"), cast(unique=b"u")], prepared=prepared)
        await running.accept(again)
        assert again.outcome == ["draining", first.first_id]

    run(path, scenario)


def test_a_drain_that_failed_refuses_nobody(path: Path) -> None:
    """If its COMMIT fails, the operator hears it, and casts are accepted as before."""

    async def scenario(running: Running) -> None:
        await running.forbid_writes(True)
        with pytest.raises(sqlite3.OperationalError):
            await running.committer.drain(True)
        await running.forbid_writes(False)
        arrival = running.writer.arrival([cast()])
        await running.accept(arrival)
        assert arrival.outcome == [arrival.first_id]

    run(path, scenario)


def test_a_call_that_raises_takes_back_what_it_did_and_only_that(path: Path) -> None:
    """The operator gets the error; the callers of the same round are accepted."""

    async def scenario(running: Running) -> None:
        def change(transitions: Transitions) -> None:
            transitions.set_draining(True)
            raise ValueError("no")

        arrival = running.writer.arrival([cast()])
        async with running.busy():
            running.committer.append(arrival)
            call = running.committer.call(change)
        with pytest.raises(ValueError, match="no"):
            await call
        assert arrival.outcome == [arrival.first_id]
        assert running.writer.rows("SELECT value FROM meta WHERE name = 'draining'") == []
        assert not running.writer.transitions.draining

    run(path, scenario)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_full_spool_refuses_until_there_is_room(path: Path) -> None:
    """max_casts counts what is kept: beyond it spool_full, and after a retirement or a reload there is room again."""

    async def scenario(running: Running) -> None:
        arrival = running.writer.arrival([cast(), cast(), cast()])
        await running.accept(arrival)
        assert arrival.outcome == [arrival.first_id, arrival.first_id + 1, "spool_full"]
        assert running.committer.refusing == "spool_full"
        running.committer.store([(arrival.first_id, 1, 1, False, 0)], [])
        await running.told.get()
        again = running.writer.arrival([cast(), cast()])
        await running.accept(again)
        assert again.outcome == [again.first_id, "spool_full"]
        running.committer.limit(unlimited(path))
        more = running.writer.arrival([cast()] * 10)
        await running.accept(more)
        assert list(more.outcome) == list(range(more.first_id, more.first_id + 10))

    run(path, scenario, max_casts=2)


def test_bytes_are_a_limit_too(path: Path) -> None:
    """max_bytes counts payload bytes kept."""

    async def scenario(running: Running) -> None:
        arrival = running.writer.arrival([cast(payload=b"123456"), cast(payload=b"12345"), cast(payload=b"1234")])
        await running.accept(arrival)
        assert [isinstance(one, int) for one in arrival.outcome] == [True, False, True]
        assert running.committer.refusing == "spool_full"

    run(path, scenario, max_bytes=10)


def test_a_disk_without_room_to_spare_refuses(path: Path) -> None:
    """With less free than min_free every new cast is refused as disk_full, before anything is written."""

    async def scenario(running: Running) -> None:
        arrival = running.writer.arrival([cast(), cast()])
        await running.accept(arrival)
        assert arrival.outcome == ["disk_full"] * 2
        assert running.committer.refusing == "disk_full"

    run(path, scenario, min_free=1 << 62)


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_stop_writes_everything_that_was_handed_in(path: Path) -> None:
    """Arrivals, verdicts and calls that wait when the stop comes are written and told before the thread ends."""

    async def scenario() -> None:
        running = Running(path)
        running.committer.start()
        first = running.writer.arrival([cast()])
        await running.accept(first)
        arrivals = [running.writer.arrival([cast()] * 100) for _ in range(300)]
        async with running.busy():
            for arrival in arrivals:
                running.committer.append(arrival)
            running.committer.store([(first.first_id, 1, 1, False, 0)], [])
            drained = running.committer.drain(True)
            stopped = asyncio.create_task(running.committer.stop())
            await asyncio.sleep(0)
        await stopped
        await drained
        ids = [row[0] for row in running.writer.rows("SELECT id FROM casts ORDER BY id")]
        assert ids == [id_ for arrival in arrivals for id_ in arrival.outcome]
        assert running.writer.rows("SELECT value FROM meta WHERE name = 'draining'") == [(1,)]
        running.writer.close()

    asyncio.run(scenario())


def test_a_bug_in_the_thread_is_told(path: Path) -> None:
    """What is no error of the disk's ends the writer and reaches `broken`: the agent cannot go on without it."""

    async def scenario() -> None:
        running = Running(path)
        running.committer.start()

        def bug(_: Transitions) -> None:
            raise KeyError("a bug")

        running.committer.look(bug, lambda found: None)
        async with asyncio.timeout(GUARD_S):
            assert isinstance(await running.broken, KeyError)
        await running.committer.stop()
        running.writer.close()

    asyncio.run(scenario())


def test_a_look_for_room_that_fails_behind_a_commit_is_no_verdict(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was committed is told as such, a caller's batch and an operator's change; the writer goes on."""

    async def scenario(running: Running) -> None:
        await running.accept(running.writer.arrival([cast()]))
        real = Room.left

        def left(room: Room, kept: int, kept_bytes: int) -> tuple[str | None, int, int]:
            if not room._conn.in_transaction:
                raise sqlite3.OperationalError("disk I/O error")
            return real(room, kept, kept_bytes)

        monkeypatch.setattr(Room, "left", left)
        arrival = running.writer.arrival([cast()])
        (committed,) = await running.accept(arrival)
        assert committed.error is None
        assert committed.changes.counts[1].accepted == 1
        assert await running.committer.call(lambda transitions: transitions.set_draining(True) or "done") == "done"
        assert not running.broken.done()

    run(path, scenario)
