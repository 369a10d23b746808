"""How much more the spool may hold: the operator's limits, the disk's, and what stands behind them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from relay.spool import room as module
from relay.spool.ballast import BALLAST_BYTES, Ballast
from relay.spool.room import BACKSTOP_BYTES, OVERHEAD, PAGE_BYTES, Room
from tests.unit.limits import unlimited
from tests.unit.spool.writing import Writer, cast

PLENTY = 1 << 40


class Disk(NamedTuple):
    """What statvfs says, of a disk with pages of a byte."""

    f_bavail: int
    f_frsize: int = 1


class Stage:
    """A room over a real spool, on a disk whose free space is a number."""

    def __init__(self, path: Path) -> None:
        self.writer = Writer(path)
        self.free = PLENTY
        self.ballast = Ballast(path)
        self.room = self.made()

    def made(self, **limits: int) -> Room:
        """A room with these limits."""
        path = self.writer.path
        self.room = Room(self.writer.conn, path, unlimited(path, **limits), self.ballast)
        return self.room

    def most_pages(self) -> int:
        """SQLite's own limit."""
        found: int = self.writer.conn.execute("PRAGMA max_page_count").fetchone()[0]
        return found


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage whose disk is looked at each time."""
    one = Stage(tmp_path / "spool" / "spool.db")
    monkeypatch.setattr(module, "SPACE_S", 0)
    monkeypatch.setattr(os, "statvfs", lambda _: Disk(one.free))
    yield one
    one.writer.close()


def test_without_limits_there_is_room(stage: Stage) -> None:
    """Nothing refuses, and the database may grow as far as SQLite goes."""
    closed, casts, size = stage.room.left(1000, 1000)
    assert closed is None
    assert min(casts, size) > PLENTY
    assert stage.most_pages() > PLENTY // PAGE_BYTES


def test_limits_leave_what_is_not_used(stage: Stage) -> None:
    """Casts and payload bytes that are kept count."""
    assert stage.made(max_casts=10, max_bytes=100).left(4, 30) == (None, 6, 70)


def test_pages_in_use_count_too(stage: Stage) -> None:
    """Many small casts fill more pages than their payloads say: max_bytes bounds those as well."""
    for _ in range(16):
        stage.writer.append(stage.writer.arrival([cast()] * 10_000))
    used = stage.writer.conn.execute("PRAGMA page_count").fetchone()[0] * PAGE_BYTES
    assert used > OVERHEAD + 1_000_000
    assert stage.made(max_bytes=1_000_000).left(160_000, 160_000)[2] < 0


def test_the_database_has_a_limit_of_its_own(stage: Stage) -> None:
    """It stands BACKSTOP_BYTES above max_bytes, and goes with it."""
    stage.made(max_bytes=1 << 30).left(0, 0)
    assert stage.most_pages() * PAGE_BYTES == (1 << 30) + BACKSTOP_BYTES
    stage.room.limit(unlimited(stage.writer.path))
    stage.room.left(0, 0)
    assert stage.most_pages() * PAGE_BYTES > PLENTY


def test_less_than_min_free_refuses(stage: Stage) -> None:
    """The disk is looked at again and again."""
    stage.made(min_free=1 << 30)
    assert stage.room.left(0, 0)[0] is None
    stage.free = (1 << 30) - 1
    assert stage.room.left(0, 0)[0] == "disk_full"
    stage.free = 1 << 30
    assert stage.room.left(0, 0)[0] is None


def test_a_full_disk_costs_the_ballast_and_casts_wait_for_it(stage: Stage) -> None:
    """Given up at SQLITE_FULL, it refuses casts until there is plenty again, whatever min_free says."""
    assert stage.room.left(0, 0)[0] is None
    assert stage.ballast.held
    stage.free = 0
    stage.room.filled(casts=True)
    assert not stage.ballast.held
    stage.free = BALLAST_BYTES
    assert stage.room.left(0, 0)[0] == "disk_full"
    stage.free = PLENTY
    assert stage.room.left(0, 0)[0] is None
    assert stage.ballast.held


@pytest.mark.parametrize("casts", [True, False])
def test_the_limit_of_the_database_gives_way_to_verdicts_only(stage: Stage, casts: bool) -> None:
    """With new casts in the batch it holds; what has to be stored lifts it. The ballast is for the disk."""
    stage.room.left(0, 0)
    (pages,) = stage.writer.conn.execute("PRAGMA page_count").fetchone()
    stage.writer.conn.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    stage.room.filled(casts=casts)
    assert stage.most_pages() == (pages if casts else pages + BACKSTOP_BYTES // PAGE_BYTES)
    assert stage.ballast.held


def test_a_disk_that_cannot_be_asked_is_full(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, not at each look."""

    def fail(_: object) -> Disk:
        raise OSError(5, "Input/output error")

    stage.made(min_free=1)
    assert stage.room.left(0, 0)[0] is None
    monkeypatch.setattr(os, "statvfs", fail)
    assert [stage.room.left(0, 0)[0] for _ in range(3)] == ["disk_full"] * 3
    assert len(caplog.records) == 1


@pytest.mark.parametrize("casts", [True, False])
def test_a_batch_that_did_not_fit_under_the_limit_is_told_from_a_full_disk(stage: Stage, casts: bool) -> None:
    """Rolled back, the database is smaller than its limit: verdicts lift it all the same, the ballast stays."""
    stage.made(max_bytes=1024 * 1024)
    stage.room.left(0, 0)
    most = stage.most_pages()
    (pages,) = stage.writer.conn.execute("PRAGMA page_count").fetchone()
    assert pages < most
    stage.room.filled(casts=casts)
    assert stage.most_pages() == (most if casts else most + BACKSTOP_BYTES // PAGE_BYTES)
    assert stage.ballast.held
    stage.free = 0
    stage.room.filled(casts=casts)
    assert not stage.ballast.held
