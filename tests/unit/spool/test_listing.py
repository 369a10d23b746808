"""The list of casts: which, in which order, and that it is the same JSON whoever writes it."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.errors import SpoolUnusable
from relay.spool import listing, reading
from relay.spool.opening import close_spool
from relay.spool.reading import Filter
from tests.unit.spool.tables import NOW, SECOND, Writer, cast


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """An empty spool."""
    made = Writer(tmp_path / "spool" / "spool.db")
    yield made
    close_spool(made.opened)


def backlog(path: Path, wanted: Filter, limit: int | None, now: int) -> Iterator[dict[str, Any]]:
    """The casts that are listed."""
    for piece in listing.lines(path, wanted, limit, now):
        yield from map(json.loads, piece.splitlines())


def listed(writer: Writer, wanted: Filter | None = None, limit: int | None = None, now: int = NOW) -> list[int]:
    """The ids that are listed."""
    return [row["id"] for row in backlog(writer.path, wanted or Filter(), limit, now)]


def test_a_cast_is_shown_with_every_column(writer: Writer) -> None:
    """The columns of the contract in its order, in text and seconds; what is absent is null or empty."""
    (ready,) = writer.append(cast(b"f", b"four", b"u\xff", 0), uid=None)
    (deferred,) = writer.append(cast(b"g", b"", b"", 2))
    writer.set_back(deferred, NOW + 3 * SECOND, "worker said no")
    first, second = backlog(writer.path, Filter(), None, NOW + SECOND)
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
    slow = backlog(writer.path, Filter(), None, NOW)
    assert next(slow)["id"] == ids[0]
    writer.retire(ids[-1])
    assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert [row["id"] for row in slow] == ids[1:-1]


@pytest.mark.parametrize("wanted", [Filter(), Filter(function="f"), Filter(uid=7)], ids=str)
def test_a_list_ends_however_fast_casts_come(writer: Writer, wanted: Filter) -> None:
    """What was accepted after it began is not in it."""
    ids = writer.append(*[cast() for _ in range(2 * reading.SLICE + 7)])
    rows = []
    for row in backlog(writer.path, wanted, None, NOW):
        if not len(rows) % reading.SLICE:
            writer.append(*[cast() for _ in range(reading.SLICE)])
        rows.append(row["id"])
        assert len(rows) < 9 * reading.SLICE
    assert rows == ids


@pytest.mark.parametrize("wanted", [Filter(), Filter(state="dead")], ids=str)
def test_what_changes_while_a_slice_is_read_moves_no_other(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, wanted: Filter
) -> None:
    """It is as of one moment: what goes has none listed twice, and what comes pushes none out."""
    late, gone, *ids = writer.append(*[cast() for _ in range(2 * reading.SLICE)])
    for id_ in (gone, *ids):
        writer.set_back(id_, None)
    read = listing._slice

    def between(*arguments: Any) -> tuple[int, bytes]:
        monkeypatch.setattr(listing, "_slice", read)
        writer.set_back(late, None)
        writer.retire(gone)
        return read(*arguments)

    monkeypatch.setattr(listing, "_slice", between)
    assert [id_ for id_ in listed(writer, wanted) if id_ not in (late, gone)] == ids


LISTING = """
import sys
from pathlib import Path
from relay.spool import listing, reading

def resident():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])

for number, _ in enumerate(listing.lines(Path(sys.argv[1]), reading.Filter(), None, 0)):
    if number == 40:
        before = resident()
print(number, resident() - before)
"""


def test_a_long_list_takes_no_more_memory_than_a_short_one(writer: Writer) -> None:
    """Once its cache is full who lists grows no more."""
    ids = [writer.append(*[cast() for _ in range(1000)]) for _ in range(60)]
    told = subprocess.run([sys.executable, "-c", LISTING, str(writer.path)], capture_output=True, text=True, check=True)
    number, grown_kib = map(int, told.stdout.split())
    assert number == 2 * len(ids) - 1
    assert grown_kib < 3072


def test_damage_met_on_the_way_is_an_error(writer: Writer) -> None:
    """A database that breaks in the middle of a listing ends it with SpoolUnusable, not with sqlite3's error."""
    writer.append(*[cast() for _ in range(reading.SLICE + 1)])
    casts = backlog(writer.path, Filter(), None, NOW)
    next(casts)
    writer.execute("DROP VIEW backlog")
    with pytest.raises(SpoolUnusable, match="backlog"):
        list(casts)


TEXTS = st.text(max_size=8) | st.sampled_from(["a\x00b", 'say "no"\\', "{},\n", "\x7f\u2028ü"])
COLUMNS = st.tuples(
    st.binary(max_size=8) | TEXTS.map(str.encode),
    TEXTS,
    st.sampled_from([0, 1, SECOND // 3, 10**9 * SECOND]),
    st.sampled_from([None, -SECOND, 1, 12_345_678]),
    st.sampled_from([None, 0, 2**32 - 1]),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(casts=st.lists(COLUMNS, max_size=4))
def test_whoever_writes_it_it_says_the_same(writer: Writer, casts: list[Any]) -> None:
    """Any unique, error, age, uid and moment: what SQLite writes is what `reading.shown` says of the row."""
    writer.execute("DELETE FROM casts")
    writer.execute("DELETE FROM fates")
    for unique, error, age, due_in, uid in casts:
        (id_,) = writer.append(cast(unique=unique), uid=uid, at=NOW - age)
        if due_in is not None or error:
            writer.set_back(id_, None if due_in is None else NOW + due_in, error)
    conn = sqlite3.connect(writer.path)
    conn.row_factory = sqlite3.Row
    rows = conn.execute("SELECT * FROM backlog ORDER BY id").fetchall()
    conn.close()
    assert list(backlog(writer.path, Filter(), None, NOW)) == [reading.shown(dict(row), NOW) for row in rows]


def test_what_rotted_is_listed(writer: Writer) -> None:
    """A column of another kind than it was is shown as it is, and does not take the others with it."""
    ids = writer.append(*[cast(unique=b"u")] * 3)
    writer.execute("UPDATE casts SET accepted_at = 'yesterday' WHERE id = ?", (ids[0],))
    writer.set_back(ids[1], NOW)
    writer.execute("UPDATE fates SET due_at = x'ff', attempts = 'many' WHERE id = ?", (ids[1],))
    first, second, _ = backlog(writer.path, Filter(), None, NOW + SECOND)
    assert (first["age_seconds"], second["due_seconds"], second["attempts"]) == (0.0, None, "many")


@pytest.mark.parametrize(("error", "shown"), [("x'6e6f'", "no"), ("CAST(x'6eff' AS TEXT)", "n\\xff")])
def test_an_error_that_rotted_is_listed(writer: Writer, error: str, shown: str) -> None:
    """One bit makes bytes of a text, another one text that is no UTF-8; the slices beside it are SQLite's."""
    ids = writer.append(*[cast(unique="ü".encode()) for _ in range(2 * reading.SLICE)])
    writer.set_back(ids[0], NOW)
    writer.execute(f"UPDATE fates SET error = {error}")
    first, *others = backlog(writer.path, Filter(), None, NOW)
    assert first["last_error"] == shown
    assert [row["id"] for row in others] == ids[1:]
    assert {row["unique"] for row in others} == {"ü"}


def test_a_spool_of_format_1_is_listed(tmp_path: Path) -> None:
    """One that no agent of today has opened: its casts have no reason, and are there."""
    shutil.copy(Path(__file__).parents[2] / "formats" / "v1.db", tmp_path / "spool.db")
    casts = list(backlog(tmp_path / "spool.db", Filter(), None, NOW))
    assert len(casts) > 2
    assert {cast["reason"] for cast in casts} == {""}
    assert list(casts[0]) == list(reading.COLUMNS)
    assert list(backlog(tmp_path / "spool.db", Filter(), 1, NOW)) == casts[:1]


def test_a_slice_of_which_nothing_is_meant_is_empty(writer: Writer) -> None:
    """So that whoever lists has a turn after each, however rare what it looks for is."""
    writer.append(*[cast() for _ in range(3 * reading.SLICE)])
    assert list(listing.lines(writer.path, Filter(uid=9), None, NOW)) == [b"", b"", b""]


def test_a_list_is_not_written_row_by_row(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ordinary casts never pass through Python: it would take five times as long."""
    ids = writer.append(*[cast(unique=b"u%d" % n) for n in range(reading.SLICE)])
    writer.set_back(ids[0], NOW, "no")
    writer.set_back(ids[1], None, "pas trouvé")
    monkeypatch.setattr(reading, "shown", None)
    assert [row["id"] for row in backlog(writer.path, Filter(), None, NOW)] == ids
