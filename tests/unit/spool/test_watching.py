"""What is told of a spool seen from outside."""

import os
from pathlib import Path

import pytest

from relay.spool import quarantine, watching
from relay.spool.watching import NAMED, Sights, look


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that could be a spool, with a short log."""
    path = tmp_path / "spool.db"
    path.touch()
    (tmp_path / "spool.db-wal").touch()
    return path


def test_a_spool_that_is_well_has_nothing_to_tell(path: Path) -> None:
    """Nothing, and nothing of a spool that is not there."""
    assert look(path) == Sights()
    assert look(path.parent / "nowhere" / "spool.db") == Sights()


def test_quarantines_are_told_until_they_are_moved_away(path: Path) -> None:
    """Each with its place and its reason, the newest few of many; moved away, it is no longer told."""
    directories = []
    for number in range(NAMED + 2):
        path.touch()
        directories.append(quarantine.set_aside(path, f"reason {number}", 1000.0 + number))
    told = look(path).quarantined
    assert told is not None
    assert f"{directories[-1]}: reason {NAMED + 1}" in told
    assert "reason 1" not in told
    assert told.endswith("; and 2 older ones")
    for directory in directories:
        directory.rename(path.parent / f"seen-{directory.name}")
    assert look(path).quarantined is None


def test_a_long_log_is_told_with_its_reader(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond LONG_LOG the sentence has its size, and who reads."""
    monkeypatch.setattr(watching, "readers", lambda _: "pid 12 (sqlite3)")
    os.truncate(f"{path}-wal", watching.LONG_LOG)
    assert look(path).long_log is None
    os.truncate(f"{path}-wal", watching.LONG_LOG + (1 << 20))
    assert "65 MiB: a reader (pid 12 (sqlite3))" in str(look(path).long_log)
