"""Every SQL statement of the spool's writer, named.  What the CLI reads is in `reading`.

Statements for n rows exist for the n in CHUNKS only: they are prepared once and kept, and a batch is cut into them.
They carry many rows because SQLite then works outside the interpreter's lock for all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relay.cast import COLUMNS, SHORT_COLUMNS
from relay.spool.schema import COUNTS

#: rows a statement
CHUNKS = (128, 32, 8, 4, 2, 1)


def pieces(n: int) -> Iterable[tuple[int, int]]:
    """Cut n rows into (start, rows) for the statements there are."""
    start = 0
    for size in CHUNKS:
        while n - start >= size:
            yield start, size
            start += size


def ranges(ids: Sequence[int]) -> Iterable[tuple[int, int]]:
    """Sorted ids as (first, last) of each contiguous run."""
    if not ids:
        return
    first = last = ids[0]
    for id_ in ids:
        if id_ > last + 1:
            yield first, last
            first = id_
        last = id_
    yield first, last


_ROW = "(" + ",".join("?" * len(COLUMNS)) + ")"
_NAMES = ",".join(f'"{name}"' for name in COLUMNS)
_CAST = ",".join(f'casts."{name}"' for name in COLUMNS)

#: insert n casts
INSERT_CASTS = {n: f"INSERT INTO casts ({_NAMES}) VALUES " + ",".join([_ROW] * n) for n in CHUNKS}
#: insert n casts without uniques
_SHORT_ROW = "(" + ",".join("?" * len(SHORT_COLUMNS)) + ")"
INSERT_SHORT = {
    n: f"INSERT INTO casts ({','.join(SHORT_COLUMNS)}) VALUES " + ",".join([_SHORT_ROW] * n) for n in CHUNKS
}
#: insert one large cast; with NULL for its id nothing, which has SQLite let go of the copy of the one before
INSERT_LARGE = f"INSERT INTO casts ({_NAMES}) SELECT {','.join('?' * len(COLUMNS))} WHERE ?1 IS NOT NULL"
INSERT_LARGE_SHORT = (
    f"INSERT INTO casts ({','.join(SHORT_COLUMNS)}) SELECT {','.join('?' * len(SHORT_COLUMNS))} WHERE ?1 IS NOT NULL"
)
#: which of n digests belong to casts that live, oldest first
FIND_TWINS = {
    n: 'SELECT casts.id, casts.lane, casts."unique" FROM casts LEFT JOIN fates ON fates.id = casts.id'
    f" WHERE casts.digest IN ({','.join('?' * n)}) AND fates.state IS NOT 'dead' ORDER BY casts.id DESC"
    for n in CHUNKS
}
#: retire a range of ids
DELETE_RANGE = "DELETE FROM casts WHERE id BETWEEN ? AND ?"
#: retire n ids
DELETE_IDS = {n: f"DELETE FROM casts WHERE id IN ({','.join('?' * n)})" for n in CHUNKS}
#: what has become of a cast that an attempt has done which had ended otherwise
FIND_LATE = (
    "SELECT casts.lane, length(casts.payload), fates.state FROM casts LEFT JOIN fates ON fates.id = casts.id"
    " WHERE casts.id = ?"
)
DELETE_FATE = "DELETE FROM fates WHERE id = ?"
#: its attempts too, unless the history has the cast
DELETE_ATTEMPTS = "DELETE FROM attempts WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM done WHERE done.id = ?1)"

#: a cast that is done, for the history: what is not in its row is told by who had it done; a row that rotted is ignored
KEEP_DONE = (
    'INSERT OR IGNORE INTO done (id, lane, accepted_at, not_before, uid, digest, "unique", bytes, attempts, failures,'
    " began_at, done_at, upstream)"
    ' SELECT casts.id, ?2, accepted_at, not_before, uid, digest, "unique", length(payload),'
    " max(?3, coalesce(fates.attempts, 0)), max(?4, coalesce(fates.failures, 0)), ?5, ?6, ?7"
    " FROM casts LEFT JOIN fates ON fates.id = casts.id WHERE casts.id = ?1"
)
COUNT_DONE = "SELECT count(*) FROM done"
#: the oldest n of the history, and the oldest n of those done before a moment; and their end
OLDEST_DONE = "SELECT id FROM done ORDER BY done_at, id LIMIT ?"
DONE_BEFORE = "SELECT id FROM done WHERE done_at < ? ORDER BY done_at, id LIMIT ?"
DROP_DONE = "DELETE FROM done WHERE id IN ({})"
DROP_DONE_ATTEMPTS = "DELETE FROM attempts WHERE id IN ({})"

#: is a cast here that is not dead
FIND_ID = (
    "SELECT casts.id FROM casts LEFT JOIN fates ON fates.id = casts.id WHERE casts.id = ? AND fates.state IS NOT 'dead'"
)
#: a lane that was not there before
INSERT_LANE = "INSERT INTO lanes (function, priority) VALUES (?, ?)"
#: what a batch changed in a lane
COUNT = (
    "UPDATE lanes SET " + ", ".join(f"{c} = {c} + ?" for c in COUNTS) + ", last_id = max(last_id, ?) WHERE number = ?"
)
LANES = "SELECT number, function, priority, " + ", ".join(COUNTS) + " FROM lanes"
LAST_ID = "SELECT max(last_id) FROM lanes"
#: the lowest and the highest id; when the first cast from an id on was accepted
ENDS = "SELECT (SELECT min(id) FROM casts), (SELECT max(id) FROM casts)"
ACCEPTED_FROM = "SELECT id, accepted_at FROM casts WHERE id >= ? ORDER BY id LIMIT 1"

#: the fate of a cast, new or changed
SET_FATE = (
    "INSERT INTO fates (id, lane, state, scheduled, due_at, since, attempts, failures, reason, error)"
    " VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state, scheduled = 0,"
    " due_at = excluded.due_at, since = excluded.since, attempts = excluded.attempts, failures = excluded.failures,"
    " reason = excluded.reason, error = excluded.error"
)
#: the fate of a cast that its caller wants done later
SCHEDULE = (
    "INSERT INTO fates (id, lane, state, scheduled, due_at, since, attempts, failures, reason, error)"
    " VALUES (?, ?, 'deferred', 1, ?, ?, 0, 0, 'scheduled', '')"
)
INSERT_ATTEMPT = (
    "INSERT OR REPLACE INTO attempts (id, number, began_at, took, upstream, reason, error) VALUES (?,?,?,?,?,?,?)"
)
DROP_OLD_ATTEMPTS = "DELETE FROM attempts WHERE id = ? AND number <= ?"

#: the next ready casts of a lane, in the order they were accepted
TAKE_READY = (
    f"SELECT {_CAST} FROM casts LEFT JOIN fates ON fates.id = casts.id"
    " WHERE casts.lane = ? AND casts.id > ? AND fates.id IS NULL ORDER BY casts.id LIMIT ?"
)
#: the same as ids, by the index alone, and one cast by its id: for when a page of the table cannot be read
READY_IDS = (
    "SELECT casts.id FROM casts LEFT JOIN fates ON fates.id = casts.id"
    " WHERE casts.lane = ? AND casts.id > ? AND fates.id IS NULL ORDER BY casts.id LIMIT ?"
)
READ_CAST = f"SELECT {_CAST} FROM casts WHERE id = ?"
#: ids and sizes behind an id; and casts whole, from behind one id to another
SIZES_AFTER = "SELECT id, length(payload) FROM casts WHERE id > ? ORDER BY id LIMIT ?"
LANE_NUMBERS = "SELECT number FROM lanes"
IDS_AFTER = "SELECT id FROM casts INDEXED BY casts_by_lane WHERE lane = ? AND id > ? ORDER BY id LIMIT ?"
IDS_BETWEEN = "SELECT id FROM casts INDEXED BY casts_by_lane WHERE lane = ? AND id > ? AND id <= ?"
READ_CASTS = f"SELECT {_CAST} FROM casts WHERE id > ? AND id <= ? ORDER BY id"
#: whether a cast was found damaged before, and set aside as dead
SET_ASIDE = "SELECT 1 FROM fates WHERE id = ? AND state = 'dead' AND reason = 'damaged'"
_DUE = (
    "SELECT id, attempts, failures, 1 AS deferred, aged_from FROM fates"
    " WHERE lane = ? AND state = 'deferred' AND scheduled ="
)
#: casts of a lane whose fate lets them go at one moment: released and revived ones, scheduled ones, ones in backoff,
#: and ones whose backoff ends later than any can (the clock went back); in four pieces, so that each walks an index
DUE_IDS = (
    "SELECT due.id, due.attempts, due.failures, due.deferred, due.aged_from FROM (SELECT * FROM"
    " (SELECT id, attempts, failures, 0 AS deferred, aged_from FROM fates"
    " WHERE lane = ? AND state = 'ready' ORDER BY id LIMIT ?)"
    f" UNION ALL SELECT * FROM ({_DUE} 1 AND due_at <= ? ORDER BY due_at LIMIT ?)"
    f" UNION ALL SELECT * FROM ({_DUE} 0 AND due_at <= ? ORDER BY due_at LIMIT ?)"
    f" UNION ALL SELECT * FROM ({_DUE} 0 AND due_at > ? ORDER BY due_at LIMIT ?)) AS due LIMIT ?"
)
#: what of a lane may be too old: ready casts in the order they were accepted; scheduled ones whose moment is past,
#: released and revived ones, and ones in backoff: each with the moment that its lifetime runs from, and when it is due
READY_AGES = (
    "SELECT casts.id, casts.accepted_at, casts.not_before FROM casts LEFT JOIN fates ON fates.id = casts.id"
    " WHERE casts.lane = ? AND casts.id > ? AND fates.id IS NULL ORDER BY casts.id LIMIT ?"
)
_AGES = (
    "SELECT fates.id, max(casts.accepted_at, coalesce(casts.not_before, 0), coalesce(fates.aged_from, 0)),"
    " fates.state = 'deferred', fates.attempts, fates.failures, fates.due_at"
    " FROM fates JOIN casts ON casts.id = fates.id WHERE fates.lane = ? AND fates.state ="
)
SCHEDULED_AGES = f"{_AGES} 'deferred' AND scheduled = 1 AND due_at <= ? ORDER BY due_at LIMIT ?"
BACKOFF_AGES = f"{_AGES} 'deferred' AND scheduled = 0 AND due_at >= ? ORDER BY due_at LIMIT ?"
AGAIN_AGES = f"{_AGES} 'ready' ORDER BY fates.id LIMIT ?"
#: when the next deferred cast of a lane is due, after a moment, and the next scheduled one
_NEXT = "SELECT min(due_at) FROM fates WHERE lane = ? AND state = 'deferred' AND scheduled ="
NEXT_DUE = f"SELECT ({_NEXT} 0 AND due_at > ?), ({_NEXT} 1 AND due_at > ?)"
#: some deferred casts in backoff with an id after one, so that they can be made due
DEFERRED_AFTER = (
    "SELECT id FROM fates WHERE state = 'deferred' AND scheduled = 0 AND id > ? AND due_at > ? ORDER BY id LIMIT ?"
)
MAKE_DUE = (
    "UPDATE fates SET due_at = ? WHERE id BETWEEN ? AND ? AND state = 'deferred' AND scheduled = 0 AND due_at > ?"
)

#: a cast behind the last one, in a lane that there is not, and its end
REHEARSE = (
    "INSERT INTO casts (id, lane, accepted_at, crc, payload) SELECT coalesce(max(id), 0) + 1, 0, 0, 0, x'' FROM casts"
)
END_REHEARSAL = "DELETE FROM casts WHERE id = (SELECT max(id) FROM casts) AND lane = 0"
#: what an operator's change needs to know of n casts
EDITED = {
    n: "SELECT casts.id, casts.lane, casts.not_before, length(casts.payload), casts.digest, fates.state,"
    " fates.scheduled, fates.due_at, coalesce(fates.attempts, 0), coalesce(fates.failures, 0),"
    " coalesce(fates.reason, ''), coalesce(fates.error, ''), coalesce(fates.held_by, ''), coalesce(fates.exported, 0)"
    f" FROM casts LEFT JOIN fates ON fates.id = casts.id WHERE casts.id IN ({','.join('?' * n)})"
    for n in CHUNKS
}
#: the fate of a cast as an operator's change leaves it
EDIT_FATE = (
    "INSERT INTO fates (id, lane, state, scheduled, due_at, since, attempts, failures, reason, error, held_by,"
    " exported, aged_from) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET state = excluded.state,"
    " scheduled = excluded.scheduled, due_at = excluded.due_at, since = excluded.since, attempts = excluded.attempts,"
    " failures = excluded.failures, reason = excluded.reason, error = excluded.error, held_by = excluded.held_by,"
    " exported = excluded.exported, aged_from = coalesce(excluded.aged_from, aged_from)"
)
READ_FATE = "SELECT state, attempts, failures, reason, error, held_by FROM fates WHERE id = ?"
READ_LANE = "SELECT function, priority FROM lanes WHERE number = ?"
READ_IMPORT = "SELECT origin, key FROM imports WHERE id = ?"
UNIQUE = 'SELECT "unique" FROM casts WHERE id = ?'
IMPORTED_KEY = "SELECT key FROM imports WHERE id = ?"
ANY_IMPORT = "SELECT 1 FROM imports LIMIT 1"
FIND_ORIGIN = "SELECT id FROM imports WHERE origin = ?"
INSERT_IMPORT = "INSERT INTO imports (id, origin, key, imported_at) VALUES (?, ?, ?, ?)"
#: origins whose casts are gone for long enough
DROP_IMPORTS = (
    "DELETE FROM imports WHERE id IN (SELECT imports.id FROM imports LEFT JOIN casts ON casts.id = imports.id"
    " WHERE imported_at < ? AND casts.id IS NULL ORDER BY imports.id LIMIT ?)"
)

#: the patterns whose new casts are held, and the lanes that each matches
HOLDS = "SELECT pattern, until FROM holds ORDER BY pattern"
SET_HOLD = "INSERT INTO holds (pattern, until) VALUES (?, ?) ON CONFLICT (pattern) DO UPDATE SET until = excluded.until"
DROP_HOLD = "DELETE FROM holds WHERE pattern = ?"
HELD_LANES = (
    "SELECT lanes.number, holds.pattern, holds.until FROM holds JOIN lanes"
    " ON CAST(lanes.function AS TEXT) GLOB holds.pattern"
)
HOLDS_OF = "SELECT pattern, until FROM holds WHERE CAST(? AS TEXT) GLOB pattern"
#: a cast that is held from the start
HOLD_FRESH = (
    "INSERT INTO fates (id, lane, state, since, attempts, failures, reason, error, held_by)"
    " VALUES (?, ?, 'held', ?, 0, 0, 'held', '', ?)"
)

#: the upstreams that are paused, and since when (us)
PAUSED = "SELECT server, since FROM paused"
PAUSE = "INSERT INTO paused (server, since) VALUES (?, ?) ON CONFLICT (server) DO NOTHING"
UNPAUSE = "DELETE FROM paused WHERE server = ?"

GET_META = "SELECT value FROM meta WHERE name = ?"
SET_META = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
SPOOLS = "SELECT first_id, spool_id, machine_id FROM spools ORDER BY first_id"
INSERT_SPOOL = "INSERT OR REPLACE INTO spools (first_id, spool_id, machine_id) VALUES (?, ?, ?)"
