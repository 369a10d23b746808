"""The chores of the file: a slice at a time, on a real spool."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.spool import upkeep as module
from relay.spool.upkeep import MOST_PAGES, PASS_S, REST_S, SLICE_S, Upkeep, fitting
from tests.unit.spool.writing import Writer, cast

#: a moment at which everything is due
LATER = 1e9


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A spool, which the tests damage."""
    writer = Writer(tmp_path / "spool" / "spool.db")
    yield writer
    writer.close()


def pragma(writer: Writer, name: str) -> int:
    """What SQLite says."""
    found: int = writer.conn.execute(f"PRAGMA {name}").fetchone()[0]
    return found


def drained(writer: Writer, size: int) -> None:
    """A backlog of so many bytes came and went."""
    for _ in range(0, size, 10_000_000):
        ids = writer.accept(*[cast(payload=bytes(100_000))] * 100)
        writer.store(done=[(id_, 1, 100_000, False, 0) for id_ in ids])


def scribble(path: Path, ids: list[int]) -> list[int]:
    """Make one page of the table one that SQLite calls corrupt; the ids of the casts on it."""
    content = bytearray(path.read_bytes())
    leaves = [at for at in range(0, len(content), 4096) if content[at] == 0x0D and b"MARK" in content[at : at + 4096]]
    content[leaves[len(leaves) // 2]] = 0x77
    path.write_bytes(content)
    conn = sqlite3.connect(path)
    lost = []
    for id_ in ids:
        try:
            conn.execute("SELECT payload FROM casts WHERE id = ?", (id_,)).fetchone()
        except sqlite3.DatabaseError:
            lost.append(id_)
    conn.close()
    assert 0 < len(lost) < len(ids)
    return lost


@pytest.mark.parametrize(
    ("pages", "took", "next_pages"),
    [(32, 0.0, 64), (32, SLICE_S, 32), (32, 3 * SLICE_S, 16), (1, 1.0, 1), (MOST_PAGES, 0.0, MOST_PAGES)],
)
def test_slices_fit_themselves_to_the_disk(pages: int, took: float, next_pages: int) -> None:
    """Fast ones double, slow ones halve, and none is empty or without bound."""
    assert fitting(pages, took) == next_pages


def test_the_file_shrinks_in_slices(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free pages go back to the disk, many slices after one another, down to what is kept for the next casts."""
    monkeypatch.setattr(module, "SPARE_BYTES", 1024 * 1024)
    drained(writer, 10_000_000)
    upkeep, before = Upkeep(writer.conn, writer.path), pragma(writer, "page_count")
    counts = []
    for number in range(1000):
        upkeep.step(LATER + number)
        counts.append(pragma(writer, "page_count"))
    assert pragma(writer, "freelist_count") * 4096 <= 1024 * 1024
    assert pragma(writer, "freelist_count") * 4096 > 512 * 1024
    steps = [a - b for a, b in zip([before, *counts], counts, strict=False) if a != b]
    assert len(steps) > 2
    assert max(steps) <= MOST_PAGES
    writer.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert writer.path.stat().st_size < 4_000_000
    writer.check_counts()


def test_a_few_free_pages_are_left_alone(writer: Writer) -> None:
    """What the next casts will use again is not worth moving pages."""
    drained(writer, 10_000_000)
    before = pragma(writer, "page_count")
    Upkeep(writer.conn, writer.path).step(LATER)
    assert pragma(writer, "page_count") == before


def test_a_long_log_is_cut_short_once_its_reader_has_gone(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the reader is there nothing waits for it; afterwards the log is emptied."""
    monkeypatch.setattr(module, "LOG_BYTES", 10_000)
    log = Path(f"{writer.path}-wal")
    writer.accept(cast())
    reader = sqlite3.connect(f"file:{writer.path}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM casts").fetchall()
    writer.accept(cast())
    upkeep = Upkeep(writer.conn, writer.path)
    upkeep.step(LATER)
    assert log.stat().st_size > 0
    reader.close()
    upkeep.step(LATER + 10)
    assert log.stat().st_size == 0
    assert pragma(writer, "busy_timeout") == 1000


def test_rotten_casts_are_found_where_they_lie(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each cast is read once a pass, a few at a time; a flipped bit is told, once, and again only if more rots."""
    monkeypatch.setattr(module, "VERIFY_CASTS", 7)
    ids = writer.accept(*[cast(payload=b"%d" % number) for number in range(50)])
    upkeep = Upkeep(writer.conn, writer.path)

    def whole_pass(begin: float) -> None:
        for number in range(20):
            upkeep.step(begin + number)

    whole_pass(LATER)
    assert upkeep.rotten == ()
    writer.conn.execute("UPDATE casts SET payload = x'00' WHERE id IN (?, ?)", (ids[3], ids[44]))
    for days in (2, 4):
        whole_pass(LATER + days * PASS_S)
        assert upkeep.rotten == (ids[3], ids[44])
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert writer.rows("SELECT count(*) FROM fates") == [(0,)]
    writer.store(done=[(ids[3], 1, 1, False, 0), (ids[44], 1, 1, False, 0)])
    whole_pass(LATER + 6 * PASS_S)
    assert upkeep.rotten == ()


def test_a_cast_that_was_set_aside_as_damaged_is_no_news(writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    """What is dead as damaged, by a take or a repair, is not told of again: nothing is left to be done."""
    [known, fresh] = writer.accept(cast(payload=b"known"), cast(payload=b"fresh"))
    writer.conn.execute("UPDATE casts SET payload = x'00'")
    writer.conn.execute(
        "INSERT INTO fates (id, lane, state, since, attempts, failures, reason, error)"
        " SELECT id, id, 'dead', 0, 0, 0, 'damaged', '' FROM casts WHERE id = ?",
        (known,),
    )
    upkeep = Upkeep(writer.conn, writer.path)
    for number in range(5):
        upkeep.step(LATER + number)
    assert upkeep.rotten == (fresh,)
    assert len(caplog.records) == 1


def test_large_casts_are_read_one_at_a_time(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice reads VERIFY_BYTES at most, but for one cast that is larger."""
    monkeypatch.setattr(module, "VERIFY_BYTES", 250_000)
    writer.accept(*[cast(payload=bytes(100_000))] * 4, cast(payload=bytes(900_000)), cast())
    seen: list[int] = []
    real = module.sound
    monkeypatch.setattr(module, "sound", lambda row: seen.append(len(row[8])) or real(row))  # type: ignore[func-returns-value]
    upkeep = Upkeep(writer.conn, writer.path)
    read = []
    for number in range(4):
        upkeep.step(LATER + number)
        read.append(sum(seen))
        seen.clear()
    assert read == [200_000, 200_000, 900_000, 1]


def test_an_error_is_said_and_the_chores_rest(writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    """A page that cannot be read ends nothing: it is logged, and tried again after REST_S."""
    writer.conn.execute("ALTER TABLE casts RENAME TO elsewhere")
    upkeep = Upkeep(writer.conn, writer.path)
    for moment in (0.0, 1.0, REST_S - 1, REST_S, REST_S + 1):
        upkeep.step(LATER + moment)
    assert len(caplog.records) == 2
    writer.conn.execute("ALTER TABLE elsewhere RENAME TO casts")


def test_nothing_is_done_before_it_is_due(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wake-up that came too early looks at nothing."""
    upkeep = Upkeep(writer.conn, writer.path)
    monkeypatch.setattr(os, "stat", lambda _: pytest.fail("it looked"))
    upkeep.step(0.0)


def test_nothing_is_given_back_while_a_reader_keeps_the_log_long(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a slice moves goes into the log: it would grow to the file's size. Without the reader it goes on."""
    monkeypatch.setattr(module, "SPARE_BYTES", 1024 * 1024)
    monkeypatch.setattr(module, "LOG_BYTES", 1024 * 1024)
    log = Path(f"{writer.path}-wal")
    early = writer.accept(*[cast(payload=bytes(100_000))] * 200)
    writer.accept(*[cast(payload=bytes(100_000))] * 200)
    writer.store(done=[(id_, 1, 100_000, False, 0) for id_ in early])
    writer.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    reader = sqlite3.connect(f"file:{writer.path}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM casts").fetchall()
    upkeep = Upkeep(writer.conn, writer.path)
    for number in range(200):
        upkeep.step(LATER + number)
    # the last slice may begin just below the bound, and moves MOST_PAGES at most
    assert log.stat().st_size < 1024 * 1024 + 3 * MOST_PAGES * 4096 / 2
    free = pragma(writer, "freelist_count") * 4096
    assert free > 2 * 1024 * 1024
    reader.close()
    for number in range(200, 1000):
        upkeep.step(LATER + number)
    assert pragma(writer, "freelist_count") * 4096 <= 1024 * 1024


def test_a_page_that_cannot_be_read_ends_no_pass(writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    """The casts on it are told as damaged, with those elsewhere that are; it is no failure of the chores."""
    ids = writer.accept(*[cast(payload=b"MARK" + bytes(1500))] * 400)
    last = ids[-1]
    writer.conn.execute("UPDATE casts SET accepted_at = 1 WHERE id = ?", (last,))
    writer.close()
    lost = scribble(writer.path, ids)
    writer._open()
    upkeep = Upkeep(writer.conn, writer.path)
    for number in range(100):
        upkeep.step(LATER + number)
    assert set(upkeep.rotten) == {*lost, last}
    assert [record.getMessage()[:29] for record in caplog.records] == ["casts that lie in the spool a"]
