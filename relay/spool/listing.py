"""The backlog as JSON Lines, made by SQLite itself: a list of a million casts costs seconds, and no thread but its own.

Promises: the order is that of the ids, which is the order of acceptance.  A cast retired between two slices is not
listed, nor is one that was accepted after the list began, so that it ends however fast callers cast; none is listed
twice.  A slice is as of one moment, and two statements of one step each, so that a reader that pauses, however long,
pins no WAL: what Python made row by row took five times as long, and had the interpreter to itself.  Where SQLite
cannot say what there is (a unique that is no text, a column that rotted, a spool of format 1) Python writes the slice,
as `reading.shown` has it.

When it fails: as `reading`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from relay.errors import SpoolUnusable
from relay.spool import reading
from relay.spool.reading import COLUMNS, SLICE, Filter

#: the columns that are not shown as the view has them
_SHOWN = {
    "function": "CAST(function AS TEXT)",
    "unique": "CAST(coalesce(\"unique\", '') AS TEXT)",
    "age_seconds": "CASE typeof(accepted_at) WHEN 'integer' THEN max(0, :now - accepted_at) ELSE 0 END / 1e6",
    "due_seconds": "CASE WHEN state = 'deferred' AND typeof(due_at) = 'integer' THEN max(0, due_at - :now) / 1e6 END",
    "last_error": "coalesce(last_error, '')",
}
_OBJECT = ", ".join([f"'{name}', {_SHOWN.get(name, name)}" for name in COLUMNS])
#: the last id of a slice, and those of its casts that a filter lets through
_LAST = "SELECT max(id) FROM ({source})"
_ROWS = "SELECT * FROM backlog WHERE id IN ({source}) AND id <= :seen{conditions} ORDER BY id LIMIT :left"
_LINES = f"SELECT count(*), group_concat(json_object({_OBJECT}), char(10)) FROM ({{rows}})"


class _Statements(NamedTuple):
    """What a list is read with."""

    last: str
    lines: str
    rows: str


def lines(path: Path, wanted: Filter, limit: int | None, now: int) -> Generator[bytes, None, None]:
    """The casts that `wanted` selects, oldest first, each a line; ages are seen from `now` (us).

    A slice at a time; one of which nothing was selected is empty.
    """
    with closing(reading.connect(path)) as conn:
        try:
            yield from _slices(conn, wanted, limit, now)
        except sqlite3.Error as error:
            raise SpoolUnusable(f"{path}: {error}") from None


def _slices(conn: sqlite3.Connection, wanted: Filter, limit: int | None, now: int) -> Generator[bytes, None, None]:
    given, source = wanted.given(), reading.source(conn, wanted)
    conditions = "".join(f" AND {condition}" for name, condition in reading.CONDITIONS.items() if name in given)
    rows = _ROWS.format(source=source, conditions=conditions)
    statements = _Statements(_LAST.format(source=source), _LINES.format(rows=rows), rows)
    end, left = reading.last_id(conn), limit
    parameters = {**given, "now": now, "slice": SLICE, "after": 0}
    while left != 0 and parameters["after"] < end:
        with conn:
            # what came between the two statements would push others out of the slice
            conn.execute("BEGIN")
            seen = conn.execute(statements.last, parameters).fetchone()[0]
            if seen is None:
                return
            most = SLICE if left is None else left
            casts, piece = _slice(conn, statements, {**parameters, "seen": min(seen, end), "left": most})
        yield piece
        left = None if left is None else left - casts
        parameters["after"] = seen


def _slice(conn: sqlite3.Connection, statements: _Statements, parameters: dict[str, Any]) -> tuple[int, bytes]:
    """How many casts, and their lines."""
    try:
        casts, text = conn.execute(statements.lines, parameters).fetchone()
    except sqlite3.OperationalError:
        # no text, or no value, or no column of this name; if it is the disk, the next statement says so as well
        return _by_hand(conn, statements, parameters)
    return casts, (text + "\n").encode() if casts else b""


def _by_hand(conn: sqlite3.Connection, statements: _Statements, parameters: dict[str, Any]) -> tuple[int, bytes]:
    """The same, row by row."""
    from sqlite_utils import Database

    # text that rotted is none any more
    conn.text_factory = reading.text
    try:
        found = Database(conn, execute_plugins=False).query(statements.rows, parameters)
        rows = [reading.shown(row, parameters["now"]) for row in found]
    finally:
        conn.text_factory = str
    return len(rows), b"".join([json.dumps(row).encode() + b"\n" for row in rows])
