"""The format of the spool: what version 1 is, and that a golden spool of it is understood for ever."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.errors import SpoolUnusable
from relay.spool import schema
from relay.spool.changes import Counts
from relay.spool.moving import bring_in, parse
from relay.spool.opening import ID_SCALE
from tests.formats.make_v1 import GOLDEN, make
from tests.formats.make_v2 import GOLDEN as GOLDEN_2
from tests.formats.make_v2 import IMPORTED
from tests.unit.spool.writing import ENOUGH, NOW, Writer, cast

FIRST = 1000 * ID_SCALE

#: the documented columns of the view, in their order: readers of any later version find them under these names
BACKLOG = (
    "id",
    "function",
    "unique",
    "priority",
    "state",
    "bytes",
    "accepted_at",
    "not_before",
    "due_at",
    "attempts",
    "failures",
    "last_error",
    "uid",
    "reason",
)


@pytest.fixture
def golden(tmp_path: Path) -> Iterator[Writer]:
    """The golden spool of format 1, opened on the machine that it was last on."""
    home = tmp_path / "spool"
    home.mkdir(mode=0o700)
    shutil.copy(GOLDEN, home / "spool.db")
    (home / "spool.db").chmod(0o600)
    writer = Writer(home / "spool.db", "machine-two")
    yield writer
    writer.check_counts()
    writer.close()


def described(conn: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Every table, index and view of a database, with its SQL."""
    found = conn.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master ORDER BY name").fetchall()
    return [(kind, name, " ".join(text.split())) for kind, name, text in found]


def test_a_golden_spool_has_its_version(golden: Writer) -> None:
    """Opened, it has the version of this relay, and the tables of a spool made today."""
    assert schema.version(golden.conn) == schema.VERSION
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(fresh)
    assert described(golden.conn) == described(fresh)
    fresh.close()


def test_a_golden_spool_of_format_1_says_so() -> None:
    """The file itself has user_version 1, as it was written."""
    conn = sqlite3.connect(f"file:{GOLDEN}?mode=ro&immutable=1", uri=True)
    assert conn.execute("PRAGMA user_version").fetchone() == (1,)
    conn.close()


def test_every_cast_of_a_golden_spool_is_taken(golden: Writer) -> None:
    """Its casts come back byte for byte, with their checksums, in their order, with their uniques."""
    normal, high, low = (golden.lane(b"notify", priority) for priority in (1, 0, 2))
    dash = b"-f20e0ebbf3557f2ea2e5eab5a17f2d0c"
    taken = [one.cast for one in golden.take(normal)]
    assert [(id_ - FIRST, unique, payload) for id_, unique, payload, _ in taken if unique != dash][:3] == [
        (1, None, b"plain"),
        (2, b"order-1", b"named"),
        (3, b"0123456789abcdef0123456789abcdef", b"\0\xff binary \0"),
    ]
    assert taken[3][2] == b"of the payload"
    assert taken[3][1] is not None
    assert taken[3][1].startswith(b"-")
    assert taken[4][1:3] == (None, b"after the move")
    assert [one.cast[2] for one in golden.take(high) + golden.take(low)] == [b"high", b"low"]
    assert not golden.transitions.found_damage


def test_the_fates_of_a_golden_spool_are_known(golden: Writer) -> None:
    """What was deferred is due with its history, what is dead is dead, and the attempts are told."""
    lane = golden.lane(b"bill")
    assert golden.take(lane) == []
    due = golden.transitions.take_due(lane, NOW + 60_000_000, ENOUGH << 20, 10, ENOUGH).casts
    assert [(one.cast[2], one.attempts, one.failures, one.deferred) for one in due] == [(b"deferred", 3, 2, True)]
    assert golden.rows("SELECT number, took, upstream, reason, error FROM attempts") == [
        (3, 250_000, "gear1:4730", "work_fail", "the worker failed")
    ]
    states = golden.rows("SELECT payload, state, reason FROM casts JOIN fates USING (id) ORDER BY id")
    assert states == [(b"deferred", "deferred", "work_fail"), (b"dead", "dead", "work_exception")]


def test_a_golden_spool_keeps_its_ids_and_its_word(golden: Writer) -> None:
    """The keys of old casts, the next id, draining and the totals are as they were left."""
    assert golden.identity.spools == ((FIRST, b"0123456789ab"), (FIRST + 9, b"ba9876543210"))
    assert golden.identity.next_id == FIRST + 10
    assert golden.opened.draining
    total = Counts()
    for counts in golden.counts.values():
        total.add(counts)
    assert (total.accepted, total.completed, total.deferred, total.dead, total.ready) == (10, 1, 1, 1, 7)
    assert (total.failures, total.repeats) == (2, 2)


def test_a_twin_is_found_in_a_golden_spool(golden: Writer) -> None:
    """Uniques of format 1 are found by their digests, of every kind of unique."""
    twins = [b"order-1", b"0123456789abcdef0123456789abcdef", b"-", b"dead-1"]
    arrival = golden.arrival([cast(b"notify", b"of the payload", unique) for unique in twins])
    golden.append(arrival)
    assert [isinstance(one, int) and one - FIRST for one in arrival.outcome] == [2, 3, 4, 13]


def test_the_script_still_makes_the_golden_spool(tmp_path: Path) -> None:
    """As long as this relay writes format 1, what the script makes holds the same rows as the file beside it."""
    if schema.VERSION == 1:
        make(tmp_path / "spool" / "spool.db")
        tables = ("casts", "fates", "attempts", "lanes", "spools")
        found = []
        for path in (tmp_path / "spool" / "spool.db", GOLDEN):
            conn = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
            found.append([conn.execute(f"SELECT * FROM {table}").fetchall() for table in tables])
            conn.close()
        assert found[0] == found[1]


def test_the_view_has_the_documented_columns(golden: Writer) -> None:
    """`backlog` has just these columns, in this order."""
    assert [name for _, name, *_ in golden.rows("PRAGMA table_info(backlog)")] == list(BACKLOG)


def test_the_view_shows_each_cast_once(golden: Writer) -> None:
    """Priorities and states in words, sizes in bytes, times as stored; a cast without trouble has no error."""
    rows = {row[0] - FIRST: row[1:] for row in golden.rows("SELECT * FROM backlog")}  # type: ignore[operator]
    assert len(rows) == 9
    trouble = (
        b"bill",
        None,
        "normal",
        "deferred",
        8,
        NOW,
        None,
        NOW + 60_000_000,
        3,
        2,
        "the worker failed",
        1,
        "work_fail",
    )
    assert rows[1] == (b"notify", None, "normal", "ready", 5, NOW, None, None, 0, 0, None, 1, "")
    assert rows[5][2:4] == ("high", "ready")
    assert rows[6][2:4] == ("low", "ready")
    assert rows[7] == trouble
    assert rows[8][1:4] == (b"dead-1", "normal", "dead")
    assert rows[9][-2] is None


def test_a_migration_that_fails_leaves_an_empty_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is one transaction: with an error in its midst nothing of it stays, the version neither."""
    monkeypatch.setattr(schema, "_STEPS", {1: "CREATE TABLE one (x);\nCREATE TABLE one (x);\n"})
    conn = sqlite3.connect(":memory:", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        schema.migrate(conn)
    assert described(conn) == []
    assert schema.version(conn) == 0
    assert not conn.in_transaction
    conn.close()


def test_a_migration_that_was_done_is_not_done_again() -> None:
    """At its own version nothing is changed."""
    conn = sqlite3.connect(":memory:", isolation_level=None)
    schema.check(conn)
    schema.migrate(conn)
    before = conn.total_changes, described(conn)
    schema.check(conn)
    schema.migrate(conn)
    assert (conn.total_changes, described(conn)) == before
    conn.close()


@pytest.mark.parametrize("missing", ["casts", "fates", "lanes"])
def test_a_spool_without_one_of_its_tables_is_none(missing: str) -> None:
    """Relay's version alone makes no spool: the tables must be there."""
    conn = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(conn)
    conn.execute("DROP VIEW backlog")
    conn.execute(f"DROP TABLE {missing}")
    with pytest.raises(SpoolUnusable, match="none of relay's"):
        schema.check(conn)
    conn.close()


# -- format 2 ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Writer]:
    """The golden spool of format 2."""
    home = tmp_path / "spool"
    home.mkdir(mode=0o700)
    shutil.copy(GOLDEN_2, home / "spool.db")
    (home / "spool.db").chmod(0o600)
    writer = Writer(home / "spool.db", "machine-one")
    yield writer
    writer.check_counts()
    writer.close()


def test_a_golden_spool_of_format_2_has_the_tables_of_today(second: Writer) -> None:
    """Opened, it has the version of this relay and what a spool made today has."""
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(fresh)
    assert (schema.version(second.conn), described(second.conn)) == (schema.VERSION, described(fresh))
    fresh.close()


def test_what_an_operator_did_stands_in_a_golden_spool_of_format_2(second: Writer) -> None:
    """Who holds each cast, what was exported, what may go again, and which functions are held."""
    fates = "SELECT payload, state, reason, held_by, exported FROM casts JOIN fates USING (id) ORDER BY id"
    assert second.rows(fates) == [
        (b"held", "held", "held", "operator", 0),
        (b"dead", "dead", "buried", "", 0),
        (b"again", "ready", "held", "", 0),
        (b"exported", "held", "held", "export", 1),
        (b"held from the start", "held", "held", "new later.*", 0),
        (b"from elsewhere", "ready", "imported", "", 0),
    ]
    assert [hold.pattern for hold in second.transitions.holds.all] == ["later.*"]
    (again,) = second.transitions.take_due(second.lane(b"notify"), NOW, ENOUGH << 20, 10, ENOUGH).casts
    assert (again.cast[2], again.deferred, again.key) == (b"again", False, None)


def test_an_imported_cast_of_format_2_has_its_key_and_its_origin(second: Writer) -> None:
    """It is taken under the key that it brought, and its line is known."""
    (moved,) = second.transitions.take_due(second.lane(b"moved"), NOW, ENOUGH << 20, 10, ENOUGH).casts
    assert (moved.cast[2], moved.key) == (b"from elsewhere", b"0123456789ab-7")
    second.begin()
    said = bring_in(second.transitions, second.identity, [parse(IMPORTED)], second.next_id, NOW)
    second.rollback()
    assert (said.imported, said.repeated) == (0, 1)


def test_a_format_that_its_tables_deny_is_refused_in_words(tmp_path: Path) -> None:
    """A bit of user_version that flipped is no reason to migrate what was migrated: one line says what mends it."""
    writer = Writer(tmp_path / "spool" / "spool.db")
    ids = writer.accept(cast())
    writer.close()
    conn = sqlite3.connect(writer.path)
    conn.execute("PRAGMA user_version = 1")
    conn.close()
    with pytest.raises(SpoolUnusable, match=r"tables of format 2: its header rotted.*user_version = 2"):
        Writer(writer.path)
    conn = sqlite3.connect(writer.path)
    conn.execute("PRAGMA user_version = 2")
    conn.close()
    again = Writer(writer.path)
    assert [one.cast[0] for one in again.take(1)] == ids
    again.close()
