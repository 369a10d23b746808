"""The full check of a spool that no agent has open: every page, every cast, every count, and the log beside it.

Reads only, and everything: a million casts take some seconds, and a spool that is sound yields nothing.  What it looks
at: the log's frames; SQLite's own integrity check; each cast's checksum, and that its function is known; fates and
attempts without a cast, or of another lane's; each lane's counts against what is there; ids that would come again.

A cast that is sound by its checksum is sound whatever SQLite says of the pages around it, so `repairing` builds on the
same reading.  Raises SpoolUnusable for a file that cannot be opened at all, or of a newer format.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from relay.cast import COLUMNS, sound
from relay.errors import SpoolUnusable
from relay.spool import schema, wal

#: casts that one statement reads
SLICE = 500
#: findings of SQLite's integrity check that are told
PAGES_TOLD = 100

_NAMES = ",".join([f'"{name}"' for name in COLUMNS])
_CASTS = f"SELECT {_NAMES} FROM casts"
_ROWS = f"{_CASTS} WHERE id > ? ORDER BY id LIMIT {SLICE}"
_ROW = f"{_CASTS} WHERE id = ?"
#: each way to the ids: along the table and along each of its indexes, from either end
_IDS = (
    "SELECT id FROM casts NOT INDEXED ORDER BY id",
    "SELECT id FROM casts NOT INDEXED ORDER BY id DESC",
    "SELECT id FROM casts INDEXED BY casts_by_lane ORDER BY lane, id",
    "SELECT id FROM casts INDEXED BY casts_by_lane ORDER BY lane DESC, id DESC",
)
_ORPHANS = "SELECT id FROM {} WHERE id NOT IN (SELECT id FROM casts)"
#: of the history, which format 1 has not, attempts are kept too
_DONE = "SELECT 1 FROM sqlite_master WHERE name = 'done'"
_NOT_DONE = " AND id NOT IN (SELECT id FROM done)"
_STRAYS = "SELECT fates.id FROM fates JOIN casts ON casts.id = fates.id WHERE casts.lane <> fates.lane"
#: casts that were found damaged before, and set aside: they are no news
_BURIED = "SELECT id FROM fates WHERE state = 'dead' AND reason = 'damaged'"
_STATES = "SELECT lane, state, count(*) FROM fates GROUP BY lane, state"
_COUNTED = ("kept", "bytes", "deferred", "held", "dead")
_LANES = "SELECT number, function, accepted - completed - purged, bytes, deferred, held, dead, last_id FROM lanes"


class Finding(NamedTuple):
    """What is wrong: which part of the check says so, where, and in which way."""

    check: str
    where: str
    text: str


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
        raise SpoolUnusable(f"{path}: {error}") from None
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
    with closing(connect(path)) as conn:
        for part in (_pages, _casts, _fates):
            try:
                yield from part(conn)
            except sqlite3.Error as error:
                yield Finding("pages", part.__name__.strip("_"), str(error))


def _pages(conn: sqlite3.Connection) -> Iterator[Finding]:
    for (text,) in conn.execute(f"PRAGMA integrity_check({PAGES_TOLD})"):
        if text != "ok":
            for line in text.splitlines():
                yield Finding("pages", "database", line)


def _casts(conn: sqlite3.Connection) -> Iterator[Finding]:
    known = lanes(conn)
    buried = {row[0] for row in conn.execute(_BURIED)}
    found = {number: dict.fromkeys(_COUNTED, 0) for number in known}
    for row in readable(conn, []):
        id_ = row[0]
        if not sound(row) and id_ not in buried:
            yield Finding("checksum", f"cast {id_}", "what is stored is not what was accepted, or cannot be read")
        lane = row[1] if len(row) > 1 else None
        if lane in found:
            found[lane]["kept"] += 1
            found[lane]["bytes"] += len(row[8]) if isinstance(row[8], bytes) else 0
            if id_ > known[lane].last_id:
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


def lanes(conn: sqlite3.Connection) -> dict[int, Lane]:
    """The lanes by their numbers."""
    found = {}
    for number, function, kept, size, deferred, held, dead, last_id in conn.execute(_LANES):
        counted = dict(zip(_COUNTED, (kept, size, deferred, held, dead), strict=True))
        found[number] = Lane(function, counted, last_id)
    return found


def readable(conn: sqlite3.Connection, lost: list[int]) -> Iterator[tuple[Any, ...]]:
    """Every cast that can be read, each once, in COLUMNS; where SQLite stumbles, by whatever way leads around.

    An id of which nothing else can be read is added to `lost`, and comes as a row of just that.
    """
    last = 0
    try:
        while rows := conn.execute(_ROWS, (last,)).fetchall():
            yield from rows
            last = rows[-1][0]
    except sqlite3.Error:
        ids = _scavenge(conn)
    else:
        return
    for id_ in sorted(one for one in ids if one > last):
        try:
            row = conn.execute(_ROW, (id_,)).fetchone()
        except sqlite3.Error:
            row = None
        if row is None:
            lost.append(id_)
        yield row or (id_,)


def _scavenge(conn: sqlite3.Connection) -> set[int]:
    """The ids that any way leads to."""
    ids: set[int] = set()
    for statement in _IDS:
        try:
            for (id_,) in conn.execute(statement):
                ids.add(id_)
        except sqlite3.Error:
            # what was found up to here counts
            continue
    return ids
