"""The shape of a backlog: how many casts of each function have which age, as qshape counts mail.

Promises: what is counted is what `listing` would list under the same filter, each cast once.  It is counted
inside of SQLite, SLICE casts a statement, each in a read transaction of its own, so that neither the writer nor the WAL
waits for it, and in memory for one row a function, however many casts there are.

When it fails: as `reading`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from relay.errors import SpoolUnusable
from relay.spool import reading
from relay.spool import statements as sql
from relay.spool.reading import Filter

#: casts that one statement counts
SLICE = 10_000
#: what a shape has unless it is said, and the most buckets that it may have, the one without end included
FIRST_S, BUCKETS, MOST_BUCKETS = 5.0, 10, 32
#: the longest first bound
LONGEST_S = 86400.0

#: a slice of casts by lane and bucket
_ALL = (
    "SELECT lane, {bucket} AS bucket, count(*), max(id) FROM"
    " (SELECT id, lane, accepted_at FROM casts WHERE id > :after AND id <= :end ORDER BY id LIMIT :slice)"
    " GROUP BY lane, bucket"
)
#: the last id of a slice, and those of its casts that a filter lets through
_LAST = "SELECT max(id) FROM ({source})"
_SOME = (
    "SELECT function, {bucket} AS bucket, count(*) FROM backlog WHERE id IN ({source}) AND id <= :end AND {conditions}"
    " GROUP BY function, bucket"
)


class Shape(NamedTuple):
    """Upper bounds of the buckets in seconds, and casts by function: one number a bound, and one beyond the last."""

    bounds: tuple[float, ...]
    functions: dict[bytes, list[int]]


def bounds(first: float, buckets: int) -> tuple[float, ...]:
    """Doubling upper bounds from `first` seconds on, for so many buckets, the last of which has none.

    ValueError unless `first` is over 0 and there are 1 to MOST_BUCKETS of them.
    """
    if not 0 < first <= LONGEST_S or not 1 <= buckets <= MOST_BUCKETS:
        raise ValueError(f"no buckets: {first}, {buckets}")
    return tuple(first * 2**n for n in range(buckets - 1))


def shape(path: Path, wanted: Filter, upper: Sequence[float], now: int) -> Shape:
    """Count what `wanted` selects; ages are seen from `now` (us)."""
    *_, found = counting(path, wanted, upper, now)
    return found


def counting(path: Path, wanted: Filter, upper: Sequence[float], now: int) -> Generator[Shape, None, None]:
    """The same as far as it has come, after each slice; the last one is whole."""
    functions: dict[bytes, list[int]] = {}
    found = Shape(tuple(upper), functions)
    cases = " ".join([f"WHEN accepted_at >= {now - round(bound * 1e6)} THEN {at}" for at, bound in enumerate(upper)])
    bucket = f"CASE {cases} ELSE {len(upper)} END" if upper else "0"
    with closing(reading.connect(path)) as conn:
        try:
            end = reading.last_id(conn)
            yield found
            for counted in _some(conn, wanted, bucket, now, end) if wanted.given() else _all(conn, bucket, end):
                for function, at, casts in counted:
                    functions.setdefault(function, [0] * (len(upper) + 1))[at] += casts
                yield found
        except sqlite3.Error as error:
            raise SpoolUnusable(f"{path}: {error}") from None


def _all(conn: sqlite3.Connection, bucket: str, end: int) -> Iterator[list[tuple[bytes, int, int]]]:
    """(function, bucket, casts) slice by slice: one pass over the table, the payloads passed over."""
    statement, after = _ALL.format(bucket=bucket), 0
    functions: dict[int, bytes] = {}
    while rows := conn.execute(statement, {"after": after, "end": end, "slice": SLICE}).fetchall():
        if any(lane not in functions for lane, *_ in rows):
            functions = {number: function for number, function, *_ in conn.execute(sql.LANES)}
        after = max(last for *_, last in rows)
        yield [(functions[lane], at, casts) for lane, at, casts, _ in rows]


def _some(
    conn: sqlite3.Connection, wanted: Filter, bucket: str, now: int, end: int
) -> Iterator[list[tuple[bytes, int, int]]]:
    """The same of what a filter lets through; a rare function or state is found without a scan."""
    given, source = wanted.given(), reading.source(conn, wanted)
    conditions = " AND ".join([condition for name, condition in reading.CONDITIONS.items() if name in given])
    last, some = _LAST.format(source=source), _SOME.format(bucket=bucket, source=source, conditions=conditions)
    parameters = {**given, "now": now, "slice": SLICE, "after": 0, "end": end}
    while parameters["after"] < end:
        with conn:
            # what came between the two statements would push others out of the slice
            conn.execute("BEGIN")
            seen = conn.execute(last, parameters).fetchone()[0]
            if seen is None:
                return
            counted = conn.execute(some, parameters).fetchall()
        yield counted
        parameters["after"] = seen
