"""The history of casts that are done: what is in it, what it costs the retiring of casts (nothing), and its bounds."""

from __future__ import annotations

from typing import Any

import pytest

from relay.spool import history
from relay.spool.changes import Kept
from relay.spool.checking import check
from relay.spool.repairing import repair
from relay.spool.showing import show
from tests.unit.spool.writing import NOW, Writer, cast, setback

SECOND = 1_000_000


def kept(id_: int, done_at: int = NOW + 3 * SECOND, attempts: int = 1, failures: int = 0, lane: int = 1) -> Kept:
    """What the history is told: a cast that was sent a second before it was done."""
    return id_, lane, attempts, failures, done_at - SECOND, done_at, "server:4730"


def shown(writer: Writer, name: object) -> dict[str, Any] | None:
    """A cast, seen ten seconds after NOW."""
    return show(writer.path, str(name), NOW + 10 * SECOND, payload=True)


def done(writer: Writer, *ids: int, most: int = 100, at: int = NOW + 3 * SECOND) -> None:
    """These ready casts of a byte are done, one after the other."""
    writer.store([(id_, 1, 1, False, 0) for id_ in ids], kept=[kept(id_, at + id_ - ids[0]) for id_ in ids], most=most)


def rows(writer: Writer) -> list[int]:
    """The ids in the history."""
    return [row[0] for row in writer.rows("SELECT id FROM done ORDER BY id")]  # type: ignore[misc]


def test_a_cast_that_is_done_is_told_of(writer: Writer) -> None:
    """By id, handle and unique: whose it was, when it was accepted, sent and done, and where; its payload is gone."""
    (id_,) = writer.accept(cast(b"mail.send", b"payload", b"u1"))
    writer.store([(id_, 1, 7, False, 0)], kept=[kept(id_)])
    for name in (id_, f"H:host:{id_}", "u1"):
        found = shown(writer, name)
        assert found is not None
        assert (found["id"], found["state"], found["function"], found["unique"]) == (id_, "done", "mail.send", "u1")
        assert (found["bytes"], found["attempts"], found["failures"], found["uid"]) == (7, 1, 0, 1)
        assert (found["accepted_at"], found["since"]) == (NOW / 1e6, NOW / 1e6 + 3)
        assert "payload" not in found
        (attempt,) = found["history"]
        assert attempt == {
            "number": 1,
            "began_at": NOW / 1e6 + 2,
            "waited_seconds": 2.0,
            "seconds": 1.0,
            "upstream": "server:4730",
            "reason": "done",
            "error": "",
        }
    writer.check_counts()


def test_without_a_history_nothing_is_kept(writer: Writer) -> None:
    """Off is off: no row, no attempts, and the cast is nowhere."""
    (id_,) = writer.accept(cast())
    writer.store(setbacks=[setback(id_, 1, NOW, log=1)])
    writer.store([(id_, 1, 1, True, 0)])
    assert (rows(writer), writer.rows("SELECT * FROM attempts"), shown(writer, id_)) == ([], [], None)


def test_its_attempts_stay_with_it_and_go_with_it(writer: Writer) -> None:
    """A cast that failed before it was done: each attempt with its waiting and its time; they go when it goes."""
    (id_,) = writer.accept(cast())
    writer.store(setbacks=[setback(id_, 1, NOW + SECOND, log=1)])
    writer.store([(id_, 1, 1, True, 0)], kept=[kept(id_, attempts=2, failures=1)])
    found = shown(writer, id_)
    assert found is not None
    assert [(one["number"], one["reason"], one["waited_seconds"]) for one in found["history"]] == [
        (1, "work_fail", 0.0),
        (2, "done", pytest.approx(2 - 5e-6)),
    ]
    assert (found["attempts"], found["failures"]) == (2, 1)
    writer.check_counts()
    assert list(check(writer.path)) == []
    writer.begin()
    assert writer.transitions.history.drop(NOW + 60 * SECOND, 100) == 1
    writer.commit()
    assert writer.rows("SELECT * FROM attempts") == []
    writer.check_counts()


def test_one_that_was_done_late_says_by_which_attempt(writer: Writer) -> None:
    """An attempt that was given up and completed after all: its own number stands twice, as failed and as done."""
    (id_,) = writer.accept(cast())
    writer.store(setbacks=[setback(id_, 1, NOW + SECOND, log=1)])
    late = (id_, 1, 1, 0, NOW, NOW + 9 * SECOND, "server:4730")

    def retire() -> None:
        writer.transitions.history.keep([late], 100)
        writer.transitions.retire_late([id_])

    writer.write(retire)
    found = shown(writer, id_)
    assert found is not None
    assert [(one["number"], one["reason"], one["seconds"]) for one in found["history"]] == [
        (1, "work_fail", 5e-6),
        (1, "done", 9.0),
    ]
    assert found["history"][1]["waited_seconds"] is None
    assert (found["attempts"], found["failures"]) == (1, 1)
    writer.check_counts()


def test_what_lives_or_is_dead_comes_before_what_is_done(writer: Writer) -> None:
    """Of several casts with a unique the living one is shown, then a dead one, else the newest done; all are named."""
    (first,) = writer.accept(cast(unique=b"u"))
    done(writer, first)
    (second,) = writer.accept(cast(unique=b"u"))
    found = shown(writer, "u")
    assert found is not None
    assert (found["id"], found["state"]) == (second, "ready")
    done(writer, second)
    found = shown(writer, "u")
    assert found is not None
    assert (found["id"], found["state"], found["others"]) == (second, "done", [first])


def test_a_rollback_keeps_nothing(writer: Writer) -> None:
    """Retired and remembered are one: after a ROLLBACK the cast is there, and the history is as it was."""
    (id_,) = writer.accept(cast())
    writer.begin()
    writer.transitions.history.keep([kept(id_)], 100)
    writer.transitions.store([(id_, 1, 1, False, 0)], [], NOW)
    writer.rollback()
    assert rows(writer) == []
    writer.check_counts()
    done(writer, id_)
    assert rows(writer) == [id_]
    writer.reopen()
    writer.check_counts()


def test_no_more_than_so_many_are_kept(writer: Writer) -> None:
    """The oldest go in the transaction that brings new ones, and a limit that was lowered is reached in slices."""
    ids = writer.accept(*[cast() for _ in range(20)])
    done(writer, *ids[:8], most=10)
    assert rows(writer) == ids[:8]
    done(writer, *ids[8:], most=10, at=NOW + 9 * SECOND)
    assert rows(writer) == ids[10:]
    writer.check_counts()
    writer.begin()
    assert writer.transitions.history.drop(0, 4) == 6
    writer.commit()
    assert rows(writer) == ids[16:]


def test_a_slice_is_all_that_goes_at_a_time(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is too old, a transaction removes SLICE, and one that writes SLICE more than it wrote."""
    monkeypatch.setattr(history, "SLICE", 3)
    ids = writer.accept(*[cast() for _ in range(12)])
    done(writer, *ids[:10])
    writer.begin()
    assert writer.transitions.history.drop(NOW + 60 * SECOND, 100) == 3
    writer.commit()
    assert rows(writer) == ids[3:10]
    done(writer, ids[10], most=1, at=NOW + 9 * SECOND)
    assert rows(writer) == [*ids[7:10], ids[10]]
    writer.check_counts()


def test_by_age_the_oldest_go(writer: Writer) -> None:
    """Those that were done before the moment, and no others."""
    ids = writer.accept(*[cast() for _ in range(4)])
    done(writer, *ids, at=NOW)
    writer.begin()
    assert writer.transitions.history.drop(NOW + 2, 100) == 2
    writer.commit()
    assert rows(writer) == ids[2:]


def test_a_rotten_row_does_not_keep_a_cast_from_being_retired(writer: Writer) -> None:
    """A column that holds nonsense is no reason for a COMMIT to fail: the cast is retired, and not told of."""
    (id_,) = writer.accept(cast())
    writer.conn.execute("PRAGMA writable_schema = ON")
    text = writer.rows("SELECT sql FROM sqlite_master WHERE name = 'casts'")[0][0]
    changed = str(text).replace("accepted_at INTEGER NOT NULL", "accepted_at INTEGER")
    writer.conn.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'casts'", (changed,))
    writer.reopen()
    writer.conn.execute("UPDATE casts SET accepted_at = NULL")
    done(writer, id_)
    assert rows(writer) == []
    assert writer.rows("SELECT id FROM casts") == []
    writer.check_counts()


def test_a_repair_brings_the_history_over(writer: Writer) -> None:
    """With its attempts; and the spool that was built is sound."""
    first, second = writer.accept(cast(), cast())
    writer.store(setbacks=[setback(first, 1, NOW, log=1), setback(second, 1, NOW, log=1)])
    writer.store([(first, 1, 1, True, 0)], kept=[kept(first, attempts=2)])
    writer.close()
    repair(writer.path, NOW, 0)
    writer._open()
    assert list(check(writer.path)) == []
    assert rows(writer) == [first]
    assert writer.rows("SELECT id, number FROM attempts") == [(first, 1), (second, 1)]
