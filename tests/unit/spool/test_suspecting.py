"""A spool is called broken when it is, at two looks, and never because a disk failed to read."""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.clock import Clock
from relay.spool import checking, suspecting
from relay.spool.suspecting import Suspicion, find
from tests.unit.spool.writing import NOW, Writer, cast, setback


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A spool that is in use, with casts of every kind."""
    writer = Writer(tmp_path / "spool" / "spool.db")
    ids = writer.accept(*[cast(payload=b"%d" % number, unique=b"u%d" % number) for number in range(50)])
    writer.store([(ids[0], 1, 1, False, 0)], [setback(ids[1], 1, NOW), setback(ids[2], 1, None)])
    yield writer
    writer.close()


def test_a_spool_that_is_sound_is_not_broken(writer: Writer) -> None:
    """Nor is one with a cast whose checksum does not fit: that is set aside alone."""
    assert find(writer.path) is None
    writer.conn.execute("UPDATE casts SET crc = crc + 1 WHERE id = (SELECT max(id) FROM casts)")
    assert find(writer.path) is None


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE lanes SET accepted = accepted + 1", "are counted"),
        ("UPDATE lanes SET dead = dead + 1", "are counted"),
        ("UPDATE fates SET id = 7 WHERE state = 'deferred'", "without a cast"),
        ("UPDATE fates SET due_at = NULL WHERE state = 'deferred'", "never due"),
        ("UPDATE fates SET scheduled = 9 WHERE state = 'deferred'", "never due"),
        ("UPDATE casts SET lane = 9 WHERE id = (SELECT max(id) FROM casts)", "no lane 9"),
    ],
)
def test_what_no_commit_mends_is_broken(writer: Writer, statement: str, words: str) -> None:
    """While the writer has it open."""
    writer.conn.execute(statement)
    found = find(writer.path)
    assert found is not None
    assert words in found
    # for the fixture's sake
    writer.conn.execute("DELETE FROM casts")


def test_a_disk_that_fails_to_read_is_no_damage(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found once is believed only if every byte can be read, and it is found again."""
    writer.conn.execute("UPDATE lanes SET accepted = accepted + 1")

    def fails(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(suspecting, "read_elsewhere", fails)
    with pytest.raises(OSError, match="Input/output"):
        find(writer.path)

    def passes(path: Path) -> None:
        writer.conn.execute("UPDATE lanes SET accepted = accepted - 1")

    monkeypatch.setattr(suspecting, "read_elsewhere", passes)
    assert find(writer.path) is None


def locks_of(writer: Writer) -> list[list[str]]:
    """The locks that this process has on the spool's files, as the kernel lists them."""
    inodes = {str(Path(f"{writer.path}{end}").stat().st_ino) for end in ("", "-wal", "-shm")}
    held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return sorted(line[1:] for line in held if line[4] == str(os.getpid()) and line[5].rpartition(":")[2] in inodes)


def test_a_look_leaves_the_writer_its_locks(writer: Writer) -> None:
    """Whoever closes a file of the database in the writer's process takes them: then others remove the log in use."""
    before = locks_of(writer)
    assert before
    writer.conn.execute("UPDATE lanes SET accepted = accepted + 1")
    assert find(writer.path) is not None
    assert locks_of(writer) == before


def test_what_cannot_be_read_elsewhere_is_an_error(tmp_path: Path) -> None:
    """With the words of whoever tried."""
    path = tmp_path / "spool.db"
    path.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        suspecting.read_elsewhere(path)


def test_a_look_is_of_one_moment(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Casts that are accepted while it lasts are not held against the counts of before."""
    pages = checking._pages

    def slowly(conn: sqlite3.Connection) -> Iterator[checking.Finding]:
        yield from pages(conn)
        writer.accept(cast(), cast())

    monkeypatch.setattr(checking, "_pages", slowly)
    assert find(writer.path) is None
    assert len(writer.take(1)) == 49


class Time(Clock):
    """A clock that is told what it says."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_signs_have_the_spool_looked_at_with_pauses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One look at a time; between two that find nothing ever longer; what is found is told."""
    looks: list[Path] = []
    findings: list[str | None] = [None, None, "broken"]

    def look(path: Path) -> str | None:
        looks.append(path)
        return findings[len(looks) - 1]

    monkeypatch.setattr(suspecting, "find", look)
    clock, told = Time(), list[str]()
    suspicion = Suspicion(tmp_path, clock)
    suspicion.on_broken = told.append

    async def signs_at(now: float) -> int:
        clock.now = now
        for _ in range(3):
            suspicion.suspect("a sign")
        if suspicion._look is not None:
            await suspicion._look
        return len(looks)

    async def life() -> None:
        assert await signs_at(1000) == 1
        assert await signs_at(1000 + suspecting.PAUSE_S - 0.1) == 1
        assert await signs_at(1000 + suspecting.PAUSE_S) == 2
        assert await signs_at(1000 + 2 * suspecting.PAUSE_S) == 2
        assert told == []
        assert await signs_at(1000 + 3 * suspecting.PAUSE_S) == 3
        assert told == ["broken"]

    asyncio.run(life())


def test_only_what_sqlite_said_is_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the errors that answers come to."""
    looks: list[Path] = []
    monkeypatch.setattr(suspecting, "find", looks.append)
    suspicion = Suspicion(tmp_path, Time())
    plain, behind = ValueError("no"), ValueError("malformed")
    behind.__context__ = sqlite3.DatabaseError()
    behind.__context__.sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    async def life() -> None:
        suspicion.hear(plain)
        assert suspicion._look is None
        suspicion.hear(behind)
        assert suspicion._look is not None
        await suspicion._look

    asyncio.run(life())
    assert looks == [tmp_path]
