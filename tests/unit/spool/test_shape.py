"""The shape of a backlog: each cast once, under its function and its age."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.cli import shape as cli
from relay.control import answers
from relay.errors import SpoolUnusable
from relay.spool import reading, shape
from relay.spool.reading import Filter
from tests.unit.spool.tables import NOW, SECOND, Writer, cast
from tests.unit.spool.test_listing import backlog

UPPER = shape.bounds(5, 4)


def counted(path: Path, wanted: Filter | None = None, upper: tuple[float, ...] = UPPER) -> dict[bytes, list[int]]:
    """Casts by function."""
    return shape.shape(path, wanted or Filter(), upper, NOW).functions


def test_bounds_double_and_the_last_bucket_has_none() -> None:
    """Four buckets have three bounds; one has none; what is no bucket is refused."""
    assert shape.bounds(5, 4) == (5, 10, 20)
    assert shape.bounds(5, 1) == ()
    for first, buckets in ((0, 4), (-1, 4), (float("nan"), 4), (float("inf"), 4), (5, 0), (5, shape.MOST_BUCKETS + 1)):
        with pytest.raises(ValueError, match="no buckets"):
            shape.bounds(first, buckets)


def test_a_cast_counts_in_the_first_bound_that_holds_its_age(tmp_path: Path) -> None:
    """What equals a bound is in it, one from the future in the first, the very old in the last; priorities are one."""
    writer = Writer(tmp_path / "spool" / "spool.db")
    for age in (-3, 0, 5, 5.1, 10, 19, 20.5, 9999):
        writer.append(cast(b"f"), at=NOW - round(age * SECOND))
    writer.append(cast(b"f", priority=0), cast(b"g"), at=NOW - 7 * SECOND)
    assert counted(writer.path) == {b"f": [3, 3, 1, 2], b"g": [0, 1, 0, 0]}
    assert counted(writer.path, upper=()) == {b"f": [9], b"g": [1]}


def test_more_than_a_slice_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices meet without a gap and without an overlap, with a filter and without, over gaps in the ids."""
    monkeypatch.setattr(shape, "SLICE", 7)
    writer = Writer(tmp_path / "spool" / "spool.db")
    ids = writer.append(*[cast(b"f%d" % (n % 3)) for n in range(100)])
    writer.execute("DELETE FROM casts WHERE id % 5 = 0")
    left = sum(id_ % 5 != 0 for id_ in ids)
    assert sum(map(sum, counted(writer.path).values())) == left
    assert sum(map(sum, counted(writer.path, Filter(uid=7)).values())) == left
    assert sum(map(sum, counted(writer.path, Filter(function="f1")).values())) == sum(
        id_ % 5 != 0 and n % 3 == 1 for n, id_ in enumerate(ids)
    )
    assert counted(writer.path, Filter(uid=8)) == {}


def test_what_comes_while_a_slice_is_counted_pushes_no_other_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice is as of one moment: its casts are counted, whichever of their neighbours died meanwhile."""
    monkeypatch.setattr(shape, "SLICE", 7)
    writer = Writer(tmp_path / "spool" / "spool.db")
    late, *ids = writer.append(cast(b"late"), *[cast() for _ in range(19)])
    for id_ in ids:
        writer.set_back(id_, None)
    connect, alive = reading.connect, [late]

    def watched(path: Path) -> sqlite3.Connection:
        conn = connect(path)
        # told of a statement before it reads
        conn.set_trace_callback(lambda text: writer.set_back(alive.pop(), None) if "IN (" in text and alive else None)
        return conn

    monkeypatch.setattr(reading, "connect", watched)
    assert sum(counted(writer.path, Filter(state="dead"))[b"f"]) == len(ids)
    assert not alive


@pytest.mark.parametrize("wanted", [Filter(), Filter(uid=7)], ids=["all", "some"])
def test_a_count_ends_however_fast_casts_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Filter) -> None:
    """What was accepted after it began is not in it; how far it is can be seen after each slice."""
    monkeypatch.setattr(shape, "SLICE", 2)
    writer = Writer(tmp_path / "spool" / "spool.db")
    writer.append(*[cast()] * 5)
    seen = []
    for found in shape.counting(writer.path, wanted, (), NOW):
        seen.append(sum(map(sum, found.functions.values())))
        writer.append(*[cast()] * 5)
        assert len(seen) < 9
    assert seen == [0, 2, 4, 5]


FILTERS = st.builds(
    Filter,
    function=st.sampled_from([None, "f", "*", "g?"]),
    state=st.sampled_from([None, "ready", "deferred", "dead"]),
    older_than=st.sampled_from([None, 6.0]),
    error=st.sampled_from([None, "broke"]),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=FILTERS)
def test_what_is_counted_is_what_backlog_lists(mixed: Writer, wanted: Filter) -> None:
    """Under any filter: as many of each function as the backlog has."""
    listed: dict[bytes, int] = {}
    for one in backlog(mixed.path, wanted, None, NOW):
        function = one["function"].encode()
        listed[function] = listed.get(function, 0) + 1
    assert {function: sum(casts) for function, casts in counted(mixed.path, wanted).items()} == listed


@pytest.fixture
def mixed(tmp_path: Path) -> Writer:
    """A spool with casts of three functions, ages and states."""
    writer = Writer(tmp_path / "spool" / "spool.db")
    for age in (1, 7, 30):
        ids = writer.append(cast(b"f"), cast(b"g1"), cast(b"h"), at=NOW - age * SECOND)
        writer.set_back(ids[0], NOW + SECOND, "it broke")
        writer.set_back(ids[1], None, "no")
    return writer


def test_no_reader_stays_in_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two slices the WAL can be cut short: a long count pins nothing."""
    monkeypatch.setattr(shape, "SLICE", 2)
    writer = Writer(tmp_path / "spool" / "spool.db")
    writer.append(*[cast()] * 9)
    with reading.connect(writer.path) as conn:
        walk = shape._all(conn, "0", reading.last_id(conn))
        next(walk)
        assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        assert sum([casts for found in walk for _, _, casts in found]) == 7
    conn.close()


def test_a_spool_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk's is SpoolUnusable with the path."""
    writer = Writer(tmp_path / "spool" / "spool.db")
    writer.append(cast())

    def broken(conn: sqlite3.Connection, bucket: str, _end: int) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(shape, "_all", broken)
    with pytest.raises(SpoolUnusable, match=r"spool\.db: disk I/O error"):
        counted(writer.path)


def test_the_command_line_knows_the_same_numbers() -> None:
    """relay-cli's copies are the spool's."""
    assert (cli.FIRST_S, cli.BUCKETS, cli.MOST_BUCKETS) == (shape.FIRST_S, shape.BUCKETS, shape.MOST_BUCKETS)


@pytest.mark.parametrize(
    ("first", "names"),
    [
        (5.0, ["5s", "10s", "20s", "20s+"]),
        (300.0, ["5m", "10m", "20m", "20m+"]),
        (0.5, ["500ms", "1000ms", "2000ms", "2000ms+"]),
        (90.0, ["90s", "180s", "360s", "360s+"]),
        (86400.0, ["1d", "2d", "4d", "4d+"]),
    ],
)
def test_columns_are_named_by_their_bounds(first: float, names: list[str]) -> None:
    """In the largest unit that the first is a whole number of."""
    assert cli.column_names(list(shape.bounds(first, 4))) == ["function", "T", *names]


def test_functions_with_most_casts_come_first() -> None:
    """Then by name; bytes that are no UTF-8 are shown."""
    found = shape.Shape((5,), {b"b": [1, 0], b"a": [0, 1], b"c\xff": [2, 3]})
    assert [(one["function"], one["total"]) for one in answers.shape(found)["functions"]] == [
        ("c\\xff", 5),
        ("a", 1),
        ("b", 1),
    ]
