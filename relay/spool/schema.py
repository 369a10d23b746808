"""The format of the spool: its tables, its version, and the law that they change by.

The law: what stands in a spool of version n is described by the DDL of version n for ever; a change is a new version,
a migration from the one before, and a golden spool of the old one in tests/formats.  A newer version than ours is
refused, never guessed at.  `PRAGMA user_version` is the version; 0 is an empty database.

Why these tables.  A cast is written once and never updated (raising a counter on a row of 1 MiB writes 2 MiB of WAL,
and the CRC covers the whole row); what changes lives in a row of its own in `fates`, which most casts never get.
Counts are kept beside the casts, in the same COMMIT, so that neither a start nor `status` scans the spool.  A unique
is found by a 64-bit digest and then compared: an index over random text cuts the accept rate to a quarter.

    meta      one row a name: draining, starts, clock_steps (a text; the others are numbers)
    spools    the ids of this spool, by the first cast id each is valid for (a copy on another machine gets a new one)
    lanes     one row a function and priority: its counts by state, its totals, the last cast id given out in it
    casts     what was accepted, one row a cast
    fates     what became of it, when it did not simply go well: its state, when due, failures, the last error;
              `scheduled` is 1 while it waits for the moment its caller named, and due_at is that moment
    attempts  its last attempts
    holds     patterns of functions whose new casts are held, and until when       paused    upstreams that are paused
    imports   where imported casts came from, and the idempotency keys they brought; kept beyond their end
    done      a bounded history of casts that are done, where that is wanted
    backlog   the documented view for readers
"""

from __future__ import annotations

import sqlite3

from relay.errors import SpoolUnusable

VERSION = 2

#: what a lane counts, in the order of its columns; `ready` and `in flight` together are what is left of `accepted`
COUNTS = (
    "accepted",
    "completed",
    "purged",
    "deferred",
    "held",
    "dead",
    "bytes",
    "failures",
    "coalesced",
    "expired",
    "repeats",
)

_VERSION_1 = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE spools (first_id INTEGER PRIMARY KEY, spool_id TEXT NOT NULL, machine_id TEXT NOT NULL);
CREATE TABLE lanes (
    number INTEGER PRIMARY KEY,
    function BLOB NOT NULL,
    priority INTEGER NOT NULL,
    {" ".join(f"{name} INTEGER NOT NULL DEFAULT 0," for name in COUNTS)}
    last_id INTEGER NOT NULL DEFAULT 0,
    UNIQUE (function, priority)
);
CREATE TABLE casts (
    id INTEGER PRIMARY KEY,
    lane INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    not_before INTEGER,
    uid INTEGER,
    digest INTEGER,
    "unique" BLOB,
    crc INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX casts_by_lane ON casts (lane);
CREATE INDEX casts_by_digest ON casts (digest) WHERE digest IS NOT NULL;
CREATE TABLE fates (
    id INTEGER PRIMARY KEY,
    lane INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('deferred', 'held', 'dead')),
    scheduled INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER,
    since INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    reason TEXT NOT NULL,
    error TEXT NOT NULL
);
CREATE INDEX fates_by_due ON fates (lane, scheduled, due_at) WHERE state = 'deferred';
CREATE TABLE attempts (
    id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    began_at INTEGER NOT NULL,
    took INTEGER NOT NULL,
    upstream TEXT NOT NULL,
    reason TEXT NOT NULL,
    error TEXT NOT NULL,
    PRIMARY KEY (id, number)
) WITHOUT ROWID;
CREATE TABLE holds (pattern TEXT PRIMARY KEY, until INTEGER) WITHOUT ROWID;
CREATE TABLE paused (server TEXT PRIMARY KEY, since INTEGER NOT NULL) WITHOUT ROWID;
CREATE VIEW backlog AS
    SELECT casts.id, lanes.function, casts."unique",
           CASE lanes.priority WHEN 0 THEN 'high' WHEN 1 THEN 'normal' ELSE 'low' END AS priority,
           coalesce(fates.state, 'ready') AS state, length(casts.payload) AS bytes,
           casts.accepted_at, casts.not_before, fates.due_at, coalesce(fates.attempts, 0) AS attempts,
           coalesce(fates.failures, 0) AS failures, fates.error AS last_error, casts.uid
    FROM casts JOIN lanes ON lanes.number = casts.lane LEFT JOIN fates ON fates.id = casts.id;
"""

#: `fates` anew, for a CHECK cannot be altered.  A cast of state `ready` in it is one that was released or revived: its
#: lane may have been read past its id.  `held_by` says who keeps a held one back (`operator`, `export`, or `new GLOB`
#: for a row of `holds`), `exported` that it was written out by `export --hold`, `aged_from` when its
#: lifetime began anew: at its release, or when it was revived
_VERSION_2 = """
DROP VIEW backlog;
CREATE TABLE fates_2 (
    id INTEGER PRIMARY KEY,
    lane INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ready', 'deferred', 'held', 'dead')),
    scheduled INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER,
    since INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    reason TEXT NOT NULL,
    error TEXT NOT NULL,
    held_by TEXT NOT NULL DEFAULT '',
    exported INTEGER NOT NULL DEFAULT 0,
    aged_from INTEGER
);
INSERT INTO fates_2 (id, lane, state, scheduled, due_at, since, attempts, failures, reason, error)
    SELECT id, lane, state, scheduled, due_at, since, attempts, failures, reason, error FROM fates;
DROP TABLE fates;
ALTER TABLE fates_2 RENAME TO fates;
CREATE INDEX fates_by_due ON fates (lane, scheduled, due_at) WHERE state = 'deferred';
CREATE INDEX fates_again ON fates (lane, id) WHERE state = 'ready';
CREATE INDEX fates_dead ON fates (since) WHERE state = 'dead';
CREATE TABLE imports (
    id INTEGER PRIMARY KEY,
    origin TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL,
    imported_at INTEGER NOT NULL
);
CREATE TABLE done (
    id INTEGER PRIMARY KEY,
    lane INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    not_before INTEGER,
    uid INTEGER,
    digest INTEGER,
    "unique" BLOB,
    bytes INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    began_at INTEGER NOT NULL,
    done_at INTEGER NOT NULL,
    upstream TEXT NOT NULL
);
CREATE INDEX done_by_digest ON done (digest) WHERE digest IS NOT NULL;
CREATE INDEX done_by_time ON done (done_at);
CREATE VIEW backlog AS
    SELECT casts.id, lanes.function, casts."unique",
           CASE lanes.priority WHEN 0 THEN 'high' WHEN 1 THEN 'normal' ELSE 'low' END AS priority,
           coalesce(fates.state, 'ready') AS state, length(casts.payload) AS bytes,
           casts.accepted_at, casts.not_before, fates.due_at, coalesce(fates.attempts, 0) AS attempts,
           coalesce(fates.failures, 0) AS failures, fates.error AS last_error, casts.uid,
           coalesce(fates.reason, '') AS reason
    FROM casts JOIN lanes ON lanes.number = casts.lane LEFT JOIN fates ON fates.id = casts.id;
"""

#: version -> the statements that lead to it from the one before
_STEPS = {1: _VERSION_1, 2: _VERSION_2}


#: tables that each version made
_MADE_BY = {1: {"casts", "fates", "lanes"}, 2: {"imports", "done"}}


def number(value: object, otherwise: int = 0) -> int:
    """A number as it was read; `otherwise` where a flipped bit made NULL, text or anything else of it."""
    return value if isinstance(value, int) else otherwise


def version(conn: sqlite3.Connection) -> int:
    """The version of an open database."""
    found: int = conn.execute("PRAGMA user_version").fetchone()[0]
    return found


def check(conn: sqlite3.Connection) -> None:
    """SpoolUnusable for a database that is newer than this relay, or a stranger's; reads only."""
    found = version(conn)
    if found > VERSION:
        raise SpoolUnusable(f"the spool has format {found}, made by a newer relay; this one knows up to {VERSION}")
    tables = {row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    later = [since for since, made in _MADE_BY.items() if since > found and made <= tables]
    if found > 0 and later:
        raise SpoolUnusable(
            f"the spool says that it has format {found}, and has the tables of format {later[-1]}: its header rotted,"
            f" or somebody changed it; `PRAGMA user_version = {later[-1]}` mends that"
        )
    if found < 0 or (found == 0 and tables) or (found > 0 and not {"casts", "fates", "lanes"} <= tables):
        raise SpoolUnusable("the file is a database, but none of relay's")


def migrate(conn: sqlite3.Connection) -> None:
    """Bring a database that `check` let pass to VERSION, each step in one transaction."""
    found = version(conn)
    for step in range(found + 1, VERSION + 1):
        conn.execute("BEGIN IMMEDIATE")
        try:
            for statement in _STEPS[step].split(";\n"):
                conn.execute(statement)
            conn.execute(f"PRAGMA user_version = {step}")
        except BaseException:
            conn.execute("ROLLBACK")
            raise
        conn.execute("COMMIT")
