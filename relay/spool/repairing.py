"""Making a spool sound again that nobody has open: a new one is built of what can be read, the old one is kept.

The law: rather a repeat than a loss.  A cast that is sound by its checksum comes over with its fate, or, if that cannot
be read, ready.  One whose checksum does not fit, or whose function is not known, comes over dead, with the reason
`damaged`: what is left of it can be looked at, and is never executed by itself.  (Nor is a function known that is one
in its table and another in its index.)  So does one of which nothing but its id can be read, empty: of ids that only an
index knows, which may itself have rotted, those that have a fate as well, and as many more as the old counts miss.
What they miss beyond that, nothing of which is left, is told as a number.  Counts are made from what is there; ids go
on above all before, and the numbers of the lanes stay.

The order: the new one is built beside the old (`.repaired-partial`), checked, synced, and named `.repaired`; then the
old one is set aside as a whole (`quarantine`), and the new one takes its name.  A kill before the old one is touched
changes nothing; after that the next start, by `resume`, goes on.  Raises SpoolUnusable where nothing can be read, or
the disk fails: then the old one is where it was.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from relay.cast import COLUMNS, sound
from relay.errors import SpoolUnusable
from relay.spool import quarantine, schema
from relay.spool.checking import check, connect, misnamed, readable
from relay.spool.schema import number

_DAMAGED = (
    "INSERT OR REPLACE INTO fates (id, lane, state, scheduled, due_at, since, attempts, failures, reason, error)"
    " VALUES (?, ?, 'dead', 0, NULL, ?, 0, 0, 'damaged', ?)"
)
_NAMES = ",".join([f'"{name}"' for name in COLUMNS])
_INSERT = f"INSERT OR IGNORE INTO casts ({_NAMES}) VALUES ({','.join('?' * len(COLUMNS))})"
_LOST_LANE = "INSERT OR IGNORE INTO lanes (number, function, priority) VALUES (?, ?, 1)"
_GO_ON = "UPDATE lanes SET last_id = max(last_id, ?) WHERE number = (SELECT min(number) FROM lanes)"
_COUNT = (
    "UPDATE lanes SET completed = max(completed, 0), purged = max(purged, 0),"
    " bytes = (SELECT coalesce(sum(length(payload)), 0) FROM casts WHERE lane = number),"
    + "".join(
        f" {state} = (SELECT count(*) FROM fates WHERE lane = number AND state = '{state}'),"
        for state in ("deferred", "held", "dead")
    )
    + " last_id = max(last_id, coalesce((SELECT max(id) FROM casts WHERE lane = number), 0))"
)
_ACCEPT = "UPDATE lanes SET accepted = completed + purged + (SELECT count(*) FROM casts WHERE lane = number)"
_STRAYS = (
    "DELETE FROM fates WHERE id NOT IN (SELECT id FROM casts)",
    "DELETE FROM done WHERE id IN (SELECT id FROM casts)",
    "DELETE FROM attempts WHERE id NOT IN (SELECT id FROM casts UNION ALL SELECT id FROM done)",
)
_KNOWN = "SELECT 1 FROM casts WHERE id = ?"
_KEPT = "SELECT accepted - completed - purged FROM lanes"
_INDEXED = "SELECT id, lane FROM casts INDEXED BY casts_by_lane ORDER BY lane, id"
_IN_INDEX = "SELECT id FROM casts INDEXED BY casts_by_lane WHERE lane = ? AND id = ?"
_FATES_ALONE = "SELECT id, lane FROM fates WHERE id NOT IN (SELECT id FROM casts)"
#: bytes of payloads that come over although their checksum does not fit; what is beyond comes empty
ROTTEN_BYTES = 64 * 1024 * 1024
#: what waits for no moment, or by no law, waits for no longer
_DUE = (
    "UPDATE fates SET due_at = ?, scheduled = 0"
    " WHERE state = 'deferred' AND (typeof(due_at) <> 'integer' OR scheduled NOT IN (0, 1))"
)
_JOIN = "UPDATE fates SET lane = (SELECT lane FROM casts WHERE casts.id = fates.id)"


class Repaired(NamedTuple):
    """What it came to.

    Casts that came over, those of them that are damaged, ids of empty ones, the old spool; and how many casts were
    counted there of which not even an id is left.
    """

    casts: int
    damaged: int
    lost: tuple[int, ...]
    kept: Path
    missing: int = 0


def repair(
    path: Path, now: int, least_id: int, why: str = "it was repaired: what could be read is in the spool"
) -> Repaired:
    """Repair the spool at `path`; `now` in microseconds, ids will be given out above `least_id`."""
    made, partial = _names(path)
    lost: dict[int, int | None] = {}
    try:
        partial.unlink(missing_ok=True)
        with closing(connect(path)) as old, closing(_begin(partial)) as new:
            casts, damaged, missing = _build(old, new, now, least_id, lost)
        left = list(check(partial))
        if left:
            raise SpoolUnusable(f"{path}: what was built is not sound ({left[0].text}); nothing was changed")
        _finish(path, partial)
        partial.rename(made)
        quarantine.sync(path.parent)
        kept = quarantine.set_aside(path, why, now / 1e6)
        resume(path)
    except (sqlite3.Error, OSError) as error:
        raise SpoolUnusable(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return Repaired(casts, damaged, tuple(lost), kept, missing)


def resume(path: Path) -> bool:
    """Have what was built take the place of what was set aside; True where a repair had come so far.

    Beside a spool that is there, what was built is of no use: the kill fell before that was set aside.
    """
    made, _ = _names(path)
    if not made.exists():
        return False
    if path.exists():
        made.unlink()
        return False
    made.rename(path)
    quarantine.sync(path.parent)
    return True


def _names(path: Path) -> tuple[Path, Path]:
    """What was built, once it is whole, and before."""
    return path.with_name(path.name + ".repaired"), path.with_name(path.name + ".repaired-partial")


def _begin(made: Path) -> sqlite3.Connection:
    """An empty spool, for its user alone; nothing of it is a promise before it is synced as a whole."""
    os.close(os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    conn = sqlite3.connect(made, isolation_level=None)
    for pragma in ("auto_vacuum = INCREMENTAL", "journal_mode = OFF", "synchronous = OFF"):
        conn.execute(f"PRAGMA {pragma}").fetchall()
    schema.migrate(conn)
    return conn


def _finish(path: Path, made: Path) -> None:
    """On disk, and the owner's whom the old one had."""
    descriptor = os.open(made, os.O_RDONLY)
    try:
        owner = path.stat()
        if os.geteuid() == 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _build(
    old: sqlite3.Connection, new: sqlite3.Connection, now: int, least_id: int, lost: dict[int, int | None]
) -> tuple[int, int, int]:
    """Bring over everything that can be read.

    Returns the casts, those of them that are dead now because they are damaged, and those that are counted in the old
    spool and of which nothing is left.
    """
    new.execute("BEGIN")
    tables = [row[0] for row in new.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        if table != "casts":
            _copy(old, new, table)
    known = {row[0] for row in new.execute("SELECT number FROM lanes")} - _rename(old, new)
    kept_before = sum([max(0, number(row[0])) for row in new.execute(_KEPT)])
    highest = max(least_id, *[number(row[0]) for row in new.execute("SELECT last_id FROM lanes")], 0)
    # what rotted comes last: its id may be what rotted, and that of a sound one
    casts, damaged, room, rotten = 0, 0, ROTTEN_BYTES, list[tuple[Any, ...]]()
    for row in readable(old, lost):
        if len(row) == len(COLUMNS) and sound(row):
            # a page that two others point to is read twice
            fresh = new.execute(_INSERT, row).rowcount
            casts, highest = casts + fresh, max(highest, row[0])
            if fresh and row[1] not in known:
                _set_aside(new, row[0], row[1], now, f"its function cannot be read (lane {row[1]})")
                damaged += 1
        elif len(row) < len(COLUMNS):
            rotten.append(row)
        else:
            kept = _stored(row)
            room -= len(kept[-1])
            rotten.append(kept if room > 0 else (*kept[:-1], b""))
    missing = max(0, kept_before - casts - len(rotten))
    unlisted = _only_indexed(old, new, {row[0] for row in rotten}, missing)
    missing = max(0, missing - len(unlisted))
    lost.update(unlisted)
    rotten += [(id_,) for id_ in unlisted]
    for row in rotten:
        id_, (why, kept) = row[0], _explained(row, lost, now)
        if not 0 < id_ <= highest or new.execute(_KNOWN, (id_,)).fetchone():
            highest = id_ = highest + 1
        new.execute(_INSERT, (id_, *kept[1:]))
        _set_aside(new, id_, kept[1], now, why)
        casts, damaged = casts + (len(row) > 1), damaged + (len(row) > 1)
    for statement in _STRAYS:
        new.execute(statement)
    new.execute(_JOIN)
    new.execute(_DUE, (now,))
    for column in (*schema.COUNTS, "last_id"):
        new.execute(f"UPDATE lanes SET {column} = 0 WHERE typeof({column}) <> 'integer'")
    new.execute(_COUNT)
    new.execute(_ACCEPT)
    new.execute(_GO_ON, (least_id,))
    new.execute("COMMIT")
    return casts, damaged, missing


def _rename(old: sqlite3.Connection, new: sqlite3.Connection) -> set[int]:
    """Give lanes whose function is not known for certain a name that says so; their numbers."""
    found: set[int] = set()
    with suppress(sqlite3.Error):
        found = misnamed(old)
    for lane in found:
        new.execute("UPDATE lanes SET function = ? WHERE number = ?", (_lost_name(lane), lane))
    return found


def _lost_name(lane: int) -> bytes:
    return b"lost-lane-%d" % lane


def _set_aside(new: sqlite3.Connection, id_: int, lane: int, now: int, why: str) -> None:
    """A cast is dead as damaged; its lane may be one that nobody knows."""
    new.execute(_LOST_LANE, (lane, _lost_name(lane)))
    new.execute(_DAMAGED, (id_, lane, now, why))


def _only_indexed(
    old: sqlite3.Connection, new: sqlite3.Connection, known: set[int], missing: int
) -> dict[int, int | None]:
    """The ids that the old index by lane has, and the table has not, with their lanes.

    Those that have a fate, and the first of the others up to `missing`.
    """
    found: dict[int, int | None] = {
        id_: lane
        for id_, lane in new.execute(_FATES_ALONE)
        if id_ not in known and next(_rows(old, _IN_INDEX, (lane, id_)), None) is not None
    }
    if len(found) < missing:
        for id_, lane in _rows(old, _INDEXED):
            if id_ not in known and new.execute(_KNOWN, (id_,)).fetchone() is None:
                found[id_] = lane if isinstance(lane, int) else None
                if len(found) == missing:
                    break
    return found


def _explained(row: tuple[Any, ...], lost: dict[int, int | None], now: int) -> tuple[str, tuple[Any, ...]]:
    """Why a cast is dead now, and the row that is stored of it."""
    if len(row) == 1:
        # no checksum is negative
        return "it cannot be read", (row[0], lost[row[0]] or 0, now, None, None, None, None, -1, b"")
    return "its checksum does not fit", row


def _stored(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row as the table takes it, whatever a flipped bit made of its columns."""
    id_, lane, accepted_at, not_before, uid, digest, unique, crc, payload = row
    numbers = [value if isinstance(value, int) else 0 for value in (lane, accepted_at, crc)]
    rest = [value if isinstance(value, int) else None for value in (not_before, uid, digest)]
    content = payload if isinstance(payload, bytes) else str(payload).encode()
    return (id_, *numbers[:2], *rest, unique if isinstance(unique, bytes) else None, numbers[2], content)


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> None:
    """The rows of a table that can be read, in the columns that both have."""
    columns = [row[1] for row in new.execute(f"PRAGMA table_info({table})")]
    there = {row[1] for row in old.execute(f"PRAGMA table_info({table})")}
    names = ",".join(f'"{column}"' for column in columns if column in there)
    if not names:
        return
    marks = ",".join("?" * len(names.split(",")))
    for row in _rows(old, f"SELECT {names} FROM {table}"):
        with suppress(sqlite3.IntegrityError):
            # nonsense where a number should be is not brought over
            new.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", row)


def _rows(conn: sqlite3.Connection, statement: str, parameters: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    with suppress(sqlite3.Error):
        yield from conn.execute(statement, parameters)
