"""Reading a spool beside its writer: what is listed, in which order, and what a reader is told that cannot read."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.errors import SpoolUnusable
from relay.spool import reading, schema
from relay.spool.opening import close_spool, open_spool
from relay.spool.reading import Filter

NOW = 1_700_000_000_000_000
SECOND = 1_000_000


class Writer:
    """A spool that is open for writing, and its tables by the format: no writer's code stands between."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened = open_spool(path, NOW / 1e6, "machine")
        self.execute = self.opened.conn.execute
        self.next_id = self.opened.identity.next_id

    def append(self, *casts: tuple[bytes, bytes, bytes, int], uid: int | None = 7, at: int = NOW) -> list[int]:
        first = self.next_id
        self.execute("BEGIN")
        for function, unique, payload, priority in casts:
            self.execute("INSERT OR IGNORE INTO lanes (function, priority) VALUES (?, ?)", (function, priority))
            lane = self.lane(function, priority)
            self.execute(
                "INSERT INTO casts VALUES (?, ?, ?, NULL, ?, NULL, ?, 0, ?)",
                (self.next_id, lane, at, uid, unique or None, payload),
            )
            self.execute(
                "UPDATE lanes SET accepted = accepted + 1, bytes = bytes + ? WHERE number = ?", (len(payload), lane)
            )
            self.next_id += 1
        self.execute("COMMIT")
        return list(range(first, self.next_id))

    def lane(self, function: bytes, priority: int) -> int:
        found = self.execute("SELECT number FROM lanes WHERE (function, priority) = (?, ?)", (function, priority))
        number: int = found.fetchone()[0]
        return number

    def set_back(self, id_: int, due_at: int | None, error: str = "no") -> None:
        state = "dead" if due_at is None else "deferred"
        (lane,) = self.execute("SELECT lane FROM casts WHERE id = ?", (id_,)).fetchone()
        self.execute(
            "INSERT INTO fates (id, lane, state, due_at, since, attempts, failures, reason, error)"
            " VALUES (?, ?, ?, ?, ?, 3, 2, 'failed', ?)",
            (id_, lane, state, due_at, NOW, error),
        )
        self.execute(f"UPDATE lanes SET {state} = {state} + 1 WHERE number = ?", (lane,))

    def retire(self, id_: int) -> None:
        self.execute("DELETE FROM casts WHERE id = ?", (id_,))


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """An empty spool."""
    made = Writer(tmp_path / "spool" / "spool.db")
    yield made
    close_spool(made.opened)


def cast(function: bytes = b"f", payload: bytes = b"x", unique: bytes = b"", priority: int = 1) -> Any:
    """A submission."""
    return (function, unique, payload, priority)


def listed(writer: Writer, wanted: Filter | None = None, limit: int | None = None, now: int = NOW) -> list[int]:
    """The ids that are listed."""
    return [row["id"] for row in reading.backlog(writer.path, wanted or Filter(), limit, now)]


def test_a_cast_is_shown_with_every_column(writer: Writer) -> None:
    """The columns of the contract in its order, in text and seconds; what is absent is null or empty."""
    (ready,) = writer.append(cast(b"f", b"four", b"u\xff", 0), uid=None)
    (deferred,) = writer.append(cast(b"g", b"", b"", 2))
    writer.set_back(deferred, NOW + 3 * SECOND, "worker said no")
    first, second = reading.backlog(writer.path, Filter(), None, NOW + SECOND)
    assert list(first) == list(reading.COLUMNS)
    assert first == {
        "id": ready,
        "function": "f",
        "unique": "u\\xff",
        "priority": "high",
        "state": "ready",
        "bytes": 4,
        "age_seconds": 1.0,
        "attempts": 0,
        "failures": 0,
        "due_seconds": None,
        "last_error": "",
        "uid": None,
        "reason": "",
    }
    assert (second["state"], second["priority"], second["due_seconds"]) == ("deferred", "low", 2.0)
    assert (second["attempts"], second["failures"], second["last_error"]) == (3, 2, "worker said no")
    assert (second["bytes"], second["unique"], second["uid"]) == (0, "", 7)


def test_more_casts_than_a_slice_come_in_order(writer: Writer) -> None:
    """Across slices none is missing, none is repeated, and a limit may fall anywhere."""
    ids = writer.append(*[cast(b"f%d" % (n % 3)) for n in range(2 * reading.SLICE + 7)])
    assert listed(writer) == ids
    for limit in (0, 1, reading.SLICE, reading.SLICE + 1, len(ids) + 1):
        assert listed(writer, limit=limit) == ids[:limit]


@pytest.mark.parametrize("lanes", [3, reading.LANES_WALKED + 1], ids=["by lane", "by cast"])
def test_a_function_is_a_glob(writer: Writer, lanes: int) -> None:
    """However many functions match, those and only those are listed, in the order of all."""
    ids = writer.append(*[cast(b"mail.%d" % (n % lanes) if n % 2 else b"bill") for n in range(4 * lanes)])
    assert listed(writer, Filter(function="mail.*")) == ids[1::2]
    assert listed(writer, Filter(function="bill")) == ids[::2]
    assert listed(writer, Filter(function="BILL")) == []
    assert listed(writer, Filter(function="mail.[0]")) == [id_ for n, id_ in enumerate(ids) if n % 2 and n % lanes == 0]


def test_a_rare_function_is_found_behind_many_others(writer: Writer) -> None:
    """Filters hold in every slice, not only in the first."""
    writer.append(*[cast(b"many") for _ in range(reading.SLICE + 1)])
    (rare,) = writer.append(cast(b"rare"), uid=9)
    assert listed(writer, Filter(function="rare")) == [rare]
    assert listed(writer, Filter(uid=9)) == [rare]
    assert listed(writer, Filter(uid=9), limit=1) == [rare]


def test_a_state_selects_what_is_in_it(writer: Writer) -> None:
    """Ready are those without a fate, deferred and dead those whose fate says so."""
    ready, deferred, dead = writer.append(cast(), cast(), cast(b"g"))
    writer.set_back(deferred, NOW + SECOND)
    writer.set_back(dead, None)
    found = {state: listed(writer, Filter(state=state)) for state in reading.STATES}
    assert found == {"ready": [ready], "deferred": [deferred], "held": [], "dead": [dead]}
    assert listed(writer, Filter(state="dead", function="f")) == []


def test_ages_errors_and_users_select(writer: Writer) -> None:
    """All conditions given hold at once; a part of an error matches whatever its case, and nothing else in it."""
    (old,) = writer.append(cast(), at=NOW - 100 * SECOND)
    (new,) = writer.append(cast(), uid=8)
    writer.set_back(old, None, "Timeout at 50% of x_y")
    assert listed(writer, Filter(older_than=50.0)) == [old]
    assert listed(writer, Filter(newer_than=50.0)) == [new]
    assert listed(writer, Filter(older_than=50.0, newer_than=200.0)) == [old]
    assert listed(writer, Filter(older_than=50.0, uid=8)) == []
    assert listed(writer, Filter(error="TIMEOUT")) == listed(writer, Filter(error="50% of x_")) == [old]
    assert listed(writer, Filter(error="50_")) == []


def test_a_reader_that_pauses_pins_no_wal(writer: Writer) -> None:
    """Between two slices no transaction is open: the writer's checkpoint is not blocked by who lists slowly."""
    ids = writer.append(*[cast() for _ in range(3 * reading.SLICE)])
    slow = reading.backlog(writer.path, Filter(), None, NOW)
    assert next(slow)["id"] == ids[0]
    writer.retire(ids[-1])
    assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert [row["id"] for row in slow] == ids[1:-1]


@pytest.mark.parametrize("wanted", [Filter(), Filter(function="f"), Filter(uid=7)], ids=str)
def test_a_list_ends_however_fast_casts_come(writer: Writer, wanted: Filter) -> None:
    """What was accepted after it began is not in it."""
    ids = writer.append(*[cast() for _ in range(2 * reading.SLICE)])
    rows = []
    for row in reading.backlog(writer.path, wanted, None, NOW):
        if not len(rows) % reading.SLICE:
            writer.append(*[cast() for _ in range(reading.SLICE)])
        rows.append(row["id"])
        assert len(rows) < 9 * reading.SLICE
    assert rows == ids


LISTING = """
import sys
from pathlib import Path
from relay.spool import reading

def resident():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])

for number, _ in enumerate(reading.backlog(Path(sys.argv[1]), reading.Filter(), None, 0)):
    if number == 20000:
        before = resident()
print(number, resident() - before)
"""


def test_a_long_list_takes_no_more_memory_than_a_short_one(writer: Writer) -> None:
    """Once its cache is full who lists grows no more, though each slice asks by another statement."""
    ids = [writer.append(*[cast() for _ in range(1000)]) for _ in range(60)]
    told = subprocess.run([sys.executable, "-c", LISTING, str(writer.path)], capture_output=True, text=True, check=True)
    number, grown_kib = map(int, told.stdout.split())
    assert number == 1000 * len(ids) - 1
    assert grown_kib < 3072


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
    assert listed(writer) == ids


def test_draining_is_read(writer: Writer) -> None:
    """A drain survives in the spool, and a reader sees it."""
    writer.execute("INSERT INTO meta (name, value) VALUES ('draining', 1)")
    assert reading.counts(writer.path).draining is True


def test_no_spool_is_said_and_none_is_made(tmp_path: Path) -> None:
    """A path without a spool is SpoolMissing, names the path, and is still nothing afterwards."""
    path = tmp_path / "spool.db"
    for read in (lambda: reading.counts(path), lambda: list(reading.backlog(path, Filter(), None, NOW))):
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


def test_damage_met_on_the_way_is_an_error(writer: Writer) -> None:
    """A database that breaks in the middle of a listing ends it with SpoolUnusable, not with sqlite3's error."""
    writer.append(*[cast() for _ in range(reading.SLICE + 1)])
    casts = reading.backlog(writer.path, Filter(), None, NOW)
    next(casts)
    writer.execute("DROP VIEW backlog")
    with pytest.raises(SpoolUnusable, match="backlog"):
        list(casts)
