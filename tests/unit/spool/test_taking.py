"""What cannot be read is not condemned, and stands in nobody's way."""

import sqlite3
from typing import Any

import pytest

from relay.spool import statements as sql
from relay.spool import taking
from relay.spool.taking import UNREAD_S
from tests.unit.spool.writing import ENOUGH, NOW, Writer, cast, setback

LATER = NOW + round(UNREAD_S * 1e6)


class Failing:
    """A connection of which reading some casts fails, as SQLite says it of a page."""

    def __init__(self, writer: Writer, code: int, ids: set[int]) -> None:
        self._execute = writer.conn.execute
        self.code = code
        self.ids = ids
        self.reads = 0
        writer.transitions.ledger.execute = self.execute  # type: ignore[assignment, method-assign]

    def execute(self, statement: str, parameters: Any = ()) -> sqlite3.Cursor:
        if self.ids and (statement == sql.TAKE_READY or (statement == sql.READ_CAST and parameters[0] in self.ids)):
            self.reads += 1
            error = sqlite3.OperationalError if self.code == sqlite3.SQLITE_IOERR else sqlite3.DatabaseError
            failed = error("the page cannot be read")
            failed.sqlite_errorcode = self.code
            raise failed
        return self._execute(statement, parameters)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR | 1 << 8])
def test_a_cast_that_cannot_be_read_is_deferred_and_the_others_are_taken(writer: Writer, code: int) -> None:
    """It is neither dead nor lost: it is read again in a minute, as often as it takes, and taken as it was."""
    ids = writer.accept(*[cast(payload=b"p%d" % number) for number in range(5)])
    lane = writer.lane()
    failing = Failing(writer, code, {ids[2]})
    took = writer.transitions.take(lane, 0, 10, ENOUGH)
    assert [one.cast[0] for one in took.casts] == [ids[at] for at in (0, 1, 3, 4)]
    assert (took.last_id, took.exhausted, took.failed) == (ids[-1], True, False)
    assert (writer.transitions.found_unread, writer.transitions.found_damage) == (True, False)
    for moment in (NOW, LATER):
        changes = writer.write(lambda moment=moment: writer.transitions.bury_doomed(moment))
        assert not writer.transitions.found_doomed
        assert writer.transitions.unread == 1
        (counts,) = writer.counts.values()
        assert (counts.ready, counts.deferred, counts.dead, counts.failures) == (4, 1, 0, 0)
        due_at = moment + round(UNREAD_S * 1e6)
        assert changes.due == {lane: due_at}
        assert writer.rows("SELECT id, reason, due_at, attempts FROM fates") == [(ids[2], "unreadable", due_at, 0)]
        assert writer.transitions.take_due(lane, due_at - 1, due_at, 10, ENOUGH).casts == []
        assert writer.transitions.take_due(lane, due_at, due_at, 10, ENOUGH).casts == []
        assert writer.transitions.found_unread
    writer.write(lambda: writer.transitions.bury_doomed(LATER))
    failing.ids = set()
    (one,) = writer.transitions.take_due(lane, LATER * 2, LATER * 3, 10, ENOUGH).casts
    assert one.cast[:3] == (ids[2], None, b"p2")
    assert writer.transitions.unread == 0
    writer.store([(ids[2], lane, 2, True, 0)])
    assert writer.rows("SELECT count(*) FROM fates") == [(0,)]


def test_another_error_is_raised_and_nothing_is_set_back(writer: Writer) -> None:
    """A database that is locked, say."""
    writer.accept(cast())
    Failing(writer, sqlite3.SQLITE_BUSY, {1})
    with pytest.raises(sqlite3.DatabaseError):
        writer.transitions.take(writer.lane(), 0, 10, ENOUGH)
    assert not writer.transitions.found_doomed


def test_a_read_that_fails_once_costs_nothing(writer: Writer) -> None:
    """What is there at the second look is taken."""
    (id_,) = writer.accept(cast())
    failing = Failing(writer, sqlite3.SQLITE_CORRUPT, {id_})
    execute = failing.execute

    def once(statement: str, parameters: Any = ()) -> sqlite3.Cursor:
        if failing.reads == 2:
            failing.ids = set()
        return execute(statement, parameters)

    writer.transitions.ledger.execute = once  # type: ignore[assignment, method-assign]
    assert [one.cast[0] for one in writer.transitions.take(writer.lane(), 0, 10, ENOUGH).casts] == [id_]
    assert not writer.transitions.found_doomed


def test_what_cannot_be_set_back_is_bounded(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk stores nothing either, a backlog that cannot be read is not gathered in memory."""
    monkeypatch.setattr(taking, "MOST_DOOMED", 3)
    ids = writer.accept(*[cast() for _ in range(10)])
    Failing(writer, sqlite3.SQLITE_CORRUPT, set(ids))
    last = 0
    for _ in range(10):
        took = writer.transitions.take(writer.lane(), last, 3, ENOUGH)
        if not took.failed:
            last = took.last_id
    assert last == ids[2]
    assert took.failed
    assert writer.transitions.unread == 3


def test_a_fate_that_rotted_ends_nobody(writer: Writer) -> None:
    """It has no checksum: what is no number in it counts as none, and the cast is taken."""
    ids = writer.accept(cast(), cast())
    lane = writer.lane()
    writer.store(setbacks=[setback(ids[0], lane, NOW, attempts=3), setback(ids[1], lane, NOW)])
    writer.transitions.ledger.taken_due.clear()
    writer.conn.execute(
        "UPDATE fates SET attempts = 'x', failures = x'00', aged_from = 'y', due_at = 'z' WHERE id = ?", ids[:1]
    )
    took = writer.transitions.take_due(lane, NOW, NOW + 10, 10, ENOUGH)
    assert {(one.cast[0], one.attempts, one.failures) for one in took.casts} == {(ids[0], 0, 0), (ids[1], 1, 1)}
    assert took.next_due is None
