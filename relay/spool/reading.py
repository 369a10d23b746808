"""Reading a spool beside its writer: the counts, and how casts are found and shown; the agent may be up or down.

Promises: the database is opened with `mode=ro`, never as immutable, so that what is read is what was
committed.  Every statement is short (SLICE casts at most, fetched whole) and stands in a transaction of its
own: a reader that pauses, however long, pins no WAL.

Never does: write, take the lock, or wait for the writer (in WAL mode nobody has to).

When it fails: SpoolMissing where there is no spool, SpoolForbidden where this user may not read it,
SpoolUnusable for a file that is none of ours, a newer format, or an error of the disk's.  Even a reader needs
write permission to the directory, because SQLite keeps the index of the WAL in a file there.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from relay.cast import LaneName
from relay.errors import SpoolUnusable
from relay.spool import schema
from relay.spool import statements as sql
from relay.spool.changes import Counts

#: the version of the library behind every spool
SQLITE_VERSION = sqlite3.sqlite_version
#: casts that one statement looks at
SLICE = 500
#: statements that a connection keeps prepared: one that names SLICE casts takes 60 KiB, and is never needed again
STATEMENTS = 4
#: up to so many lanes a listing by function walks each lane's own index; beyond it walks the casts
LANES_WALKED = 16

#: what a cast of the backlog shows, in this order
COLUMNS = (
    "id",
    "function",
    "unique",
    "priority",
    "state",
    "bytes",
    "age_seconds",
    "attempts",
    "failures",
    "due_seconds",
    "last_error",
    "uid",
    "reason",
)
#: states a cast on disk can be listed by
STATES = ("ready", "deferred", "held", "dead")

_LANES_LIKE = "SELECT number FROM lanes WHERE CAST(function AS TEXT) GLOB :function"
_FROM_LANE = "SELECT id FROM (SELECT id FROM casts WHERE lane = {} AND id > :after ORDER BY id LIMIT :slice)"
_FROM_FATES = "SELECT id FROM fates WHERE id > :after AND state = :state ORDER BY id LIMIT :slice"
_FROM_CASTS = "SELECT id FROM casts WHERE id > :after ORDER BY id LIMIT :slice"
#: the condition that each field of a filter stands for
CONDITIONS = {
    "function": "CAST(function AS TEXT) GLOB :function",
    "state": "state = :state",
    "older_than": "accepted_at <= :now - :older_than * 1000000",
    "newer_than": "accepted_at >= :now - :newer_than * 1000000",
    "uid": "uid = :uid",
    "error": "instr(lower(last_error), lower(:error)) > 0",
}
_LAST = "SELECT max(id) FROM casts"
_OLDEST = (
    "SELECT casts.id, casts.accepted_at FROM casts LEFT JOIN fates ON fates.id = casts.id"
    " WHERE casts.id >= ? AND coalesce(fates.state, 'ready') IN ('ready', 'deferred') ORDER BY casts.id LIMIT 1"
)


_HOLDS = (
    "SELECT pattern, until, (SELECT count(*) FROM fates WHERE state = 'held' AND held_by = 'new ' || pattern)"
    " FROM holds ORDER BY pattern"
)


class SpoolMissing(SpoolUnusable):
    """There is no spool where it was looked for."""


class SpoolForbidden(SpoolUnusable):
    """This user may not read the spool (77)."""

    exit_code = os.EX_NOPERM


@dataclass(frozen=True, slots=True)
class Filter:
    """Which casts: all conditions that are given hold.  Every verb that selects casts takes one.

    `function` is a glob, `error` a part of the last error, whatever its case; ages are in seconds.
    """

    function: str | None = None
    state: str | None = None
    older_than: float | None = None
    newer_than: float | None = None
    uid: int | None = None
    error: str | None = None

    def given(self) -> dict[str, Any]:
        """The conditions there are, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


class Oldest(NamedTuple):
    """A cast, and when it was accepted (microseconds since the epoch)."""

    id: int
    accepted_at: int


class Totals(NamedTuple):
    """What a spool says of itself while nobody writes it."""

    counts: Counts
    draining: bool
    oldest: Oldest | None
    bytes_on_disk: int
    lanes: dict[LaneName, Counts]


def counts(path: Path) -> Totals:
    """The sums over all lanes, and the rest of what `status` says with the agent down."""
    with closing(connect(path)) as conn:
        try:
            total, lanes = Counts(), {}
            for number, function, priority, *values in conn.execute(sql.LANES).fetchall():
                lanes[LaneName(number, function, priority)] = counts = Counts(values)
                total.add(counts)
            draining = conn.execute(sql.GET_META, ("draining",)).fetchone()
            # where nothing is to be executed it would be looked for among all dead ones
            found = conn.execute(_OLDEST, (0,)).fetchone() if total.ready + total.deferred else None
        except sqlite3.Error as error:
            raise SpoolUnusable(f"{path}: {error}") from None
    on_disk = sum(os.stat(f"{path}{end}").st_size for end in ("", "-wal") if Path(f"{path}{end}").exists())
    return Totals(total, bool(draining and draining[0]), _oldest(found), on_disk, lanes)


def paused(path: Path) -> set[str]:
    """The upstreams that are paused."""
    with closing(connect(path)) as conn:
        try:
            return {server for server, _ in conn.execute(sql.PAUSED).fetchall()}
        except sqlite3.Error as error:
            raise SpoolUnusable(f"{path}: {error}") from None


def oldest(path: Path, from_id: int) -> Oldest | None:
    """The oldest cast that is ready, deferred or in flight, among those with an id of `from_id` or more."""
    with closing(connect(path)) as conn:
        try:
            found = conn.execute(_OLDEST, (from_id,)).fetchone()
        except sqlite3.Error as error:
            raise SpoolUnusable(f"{path}: {error}") from None
    return _oldest(found)


def _oldest(found: tuple[int, object] | None) -> Oldest | None:
    """None, too, where rot took the moment: that cast's turn to be set aside will come."""
    return Oldest(found[0], found[1]) if found and isinstance(found[1], int) else None


def holds(path: Path) -> list[dict[str, Any]]:
    """The functions that are held for what is still to come: glob, until (Unix seconds or None), casts held by it."""
    with closing(connect(path)) as conn:
        try:
            found = conn.execute(_HOLDS).fetchall() if schema.version(conn) > 1 else []
        except sqlite3.Error as error:
            raise SpoolUnusable(f"{path}: {error}") from None
    return [
        {"function": pattern, "until": None if until is None else until / 1e6, "held": held}
        for pattern, until, held in found
    ]


def connect(path: Path) -> sqlite3.Connection:
    """Open for reading, and make sure that it is a spool of a format we know."""
    try:
        os.stat(path)
    except FileNotFoundError:
        raise SpoolMissing(f"there is no spool at {path}") from None
    except PermissionError:
        raise SpoolForbidden(f"{path}: this user may not read the spool") from None
    except OSError as error:
        raise SpoolUnusable(f"{path}: {error.strerror}") from None
    if not os.access(path, os.R_OK):
        raise SpoolForbidden(f"{path}: this user may not read the spool")
    conn: sqlite3.Connection | None = None
    try:
        # a generator may be carried on by another thread than began it, though never by two at once
        conn = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=5,
            check_same_thread=False,
            cached_statements=STATEMENTS,
        )
        found = schema.version(conn)
        if not found or conn.execute("SELECT count(*) FROM sqlite_master WHERE name = 'backlog'").fetchone()[0] != 1:
            raise SpoolUnusable(f"{path} is none of relay's spools")
        if found > schema.VERSION:
            raise SpoolUnusable(f"{path} has format {found}, made by a newer relay; this one knows {schema.VERSION}")
    except BaseException as error:
        if conn is not None:
            conn.close()
        if not isinstance(error, sqlite3.Error):
            raise
        raise _explained(path, error) from None
    return conn


def _explained(path: Path, error: sqlite3.Error) -> SpoolUnusable:
    """What an operator can do about an error that SQLite words in its own way."""
    if isinstance(error, sqlite3.OperationalError) and not os.access(path.parent, os.W_OK):
        return SpoolForbidden(
            f"{path}: {error}; reading a spool needs write permission to {path.parent} (run it as the agent's user)"
        )
    return SpoolUnusable(f"{path}: {error}")


def source(conn: sqlite3.Connection, wanted: Filter) -> str:
    """The statement for the next ids to look at; a rare function or state is found without a scan."""
    if wanted.state in ("deferred", "held", "dead"):
        return _FROM_FATES
    if wanted.function is None:
        return _FROM_CASTS
    lanes = [row[0] for row in conn.execute(_LANES_LIKE, {"function": wanted.function})]
    if len(lanes) > LANES_WALKED:
        return _FROM_CASTS
    parts = [_FROM_LANE.format(lane) for lane in lanes] or ["SELECT id FROM casts WHERE 0"]
    return f"{' UNION ALL '.join(parts)} ORDER BY id LIMIT :slice"


def last_id(conn: sqlite3.Connection) -> int:
    """The highest id in the spool, 0 where it is empty: what comes later has a higher one."""
    found: int | None = conn.execute(_LAST).fetchone()[0]
    return found or 0


def shown(row: dict[str, Any], now: int) -> dict[str, Any]:
    """A row of the view as it is shown: COLUMNS, in text and seconds."""
    due = row["due_at"] if row["state"] == "deferred" and isinstance(row["due_at"], int) else None
    fields_ = {
        **row,
        "function": text(row["function"]),
        "unique": text(row["unique"] or b""),
        "age_seconds": max(0, now - schema.number(row["accepted_at"], now)) / 1e6,
        "due_seconds": None if due is None else max(0, due - now) / 1e6,
        "last_error": row["last_error"] or "",
        # a spool of format 1 has no such column
        "reason": row.get("reason", ""),
    }
    # rot makes bytes of a text with one bit
    return {name: text(value) if isinstance(value := fields_[name], bytes) else value for name in COLUMNS}


def text(raw: object) -> str:
    """What was read as it is shown; bytes that are no UTF-8 are spelled."""
    if not isinstance(raw, bytes):
        return str(raw)
    return raw.decode("utf-8", "backslashreplace")
