"""A repair brings over what can be read, prefers a repeat to a loss, and keeps what was there."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.errors import SpoolUnusable
from relay.spool import quarantine
from relay.spool.checking import check
from relay.spool.repairing import repair, resume
from tests.unit.spool.writing import NOW, Writer, cast, setback


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A spool with 2,000 casts, a few of them with a fate; closed."""
    writer = Writer(tmp_path / "spool" / "spool.db")
    ids = writer.accept(*[cast(payload=b"%05d" % number * 200, unique=b"u%d" % number) for number in range(2000)])
    writer.store(
        [(ids[0], 1, 1000, False, 0)],
        [setback(ids[1], 1, NOW, log=1), setback(ids[2], 1, None), setback(ids[3], 1, NOW)],
    )
    writer.write(lambda: writer.transitions.set_draining(True))
    writer.close()
    closed = writer.opened
    yield writer
    if writer.opened is not closed:
        writer.close()


def changed(writer: Writer, *statements: str) -> None:
    """The spool after somebody else has been at it."""
    conn = sqlite3.connect(writer.path, isolation_level=None)
    for statement in statements:
        conn.execute(statement)
    conn.close()


def reopened(writer: Writer) -> None:
    """The spool as an agent finds it now: sound, and its counts are right."""
    assert list(check(writer.path)) == []
    writer._open()
    writer.check_counts()


def test_a_sound_spool_comes_over_whole(writer: Writer) -> None:
    """Every cast, fate, attempt, count, id and word of it is the same; the old one is kept beside it."""
    queries = ["SELECT * FROM casts", "SELECT * FROM fates", "SELECT * FROM attempts", "SELECT * FROM lanes",
               "SELECT * FROM spools", "SELECT value FROM meta WHERE name = 'draining'"]  # fmt: skip
    before, content = [writer.rows(query) for query in queries], writer.path.read_bytes()
    done = repair(writer.path, NOW, 0)
    assert (done.casts, done.damaged, done.lost) == (1999, 0, ())
    assert [writer.rows(query) for query in queries] == before
    assert (done.kept / "spool.db").read_bytes() == content
    assert [directory for directory, _ in quarantine.kept(writer.path)] == [done.kept]
    assert writer.path.stat().st_mode & 0o777 == 0o600
    reopened(writer)


def test_a_damaged_cast_is_dead_and_kept(writer: Writer) -> None:
    """What is left of it can be looked at; it is not executed, and nothing else is touched."""
    ids = [row[0] for row in writer.rows("SELECT id FROM casts ORDER BY id")]
    changed(writer, f"UPDATE casts SET payload = x'00' WHERE id = {ids[1000]}",
            f"UPDATE casts SET payload = 'text', uid = 'no' WHERE id = {ids[1001]}")  # fmt: skip
    done = repair(writer.path, NOW, 0)
    assert (done.casts, done.damaged) == (1999, 2)
    conn = sqlite3.connect(writer.path)
    dead = "SELECT id FROM fates WHERE state = 'dead' AND reason = 'damaged' ORDER BY id"
    assert [row[0] for row in conn.execute(dead)] == ids[1000:1002]
    conn.close()
    writer._open()
    assert len(writer.take(1, casts=5000)) == 1999 - 2 - 3
    writer.check_counts()


def test_counts_are_made_from_what_is_there(writer: Writer) -> None:
    """accepted is again the sum, whatever stood in the lanes; orphans are gone."""
    changed(writer, "UPDATE lanes SET accepted = 3, completed = -4, bytes = 1, deferred = 9, held = 9, dead = 9",
            "INSERT INTO attempts SELECT 5, number, began_at, took, upstream, reason, error FROM attempts",
            "UPDATE fates SET id = 5 WHERE state = 'dead'")  # fmt: skip
    repair(writer.path, NOW, 0)
    reopened(writer)
    assert len(writer.take(1, casts=5000)) == 1999 - 2


def test_a_cast_whose_function_is_lost_is_dead(writer: Writer) -> None:
    """It has a lane again, whose name says so; it is not executed under a name that is none."""
    changed(writer, "DELETE FROM lanes")
    done = repair(writer.path, NOW, 0)
    assert (done.casts, done.damaged) == (1999, 1999)
    reopened(writer)
    assert [name.function for name in writer.counts] == [b"lost-lane-1"]
    assert writer.take(1) == []


def test_ids_go_on_above_all_before(writer: Writer) -> None:
    """Also where the lanes have forgotten, as long as the lock's file knows."""
    changed(writer, "UPDATE lanes SET last_id = 0", "DELETE FROM casts", "DELETE FROM fates", "DELETE FROM attempts")
    least = 1 << 60
    repair(writer.path, NOW, least)
    reopened(writer)
    assert writer.accept(cast())[0] > least


@pytest.mark.parametrize("name", ["casts", "fates", "attempts", "meta"])
def test_a_page_that_is_nonsense_costs_what_is_on_it(writer: Writer, name: str) -> None:
    """A lost fate makes a cast ready, a lost page of casts only those on it, and afterwards all is sound."""
    content = bytearray(writer.path.read_bytes())
    if name == "casts":
        at = content.index(b"00900" * 200) // 4096 * 4096
    else:
        conn = sqlite3.connect(writer.path)
        (page,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        conn.close()
        at = (page - 1) * 4096
    content[at : at + 4096] = b"\xee" * 4096
    writer.path.write_bytes(content)
    assert [one for one in check(writer.path) if one.check == "pages"]
    done = repair(writer.path, NOW, 0)
    assert done.casts + len(done.lost) == 1999
    assert (len(done.lost) > 0) == (name == "casts")
    assert len(done.lost) < 8
    reopened(writer)


def test_what_is_in_the_log_comes_over(writer: Writer, tmp_path: Path) -> None:
    """A spool that a crash left has its last casts in the log."""
    writer._open()
    writer.accept(cast(payload=b"in the log"))
    other = tmp_path / "other" / "spool.db"
    other.parent.mkdir()
    for end in ("", "-wal"):
        Path(f"{other}{end}").write_bytes(Path(f"{writer.path}{end}").read_bytes())
    done = repair(other, NOW, 0)
    assert done.casts == 2000
    assert {one.name for one in done.kept.iterdir()} >= {"spool.db", "spool.db-wal"}


def test_where_nothing_can_be_read_nothing_is_changed(tmp_path: Path) -> None:
    """The file stays where it is."""
    path = tmp_path / "spool.db"
    path.write_bytes(b"no database " * 100)
    with pytest.raises(SpoolUnusable, match="not a database"):
        repair(path, NOW, 0)
    assert [one.name for one in tmp_path.iterdir()] == ["spool.db"]


def test_a_cast_of_which_only_the_id_is_left_is_dead_and_empty(writer: Writer) -> None:
    """So that what was lost is counted and named, under its function."""
    content = bytearray(writer.path.read_bytes())
    at = content.index(b"00900" * 200) // 4096 * 4096
    content[at : at + 4096] = b"\xee" * 4096
    writer.path.write_bytes(content)
    done = repair(writer.path, NOW, 0)
    assert done.lost
    found = writer.rows("SELECT casts.id, length(payload), state, reason, casts.lane FROM casts JOIN fates USING (id)"
                        " WHERE error = 'it cannot be read'")  # fmt: skip
    assert found == [(id_, 0, "dead", "damaged", 1) for id_ in done.lost]
    reopened(writer)


@pytest.mark.parametrize("id_", ["-5", "1 << 62", "9223372036854775807"])
def test_an_id_that_rotted_neither_hides_nor_raises_the_others(writer: Writer, id_: str) -> None:
    """Each of the others comes over, it is dead under an id of its own, and ids go on."""
    ids = [row[0] for row in writer.rows("SELECT id FROM casts ORDER BY id")]
    changed(writer, f"UPDATE casts SET id = {id_} WHERE id = {ids[1000]}")
    done = repair(writer.path, NOW, 0)
    assert (done.casts, done.damaged, done.lost) == (1999, 1, ())
    reopened(writer)
    assert writer.accept(cast()) == [ids[-1] + 2]


def test_numbers_that_are_none_come_over_as_some(writer: Writer) -> None:
    """Counts, and the moments of casts that wait for one."""
    changed(writer, "UPDATE lanes SET completed = 'x', failures = 1.5",
            "UPDATE fates SET due_at = NULL WHERE state = 'deferred'")  # fmt: skip
    repair(writer.path, NOW, 0)
    reopened(writer)
    assert len(writer.transitions.take_due(1, NOW, NOW, 10, 1 << 30).casts) == 2


def test_a_repair_is_gone_on_with(writer: Writer) -> None:
    """A kill behind the setting aside: what was built takes the place; before it, it is of no use."""
    made = writer.path.with_name("spool.db.repaired")
    content = writer.path.read_bytes()
    made.write_bytes(b"another one")
    assert not resume(writer.path)
    assert not made.exists()
    assert writer.path.read_bytes() == content
    writer.path.rename(made)
    assert resume(writer.path)
    assert not made.exists()
    assert not resume(writer.path)
    reopened(writer)


class Killed(BaseException):
    """What a kill is to the code that it falls upon."""


def killed_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """A kill falls upon the step-th of the calls that names and syncs are made of."""
    calls = iter(range(1000))

    def killing(real: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object, **named: object) -> object:
            if next(calls) == step:
                raise Killed
            return real(*given, **named)

        return call

    for owner, name in ((Path, "rename"), (Path, "mkdir"), (os, "fsync")):
        patch.setattr(owner, name, killing(getattr(owner, name)))


def test_a_repair_may_be_killed_at_any_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever of its names and syncs is the last: the next start has every cast, and one spool, which is sound."""
    kills = step = 0
    while kills == step:
        path = tmp_path / f"{step}" / "spool.db"
        writer = Writer(path)
        writer.accept(*[cast(payload=b"%d" % number) for number in range(20)])
        writer.close()
        with monkeypatch.context() as patch:
            killed_at(step, patch)
            try:
                repair(path, NOW, 0)
            except Killed:
                kills += 1
        step += 1
        again = Writer(path)
        assert len(again.take(1)) == 20, f"step {step}"
        assert len(quarantine.kept(path)) <= 1
        assert not list(path.parent.glob("*.repaired*"))
        again.close()
        assert list(check(path)) == []
    assert kills > 8
