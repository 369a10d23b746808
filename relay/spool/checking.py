"""The full check of a spool that no agent has open: every page, every cast, every count, and the log beside it.

Reads only, and everything, as of one moment: a million casts take some seconds, and a spool that is sound yields
nothing.  What it looks
at: the log's frames; SQLite's own integrity check; each cast's checksum, and that its function is known; fates and
attempts without a cast, or of another lane's; each lane's counts against what is there; ids that would come again.

A cast that is sound by its checksum is sound whatever SQLite says of the pages around it, so `repairing` builds on the
same reading.  Raises SpoolUnusable for a file that cannot be opened at all, or of a newer format.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from relay.cast import COLUMNS, sound
from relay.errors import SpoolUnusable
from relay.spool import schema, wal

#: findings of SQLite's integrity check that are told
PAGES_TOLD = 100

_NAMES = ",".join([f'"{name}"' for name in COLUMNS])
_CASTS = f"SELECT {_NAMES} FROM casts NOT INDEXED"
_ROW = f"SELECT {_NAMES} FROM casts WHERE id = ?"
#: each way to the ids: along the table and along each of its indexes, from either end
_IDS = (
    "SELECT id, NULL FROM casts NOT INDEXED ORDER BY id",
    "SELECT id, NULL FROM casts NOT INDEXED ORDER BY id DESC",
    "SELECT id, lane FROM casts INDEXED BY casts_by_lane ORDER BY lane, id",
    "SELECT id, lane FROM casts INDEXED BY casts_by_lane ORDER BY lane DESC, id DESC",
)
_ORPHANS = "SELECT id FROM {} WHERE id NOT IN (SELECT id FROM casts)"
#: of the history, which format 1 has not, attempts are kept too
_DONE = "SELECT 1 FROM sqlite_master WHERE name = 'done'"
_NOT_DONE = " AND id NOT IN (SELECT id FROM done)"
_NEVER_DUE = (
    "SELECT id FROM fates WHERE state = 'deferred' AND (typeof(due_at) <> 'integer' OR scheduled NOT IN (0, 1))"
)
_STRAYS = "SELECT fates.id FROM fates JOIN casts ON casts.id = fates.id WHERE casts.lane <> fates.lane"
#: casts that were found damaged before, and set aside: they are no news
_BURIED = "SELECT id FROM fates WHERE state = 'dead' AND reason = 'damaged'"
_STATES = "SELECT lane, state, count(*) FROM fates GROUP BY lane, state"
_COUNTED = ("kept", "bytes", "deferred", "held", "dead")
_NAMES_INDEXED = "SELECT number, function FROM lanes INDEXED BY sqlite_autoindex_lanes_1"
_LANES = "SELECT number, function, accepted - completed - purged, bytes, deferred, held, dead, last_id FROM lanes"


class Finding(NamedTuple):
    """What is wrong: which part of the check says so, where, and in which way."""

    check: str
    where: str
    text: str


class Unreadable(SpoolUnusable):
    """SQLite can make nothing of the file."""


class Lane(NamedTuple):
    """A lane as it stands on disk: its function, what it counts (by _COUNTED), and the last id given out in it."""

    function: bytes
    counted: dict[str, int]
    last_id: int


def connect(path: Path) -> sqlite3.Connection:
    """A connection that reads, whatever state the file is in; SpoolUnusable where not even that is possible."""
    if not path.is_file():
        raise SpoolUnusable(f"there is no spool at {path}")
    conn = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, timeout=5)
    try:
        schema.check(conn)
        if not schema.version(conn):
            raise SpoolUnusable(f"{path} is none of relay's spools")
    except sqlite3.Error as error:
        conn.close()
        raise Unreadable(f"{path}: {error}") from None
    except SpoolUnusable:
        conn.close()
        raise
    return conn


def check(path: Path) -> Iterator[Finding]:
    """Everything that is wrong with the spool at `path`."""
    log = wal.inspect(path)
    if log.state == wal.State.DAMAGED:
        text = f"{log.unread} bytes behind it belong to COMMITs that were acknowledged, and SQLite will not read them"
        yield Finding("log", f"frame {log.frames + 1}", text)
    elif log.state == wal.State.TORN:
        text = f"{log.unread} bytes of a COMMIT that did not return, as a power cut leaves them, or that rotted"
        yield Finding("log", f"frame {log.frames + 1}", text)
    yield from broken(path)


def broken(path: Path) -> Iterator[Finding]:
    """The same but for the log, which may be in use: the agent may be up."""
    with closing(connect(path)) as conn:
        conn.execute("BEGIN")
        for part in (_pages, _casts, _fates):
            try:
                yield from part(conn)
            except sqlite3.Error as error:
                yield Finding("pages", part.__name__.strip("_"), str(error))


def _pages(conn: sqlite3.Connection) -> Iterator[Finding]:
    for (text,) in conn.execute(f"PRAGMA integrity_check({PAGES_TOLD})"):
        if text != "ok":
            for line in text.splitlines():
                if line.startswith("***"):
                    # the name of a database, above what is found in it
                    continue
                yield Finding("pages", "database", line)


def _casts(conn: sqlite3.Connection) -> Iterator[Finding]:
    known = lanes(conn)
    buried = {row[0] for row in conn.execute(_BURIED)}
    found = {number: dict.fromkeys(_COUNTED, 0) for number in known}
    for row in readable(conn, {}):
        id_ = row[0]
        if not sound(row) and id_ not in buried:
            yield Finding("checksum", f"cast {id_}", "what is stored is not what was accepted, or cannot be read")
        lane = row[1] if len(row) > 1 else None
        if lane in found:
            found[lane]["kept"] += 1
            found[lane]["bytes"] += len(row[8]) if isinstance(row[8], bytes) else 0
            if id_ > schema.number(known[lane].last_id):
                yield Finding("ids", f"cast {id_}", "its lane does not know that its id was given out")
        elif lane is not None:
            yield Finding("lanes", f"cast {id_}", f"there is no lane {lane}, so its function is not known")
    for lane, state, number in conn.execute(_STATES):
        if lane in found and state in found[lane]:
            found[lane][state] = number
    for number, counts in found.items():
        for name in _COUNTED:
            if counts[name] != known[number].counted[name]:
                text = f"{name}: {known[number].counted[name]} are counted, {counts[name]} are there"
                yield Finding("counts", f"lane {number}", text)


def _fates(conn: sqlite3.Connection) -> Iterator[Finding]:
    not_done = _NOT_DONE if conn.execute(_DONE).fetchone() else ""
    for table, more, text in (("fates", "", "a fate"), ("attempts", not_done, "an attempt")):
        for (id_,) in conn.execute(_ORPHANS.format(table) + more):
            yield Finding("orphans", f"cast {id_}", f"{text} without a cast")
    for (id_,) in conn.execute(_STRAYS):
        yield Finding("orphans", f"cast {id_}", "its fate names another lane")
    for (id_,) in conn.execute(_NEVER_DUE):
        yield Finding("fates", f"cast {id_}", "it is deferred, and is never due")


def lanes(conn: sqlite3.Connection) -> dict[int, Lane]:
    """The lanes by their numbers."""
    found = {}
    for number, function, kept, size, deferred, held, dead, last_id in conn.execute(_LANES):
        counted = dict(zip(_COUNTED, (kept, size, deferred, held, dead), strict=True))
        found[number] = Lane(function, counted, last_id)
    return found


def misnamed(conn: sqlite3.Connection) -> set[int]:
    """The numbers of lanes whose function is one in the table and another in its index: a bit of either is flipped.

    No checksum covers a function, and which of the two is right cannot be told.  An unreadable index says nothing.
    """
    try:
        names = dict(conn.execute(_NAMES_INDEXED).fetchall())
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        return set()
    found = conn.execute("SELECT number, function FROM lanes NOT INDEXED").fetchall()
    return {number for number, function in found if names.get(number, function) != function}


def readable(conn: sqlite3.Connection, lost: dict[int, int | None]) -> Iterator[tuple[Any, ...]]:
    """Every cast that can be read, each once, in COLUMNS; where SQLite stumbles, by whatever way leads around.

    An id of which nothing else can be read is added to `lost`, with its lane if that is known, and comes as a row of
    just that.  One that only an index knows of, where the table can be read from end to end, does not come.
    """
    # along the table as it lies there: an id that rotted is not where it belongs, and must not end it
    seen = array("q")
    try:
        for row in conn.execute(_CASTS):
            seen.append(row[0])
            yield row
    except sqlite3.Error:
        ids = _scavenge(conn)
    else:
        return
    for id_ in sorted(ids.keys() - set(seen)):
        try:
            row = conn.execute(_ROW, (id_,)).fetchone()
        except sqlite3.Error:
            lost[id_] = ids[id_]
            row = (id_,)
        if row is not None:
            yield row


def _scavenge(conn: sqlite3.Connection) -> dict[int, int | None]:
    """The ids that any way leads to, and the lanes of those that have one by the index."""
    ids: dict[int, int | None] = {}
    for statement in _IDS:
        # what was found up to an error counts
        with suppress(sqlite3.Error):
            for id_, lane in conn.execute(statement):
                ids[id_] = lane if isinstance(lane, int) else ids.get(id_)
    return ids
