"""What a start must be able to read: whatever of it is rotten sets the spool aside, and ends no start."""

import sqlite3
from pathlib import Path

import pytest

from relay.spool import quarantine
from tests.unit.spool.writing import Writer, cast


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A spool with a cast, that was closed."""
    writer = Writer(tmp_path / "spool" / "spool.db")
    writer.accept(cast())
    writer.close()
    return writer.path


@pytest.mark.parametrize(
    "rot",
    [
        "UPDATE lanes SET bytes = 'x'",
        "UPDATE lanes SET last_id = x'00'",
        "UPDATE lanes SET function = 'f'",
        "UPDATE meta SET value = 'x'",
        "UPDATE spools SET spool_id = x'ff'",
        "UPDATE spools SET machine_id = CAST(x'ff' AS TEXT)",
        "INSERT INTO holds VALUES (CAST(x'ff' AS TEXT), NULL)",
        "INSERT INTO paused VALUES ('a', 'b')",
    ],
)
def test_a_value_of_another_kind_sets_the_spool_aside(path: Path, rot: str) -> None:
    """As a flipped bit makes it: what computes with it would end, at each start anew."""
    conn = sqlite3.connect(path)
    conn.execute(rot)
    conn.commit()
    conn.close()
    content = path.read_bytes()
    writer = Writer(path)
    assert writer.counts == {}
    ((directory, reason),) = quarantine.kept(path)
    assert "is not what it was" in reason
    assert (directory / path.name).read_bytes() == content
    writer.close()


@pytest.mark.parametrize("table", ["holds", "paused", "sqlite_autoindex_imports_1"])
def test_a_table_that_cannot_be_read_sets_the_spool_aside(path: Path, table: str) -> None:
    """Also where it is read only after the spool was opened."""
    conn = sqlite3.connect(path)
    (root,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    conn.close()
    content = bytearray(path.read_bytes())
    content[(root - 1) * 4096] = 0x77
    path.write_bytes(content)
    writer = Writer(path)
    assert len(quarantine.kept(path)) == 1
    writer.close()


def test_a_sound_spool_stays_where_it_is(path: Path) -> None:
    """With everything in it that there may be."""
    writer = Writer(path)
    writer.write(lambda: writer.transitions.holds.set("a*", None))
    writer.write(lambda: writer.transitions.holds.set("b*", 1))
    writer.write(lambda: writer.transitions.pause("a:1", True, 1))
    writer.write(lambda: writer.transitions.set_draining(True))
    writer.write(lambda: writer.transitions.set_steps("[[1, 2, 3, 4]]"))
    writer.write(lambda: writer.transitions.touch(1, rehearse=True))
    writer.reopen()
    assert quarantine.kept(path) == []
    assert writer.rows("SELECT count(*) FROM casts") == [(1,)]
    writer.close()
