"""One flipped bit has an index, or a page of the table, name a cast twice and its neighbour never.

SQLite sees nothing of it, and what was executed twice stands in the counts for what never was.  So no cast is taken
twice, the other stays in the counts, and whoever sees it says so; a rebuilding names what nothing but an index knows.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.ageing import Limit
from relay.clock import Clock
from relay.spool import codes, suspecting
from relay.spool.changes import Took
from relay.spool.checking import check
from relay.spool.committer import Committer
from relay.spool.edits import Edit, Verb, apply
from relay.spool.repairing import repair
from relay.spool.transitions import Transitions
from relay.spool.upkeep import PASS_S, Upkeep
from tests.unit.limits import unlimited
from tests.unit.spool.writing import ENOUGH, NOW, Writer, cast, setback

CASTS = 40
#: a bit of one of these ids makes it that of its neighbour: before it, or behind it
NEIGHBOURS = [10, 11]


class Rotting(Writer):
    """A spool with casts in one lane, in which something rots while nobody has it open."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.ids = self.accept(*[cast(payload=b"%d" % number * 20) for number in range(CASTS)])
        assert not self.ids[0] % 2

    def _page(self, name: str) -> int:
        """Where the only page of an index, or the first leaf of a table, begins in the file."""
        root = int(str(self.rows("SELECT rootpage FROM sqlite_master WHERE name = ?", name)[0][0]))
        content = self.path.read_bytes()
        at = (root - 1) * 4096
        if content[at] == 5:
            # an inner page: its first cell begins with the number of the page below
            cell = int.from_bytes(content[at + 12 : at + 14], "big")
            at = (int.from_bytes(content[at + cell : at + cell + 4], "big") - 1) * 4096
        return at

    def flip_in_index(self, name: str, id_: int) -> None:
        """The lowest bit of the entry that an index has for a cast."""
        self.close()
        at = self._page(name)
        content = bytearray(self.path.read_bytes())
        found = content.index(id_.to_bytes(4, "big"), at, at + 4096)
        content[found + 3] ^= 1
        self.path.write_bytes(content)
        self._open()

    def misplace(self, number: int) -> None:
        """The pointer to one cell of the table's first page becomes that to the cell behind it."""
        self.close()
        at = self._page("casts") + 8 + 2 * number
        content = bytearray(self.path.read_bytes())
        content[at : at + 2] = content[at + 2 : at + 4]
        self.path.write_bytes(content)
        self._open()

    def done(self, took: Took) -> None:
        """All of these are executed and retired."""
        lane = self.lane()
        self.store([(one.cast[0], lane, len(one.cast[2]), one.deferred, 0) for one in took.casts])


@pytest.fixture
def rotting(tmp_path: Path) -> Iterator[Rotting]:
    """One that nobody holds against its counts at the end."""
    made = Rotting(tmp_path / "spool" / "spool.db")
    yield made
    made.close()


@pytest.mark.parametrize("casts", [CASTS, 11, 10, 1])
@pytest.mark.parametrize("number", NEIGHBOURS)
def test_a_ready_cast_is_taken_once(rotting: Rotting, number: int, casts: int) -> None:
    """Wherever a take ends; the one that no index knows stays counted, and every other is taken in order."""
    rotting.flip_in_index("casts_by_lane", rotting.ids[number])
    ids: list[int] = []
    last_id, exhausted = 0, False
    while not exhausted:
        took = rotting.transitions.take(rotting.lane(), last_id, casts, ENOUGH)
        last_id, exhausted = took.last_id, took.exhausted
        ids += [one.cast[0] for one in took.casts]
        rotting.done(took)
    assert ids == [id_ for at, id_ in enumerate(rotting.ids) if at != number]
    (counts,) = rotting.counts.values()
    assert counts.ready == 1
    found = suspecting.find(rotting.path)
    assert found is not None
    assert "casts_by_lane" in found


@pytest.mark.parametrize("number", NEIGHBOURS)
def test_a_take_says_that_it_met_a_cast_twice(rotting: Rotting, number: int) -> None:
    """Just then; the next take that meets none says that it did not."""
    rotting.flip_in_index("casts_by_lane", rotting.ids[number])
    rotting.transitions.take(rotting.lane(), 0, CASTS, ENOUGH)
    assert rotting.transitions.found_twice
    rotting.transitions.take(rotting.lane(), rotting.ids[20], CASTS, ENOUGH)
    assert not rotting.transitions.found_twice


@pytest.mark.parametrize("number", NEIGHBOURS)
def test_a_deferred_cast_is_taken_once(rotting: Rotting, number: int) -> None:
    """When both are due; the other stays counted."""
    lane = rotting.lane()
    rotting.store((), [setback(id_, lane, NOW) for id_ in rotting.ids])
    rotting.flip_in_index("fates_by_due", rotting.ids[number])
    took = rotting.transitions.take_due(lane, NOW, NOW + 1, 2 * CASTS, ENOUGH)
    assert [one.cast[0] for one in took.casts] == [id_ for at, id_ in enumerate(rotting.ids) if at != number]
    assert rotting.transitions.found_twice
    rotting.done(took)
    (counts,) = rotting.counts.values()
    assert counts.deferred == 1


@pytest.mark.parametrize("number", NEIGHBOURS)
def test_what_may_be_in_flight_does_not_expire(rotting: Rotting, number: int) -> None:
    """A sweep that meets a cast again, or one before the place where it began, leaves it."""
    rotting.flip_in_index("casts_by_lane", rotting.ids[number])
    lane, limit = rotting.lane(), Limit(1 << 62, ())
    rotting.transitions.expire(lane, rotting.ids[number - 2], 0, CASTS, limit)
    assert rotting.transitions.found_twice
    rotting.write(lambda: rotting.transitions.bury_doomed(NOW))
    dead = [id_ for (id_,) in rotting.rows("SELECT id FROM fates")]
    assert dead == [id_ for at, id_ in enumerate(rotting.ids) if at > number - 2 and at != number]


def test_what_is_done_and_not_there_is_noted(rotting: Rotting) -> None:
    """Alone, or among others that are retired as a range."""
    lane = rotting.lane()
    rotting.conn.execute("DELETE FROM casts WHERE id IN (?, ?)", (rotting.ids[3], rotting.ids[20]))
    done = [(id_, lane, 20, False, 0) for id_ in [*rotting.ids[:10], rotting.ids[20]]]
    assert rotting.store(done).absent == 2
    assert rotting.store([(rotting.ids[30], lane, 20, False, 0)]).absent == 0


@pytest.mark.parametrize("how", ["retired", "purged"])
def test_what_was_not_meant_is_not_deleted(tmp_path: Path, how: str) -> None:
    """A pointer from page to page that rotted leads back: the range that is deleted takes nobody along from there."""
    writer = Writer(tmp_path / "spool" / "spool.db")
    ids = writer.accept(*[cast(payload=b"%d" % number * 20) for number in range(1000)])
    root = (int(str(writer.rows("SELECT rootpage FROM sqlite_master WHERE name = 'casts'")[0][0])) - 1) * 4096
    writer.close()
    content = bytearray(writer.path.read_bytes())
    assert content[root] == 5
    cells = [root + int.from_bytes(content[root + at : root + at + 2], "big") for at in range(12, 24, 2)]
    leaves = [(int.from_bytes(content[cell : cell + 4], "big") - 1) * 4096 for cell in cells]
    before = sum(int.from_bytes(content[leaf + 3 : leaf + 5], "big") for leaf in leaves[:5])
    content[cells[5] : cells[5] + 4] = content[cells[0] : cells[0] + 4]
    writer.path.write_bytes(content)
    writer._open()
    some = ids[before - 5 : before]
    if how == "purged":
        writer.store((), [setback(id_, 1, None) for id_ in some])

    def change() -> None:
        if how == "purged":
            apply(writer.transitions, Edit(Verb.PURGE, 0), some, (), NOW)
        else:
            writer.transitions.store([(id_, 1, 20, False, 0) for id_ in some], (), NOW)

    writer.begin()
    with pytest.raises(sqlite3.DatabaseError, match="more casts were deleted than there can be") as raised:
        change()
    assert codes.is_sign(raised.value)
    writer.rollback()
    assert [one.cast[0] for one in writer.take(1, casts=5)] == ids[:5]
    writer.close()


@pytest.mark.parametrize("sign", ["twice", "absent"])
def test_the_writer_has_the_spool_looked_at(rotting: Rotting, sign: str) -> None:
    """After a take that met a cast twice, and after a COMMIT that was to retire what is not there."""
    lane = rotting.lane()
    if sign == "twice":
        rotting.flip_in_index("casts_by_lane", rotting.ids[10])

    async def until_said(words: str) -> None:
        said: asyncio.Queue[str] = asyncio.Queue()
        committer = Committer(
            rotting.transitions,
            rotting.conn,
            rotting.path,
            unlimited(rotting.path),
            asyncio.get_running_loop(),
            lambda committed: None,
            lambda error: None,
            Clock(),
            said.put_nowait,
        )
        committer.start()

        def take(transitions: Transitions) -> Took:
            return transitions.take(lane, 0, CASTS, ENOUGH)

        if sign == "twice":
            committer.take(take, lambda took: None)
        else:
            committer.store([(5, lane, 20, False, 0)], [])
        try:
            async with asyncio.timeout(60):
                # the daily pass says what it sees of it, too
                while await said.get() != words:
                    pass
        finally:
            await committer.stop()

    words = {"twice": "an index names a cast twice", "absent": "casts that are done were not there to be retired"}
    asyncio.run(until_said(words[sign]))


def test_the_daily_pass_finds_what_only_an_index_knows(rotting: Rotting) -> None:
    """A cast that is never taken, dead or held, is missed all the same."""
    rotting.store((), [setback(id_, rotting.lane(), None) for id_ in rotting.ids])
    rotting.misplace(10)
    said: list[str] = []
    upkeep = Upkeep(rotting.conn, rotting.path, said.append)
    for number in range(20):
        upkeep.step(upkeep.next_at + PASS_S + number)
    assert said
    assert said[0] == f"only an index knows of cast {rotting.ids[10]}"


# -- what a rebuilding makes of it ------------------------------------------------------------------------------------


def rebuilt(rotting: Rotting, *lost: int, damaged: int = 0) -> list[tuple[object, ...]]:
    """After a repair that lost these, and so many more; what is dead there."""
    rotting.close()
    done = repair(rotting.path, NOW, 0)
    rotting._open()
    assert (done.damaged, done.lost, done.missing) == (damaged, lost, 0)
    assert list(check(rotting.path)) == []
    rotting.check_counts()
    return rotting.rows("SELECT id, length(payload), reason, error FROM casts JOIN fates USING (id)"
                        " WHERE state = 'dead'")  # fmt: skip


def test_a_cast_whose_cell_is_lost_is_dead_and_named(rotting: Rotting) -> None:
    """The table says another one in its place, and no error: the counts miss it, and the index knows its id."""
    rotting.misplace(10)
    id_ = rotting.ids[10]
    assert rebuilt(rotting, id_) == [(id_, 0, "damaged", "it cannot be read")]
    assert len(rotting.take(1)) == CASTS - 1


def test_a_ghost_does_not_stand_for_one_that_is_lost(rotting: Rotting) -> None:
    """The neighbour was retired, and its second cell is there: the counts fit, but the lost one has a fate."""
    rotting.misplace(10)
    took = rotting.transitions.take(rotting.lane(), 0, CASTS, ENOUGH)
    assert rotting.transitions.found_unread
    rotting.write(lambda: rotting.transitions.bury_doomed(NOW))
    rotting.done(took._replace(casts=[one for one in took.casts if one.cast[0] == rotting.ids[11]]))
    (counts,) = rotting.counts.values()
    assert (counts.kept, counts.deferred) == (CASTS - 1, 1)
    id_ = rotting.ids[10]
    # of the ghost a few bytes are gone by now
    dead = rebuilt(rotting, id_, damaged=1)
    assert (id_, 0, "damaged", "it cannot be read") in dead
    assert len(dead) == 2


@pytest.mark.parametrize("number", NEIGHBOURS)
def test_an_entry_that_rotted_is_no_cast(rotting: Rotting, number: int) -> None:
    """Nothing is missing: what the index says beyond the table is its own rot."""
    rotting.flip_in_index("casts_by_lane", rotting.ids[number])
    rotting.done(rotting.transitions.take(rotting.lane(), 0, CASTS, ENOUGH))
    assert rebuilt(rotting) == []
    assert [one.cast[0] for one in rotting.take(1)] == [rotting.ids[number]]


def test_what_is_counted_and_has_left_nothing_is_told(rotting: Rotting) -> None:
    """As a number; the counts are made anew."""
    rotting.close()
    conn = sqlite3.connect(rotting.path, isolation_level=None)
    conn.execute("DELETE FROM casts WHERE id IN (?, ?)", rotting.ids[5:7])
    conn.close()
    done = repair(rotting.path, NOW, 0)
    assert (done.casts, done.damaged, done.lost, done.missing) == (CASTS - 2, 0, (), 2)
    rotting._open()
    rotting.check_counts()
