"""What stands in a log: each flipped bit of a real one is noticed, and damage is told from what a crash leaves."""

import os
import sqlite3
from pathlib import Path

import pytest

from relay.spool import wal
from relay.spool.wal import State, inspect

FRAME = 4096 + 24


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database whose log holds five transactions, of two frames or more each."""
    path = tmp_path / "a.db"
    conn = sqlite3.connect(path, isolation_level=None)
    conn.executescript("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x);")
    for number in range(4):
        conn.execute("INSERT INTO t VALUES (?)", (bytes([number]) * 6000,))
    content = (tmp_path / "a.db-wal").read_bytes()
    conn.close()
    (tmp_path / "a.db-wal").write_bytes(content)
    return path


def log_of(path: Path) -> Path:
    """Where its log is."""
    return Path(f"{path}-wal")


def frames(path: Path) -> int:
    """How many frames there are."""
    return (log_of(path).stat().st_size - 32) // FRAME


def ends(path: Path) -> list[int]:
    """Which frames end a transaction, counted from 1."""
    content = log_of(path).read_bytes()
    return [n for n in range(1, frames(path) + 1) if any(content[32 + (n - 1) * FRAME + 4 :][:4])]


def flip(path: Path, at: int) -> None:
    """One bit of its log."""
    content = bytearray(log_of(path).read_bytes())
    content[at] ^= 1 << at % 8
    log_of(path).write_bytes(content)


def test_no_log_is_sound(tmp_path: Path) -> None:
    """Missing or empty, it holds nothing that could be lost."""
    assert inspect(tmp_path / "a.db") == (State.SOUND, 0, 0)
    (tmp_path / "a.db-wal").touch()
    assert inspect(tmp_path / "a.db") == (State.SOUND, 0, 0)


def test_a_whole_log_is_sound(path: Path) -> None:
    """Each frame is counted, up to the last COMMIT; SQLite reads as many."""
    assert inspect(path) == (State.SOUND, frames(path), 0)
    conn = sqlite3.connect(path)
    assert conn.execute("PRAGMA wal_checkpoint").fetchone()[1] == frames(path)
    conn.close()


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("at", [2, 6, 10, 14, 18, 22, 24, 2000, FRAME - 1])
def test_a_flip_is_noticed_wherever_it_is(
    path: Path, number: int, at: int, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page number, size, salts, checksum and content of a frame: damaged where promised frames follow; the same whether
    SQLite says how far it reads, or it is found out alone."""
    if alone:
        monkeypatch.setattr(wal, "_reached", lambda _: None)
    last = ends(path)[number - 1]
    flip(path, 32 + (last - 1) * FRAME + at)
    found = inspect(path)
    assert found.state == (State.DAMAGED if number < 5 else State.TORN)
    assert found.frames < last
    assert found.unread >= FRAME


@pytest.mark.parametrize("at", range(0, 32, 3))
def test_a_flip_in_the_header_is_noticed(path: Path, at: int) -> None:
    """SQLite ignores the whole log then; its frames say that there is one."""
    flip(path, at)
    assert inspect(path).state == State.DAMAGED


def test_a_transaction_that_did_not_end_is_sound(path: Path) -> None:
    """A kill in the middle of a COMMIT leaves good frames without an end, and half a frame: they are no promise."""
    first = ends(path)[0]
    os.truncate(log_of(path), 32 + (first + 1) * FRAME + 100)
    assert inspect(path) == (State.SOUND, first, 0)


def test_the_rest_of_a_failed_commit_is_torn(path: Path) -> None:
    """A COMMIT of which some frames never reached the disk is no damage: only the last transaction is touched."""
    before, last = ends(path)[-2:]
    assert last - before >= 2
    content = bytearray(log_of(path).read_bytes())
    content[32 + before * FRAME : 32 + (before + 1) * FRAME] = bytes(FRAME)
    log_of(path).write_bytes(content)
    assert inspect(path) == (State.TORN, before, (last - before) * FRAME)


def test_frames_from_before_the_log_began_anew_are_nothing(path: Path) -> None:
    """After a checkpoint the log is written from its beginning under other salts: what is behind is old."""
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA wal_checkpoint(PASSIVE)")
    conn.execute("INSERT INTO t VALUES (1)")
    assert frames(path) > 5
    found = inspect(path)
    assert (found.state, found.unread) == (State.SOUND, 0)
    assert 0 < found.frames < 5
    conn.close()


def test_two_failed_commits_behind_one_another_are_torn(path: Path) -> None:
    """What two COMMITs that failed left behind a third does not follow from one another, and is no damage."""
    old = log_of(path).read_bytes()
    last, frames_there = ends(path)[0], frames(path)
    # the leftovers: the second and the fourth transaction, out of their row
    second = old[32 + last * FRAME : 32 + ends(path)[1] * FRAME]
    fourth = old[32 + ends(path)[2] * FRAME : 32 + ends(path)[3] * FRAME]
    log_of(path).write_bytes(old[: 32 + last * FRAME] + second[FRAME:] + fourth)
    assert frames(path) < frames_there
    assert inspect(path).state == State.TORN


@pytest.fixture
def summed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that are summed, a number each time."""
    sizes: list[int] = []
    real = wal._sum

    def counted(data: bytes, first: int, second: int, order: str) -> tuple[int, int]:
        sizes.append(len(data))
        return real(data, first, second, order)

    monkeypatch.setattr(wal, "_sum", counted)
    return sizes


def test_what_sqlite_reads_is_not_summed_again(path: Path, summed: list[int]) -> None:
    """Of a sound log the header alone; of a damaged one only from the last good COMMIT until damage is sure."""
    assert inspect(path).state == State.SOUND
    assert summed == [24]
    summed.clear()
    first, second = ends(path)[:2]
    flip(path, 32 + first * FRAME + 100)
    found = inspect(path)
    assert (found.state, found.frames) == (State.DAMAGED, first)
    assert found.unread == (frames(path) - first) * FRAME
    # twice each, with the sum that is stored before it and the one that would have been right
    assert sum(size == 4096 for size in summed) <= 2 * (second - first + 1)


def test_a_log_that_sqlite_cannot_read_is_summed_here(
    path: Path, monkeypatch: pytest.MonkeyPatch, summed: list[int]
) -> None:
    """Beside a database that was cut short, say."""
    monkeypatch.setattr(wal, "_reached", lambda _: None)
    assert inspect(path) == (State.SOUND, frames(path), 0)
    assert sum(size == 4096 for size in summed) == frames(path)


def test_only_so_much_is_summed(path: Path, monkeypatch: pytest.MonkeyPatch, summed: list[int]) -> None:
    """A log that a reader let grow without end, and SQLite cannot read, does not make the start wait."""
    monkeypatch.setattr(wal, "LIMIT", 2 * 4096)
    monkeypatch.setattr(wal, "_reached", lambda _: None)
    flip(path, 32 + 4 * FRAME + 100)
    assert inspect(path).state == State.SOUND
    assert sum(size == 4096 for size in summed) == 2


def test_a_log_is_written_once_more_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, each byte where it was, and synced when it is; a log that is missing or empty costs nothing."""
    content, synced = log_of(path).read_bytes(), list[int]()
    writes = _writes()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(_writes() - writes))
    wal.rewrite(path)
    assert log_of(path).read_bytes() == content
    assert len(synced) == 1
    assert synced[0] >= len(content)
    log_of(path).write_bytes(b"")
    wal.rewrite(path)
    log_of(path).unlink()
    wal.rewrite(path)
    assert len(synced) == 1
    assert not log_of(path).exists()


def _writes() -> int:
    """Bytes that this process has written so far."""
    (count,) = (line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("wchar"))
    return int(count.partition(":")[2])
