"""The full check finds each kind of damage, in the right words and the right place; what is sound yields nothing."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.errors import SpoolUnusable
from relay.spool import schema
from relay.spool.checking import Finding, check, readable
from tests.unit.spool.writing import NOW, Writer, cast, setback


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A spool with casts of two functions, some of them with a fate."""
    writer = Writer(tmp_path / "spool" / "spool.db")
    ids = writer.accept(*[cast(payload=b"%d" % number * 300, unique=b"u%d" % number) for number in range(40)])
    writer.accept(cast(b"g"), cast(b"g", priority=0))
    writer.store([(ids[0], 1, 300, False, 0)], [setback(ids[1], 1, NOW, log=1), setback(ids[2], 1, None)])
    lock = writer.opened.lock
    yield writer
    writer.conn.close()
    with contextlib.suppress(OSError):
        os.close(lock)


def found(writer: Writer) -> list[Finding]:
    """What the check says of the spool as it stands on disk."""
    writer.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return list(check(writer.path))


def test_a_sound_spool_yields_nothing(writer: Writer) -> None:
    """Not with casts in every state, and not when it is empty."""
    assert found(writer) == []


#: a change of the tables -> (part of the check, where, text) that it must yield; {0} is the first id of a cast there
CHANGES = {
    "UPDATE casts SET payload = x'00' || substr(payload, 2) WHERE id = {3}": ("checksum", "cast {3}", "not what was"),
    "UPDATE casts SET accepted_at = accepted_at + 1 WHERE id = {3}": ("checksum", "cast {3}", "not what was"),
    "UPDATE lanes SET bytes = bytes + 1 WHERE number = 1": ("counts", "lane 1", "bytes: "),
    "UPDATE lanes SET accepted = accepted + 1 WHERE number = 1": ("counts", "lane 1", "kept: 40 are counted, 39 are"),
    "UPDATE lanes SET completed = completed + 1 WHERE number = 2": ("counts", "lane 2", "kept: 0 are counted, 1 are"),
    "UPDATE lanes SET deferred = 0 WHERE number = 1": ("counts", "lane 1", "deferred: 0 are counted, 1 are"),
    "UPDATE lanes SET dead = 5 WHERE number = 1": ("counts", "lane 1", "dead: 5 are counted, 1 are"),
    "UPDATE lanes SET held = 1 WHERE number = 1": ("counts", "lane 1", "held: 1 are counted, 0 are"),
    "UPDATE lanes SET last_id = 7 WHERE number = 2": ("ids", "cast {39}", "does not know that its id"),
    "DELETE FROM lanes WHERE number = 2": ("lanes", "cast {39}", "there is no lane 2"),
    "UPDATE fates SET id = 5 WHERE id = {0}": ("orphans", "cast 5", "a fate without a cast"),
    "UPDATE fates SET lane = 2 WHERE id = {0}": ("orphans", "cast {0}", "its fate names another lane"),
    "UPDATE attempts SET id = 5": ("orphans", "cast 5", "an attempt without a cast"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_found(writer: Writer, change: str) -> None:
    """Checksums, counts, ids, lanes, fates and attempts: each is named with its place."""
    ids = [row[0] for row in writer.rows("SELECT id FROM casts ORDER BY id")]
    writer.conn.execute(change.format(*ids))
    part, where, text = CHANGES[change]
    seen = found(writer)
    assert [one for one in seen if (one.check, one.where) == (part, where.format(*ids)) and text in one.text], seen


def root(writer: Writer, name: str) -> int:
    """Where in the file a table or an index begins."""
    (page,) = writer.conn.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    return int(page - 1) * 4096


@pytest.mark.parametrize("name", ["casts", "casts_by_lane", "casts_by_digest", "fates", "attempts"])
def test_a_page_that_is_nonsense_is_found(writer: Writer, name: str) -> None:
    """SQLite's own check says which; the rest is checked all the same."""
    at = root(writer, name)
    writer.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    writer.close()
    with writer.path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xee" * 4096)
    seen = list(check(writer.path))
    assert [one for one in seen if one.check == "pages"], seen


@pytest.mark.parametrize(("last", "text"), [(False, "were acknowledged"), (True, "did not return")])
def test_a_bad_frame_of_the_log_is_found(writer: Writer, tmp_path: Path, last: bool, text: str) -> None:
    """What SQLite would not read is told, with the frame."""
    writer.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    writer.accept(cast(payload=b"once"))
    writer.accept(cast(payload=b"twice"))
    copy = tmp_path / "copy.db"
    log = bytearray(Path(f"{writer.path}-wal").read_bytes())
    at = log.rindex(b"twice") if last else log.index(b"once")
    log[at] ^= 1
    copy.write_bytes(writer.path.read_bytes())
    Path(f"{copy}-wal").write_bytes(log)
    (one,) = [one for one in check(copy) if one.check == "log"]
    assert text in one.text


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: path.write_bytes(b"no database " * 100), "not a database"),
        (lambda path: path.write_bytes(b""), "none of relay's"),
        (lambda path: path.mkdir(), "there is no spool"),
        (lambda path: None, "there is no spool"),
    ],
)
def test_what_cannot_be_opened_is_no_finding(tmp_path: Path, make: Callable[[Path], object], text: str) -> None:
    """There is nothing to look into: the error says why."""
    make(tmp_path / "a.db")
    with pytest.raises(SpoolUnusable, match=text):
        list(check(tmp_path / "a.db"))


def test_a_newer_spool_is_not_judged(writer: Writer) -> None:
    """What it means is not known here."""
    writer.conn.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    with pytest.raises(SpoolUnusable, match="newer relay"):
        found(writer)


def test_casts_are_read_around_a_page_that_is_nonsense(tmp_path: Path) -> None:
    """Those before and behind it are all found; of those on it the ids are known from an index."""
    writer = Writer(tmp_path / "spool" / "spool.db")
    ids = writer.accept(*[cast(payload=bytes([number % 250]) * 1000) for number in range(2000)])
    writer.close()
    content = bytearray(writer.path.read_bytes())
    at = content.index(bytes([100]) * 1000, len(content) // 3) // 4096 * 4096
    content[at : at + 4096] = b"\xee" * 4096
    writer.path.write_bytes(content)
    conn = sqlite3.connect(writer.path, isolation_level=None)
    lost: dict[int, int | None] = {}
    rows = list(readable(conn, lost))
    conn.close()
    assert [row[0] for row in rows] == ids
    assert 1 <= len(lost) <= 8
    assert sum(len(row) > 1 for row in rows) == len(ids) - len(lost)
