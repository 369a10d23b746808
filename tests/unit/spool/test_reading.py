"""Reading a spool beside its writer: the counts, and what a reader is told that cannot read."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.errors import SpoolUnusable
from relay.spool import listing, reading, schema
from relay.spool.opening import close_spool
from tests.unit.spool.tables import NOW, Writer, cast


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """An empty spool."""
    made = Writer(tmp_path / "spool" / "spool.db")
    yield made
    close_spool(made.opened)


def test_counts_are_the_sums_over_lanes(writer: Writer) -> None:
    """Counts by state, bytes, and the oldest of those that are not dead; nothing is written by a look."""
    dead, deferred, *_ = writer.append(cast(payload=b"abc"), cast(b"g"), cast(b"g", priority=0))
    writer.set_back(dead, None)
    writer.set_back(deferred, NOW)
    totals = reading.counts(writer.path)
    counts = totals.counts
    assert (counts.accepted, counts.ready, counts.deferred, counts.dead, counts.bytes) == (3, 1, 1, 1, 5)
    assert totals.oldest == (deferred, NOW)
    assert totals.draining is False
    assert totals.bytes_on_disk >= writer.path.stat().st_size
    assert reading.oldest(writer.path, deferred + 1) == (deferred + 1, NOW)
    assert reading.oldest(writer.path, deferred + 2) is None


def test_a_spool_that_was_closed_can_be_read(tmp_path: Path) -> None:
    """With the agent gone and the WAL with it, counts and casts are the same as before."""
    writer = Writer(tmp_path / "spool" / "a ?#%.db")
    ids = writer.append(cast(), cast())
    close_spool(writer.opened)
    assert reading.counts(writer.path).counts.ready == 2
    assert b"".join(listing.lines(writer.path, reading.Filter(), None, NOW)).count(b"\n") == len(ids)


def test_draining_is_read(writer: Writer) -> None:
    """A drain survives in the spool, and a reader sees it."""
    writer.execute("INSERT INTO meta (name, value) VALUES ('draining', 1)")
    assert reading.counts(writer.path).draining is True


def test_no_spool_is_said_and_none_is_made(tmp_path: Path) -> None:
    """A path without a spool is SpoolMissing, names the path, and is still nothing afterwards."""
    path = tmp_path / "spool.db"
    for read in (lambda: reading.counts(path), lambda: list(listing.lines(path, reading.Filter(), None, NOW))):
        with pytest.raises(reading.SpoolMissing, match=str(path)):
            read()
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_spool_is_refused(tmp_path: Path) -> None:
    """No database, a stranger's, an empty one, or a newer format: SpoolUnusable, and the file stays as it is."""
    noise, stranger, empty, newer = (tmp_path / name for name in ("noise", "stranger", "empty", "newer"))
    noise.write_bytes(os.urandom(8192))
    empty.write_bytes(b"")
    for path, statement in ((stranger, "CREATE TABLE t (x)"), (newer, "CREATE TABLE backlog (x)")):
        conn = sqlite3.connect(path)
        conn.execute(statement)
        conn.execute(f"PRAGMA user_version = {schema.VERSION + 1 if path == newer else 0}")
        conn.close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path, why in ((noise, "not a database"), (stranger, "none of"), (empty, "none of"), (newer, "newer relay")):
        with pytest.raises(SpoolUnusable, match=why):
            reading.counts(path)
    assert {path: path.read_bytes() for path in before} == before


def test_a_spool_of_another_user_is_forbidden(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not read the file, or not even look for it, is told so (77)."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(reading.SpoolForbidden, match="may not read") as raised:
        reading.counts(writer.path)
    assert raised.value.exit_code == os.EX_NOPERM


def test_a_directory_that_cannot_be_written_is_explained(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's 'unable to open' becomes what an operator can do about it."""
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK)
    error = sqlite3.OperationalError("unable to open database file")
    explained = reading._explained(writer.path, error)
    assert isinstance(explained, reading.SpoolForbidden)
    assert "write permission" in str(explained)
