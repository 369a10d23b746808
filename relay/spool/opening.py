"""Opening the spool, in the order that a crash at any step allows; and closing it.

The order: directory, lock, what a kill left of a quarantine, owner and mode, the log looked at, the format and what
every COMMIT needs read, open, pragmas read back, the log written once more, TRUNCATE, migration, identity.

After an fsync of the log that failed, what a start reads from the page cache need never have reached the disk.  What is
committed behind such a hole a power cut takes (10 of 10 acknowledged casts lost on ext4); and a power cut in the middle
of a checkpoint leaves a database that was copied from it half, and no log to mend that by (of 2,132 such cuts 416 left
a database that is malformed).  So the log is written to the disk again before anything is made of it, and the
checkpoint with TRUNCATE must succeed before anything is accepted.

What is to be set aside is read a second time before, byte by byte and by SQLite: a disk that fails to read, once or for
ever, is refused.

Each step refuses with SpoolUnusable (73) or SpoolOwned (75) and one line.  A file of another owner, mode, kind, format
or program is refused and stays as it is, its log too.  One that SQLite calls corrupt or no database, that was cut
short, or that has vanished from beside its log, is set aside (`quarantine`), and a new spool begins, with ids above all
before.  One in which a function has two names, for a bit of it is flipped, is rebuilt (`repairing`): its casts must not
be executed under the wrong one.  Of a log with promised COMMITs behind a rotten frame a copy is kept.  Nothing is ever
overwritten or deleted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sqlite3
import stat
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from relay.errors import SpoolUnusable
from relay.spool import checking, needed, quarantine, repairing, schema, wal
from relay.spool import statements as sql
from relay.spool.ballast import BALLAST_BYTES, Ballast
from relay.spool.codes import is_sign, primary
from relay.spool.locking import LOCK_WAIT_S, lock, note, noted
from relay.spool.quarantine import sync
from relay.spool.readers import readers

log = logging.getLogger(__name__)

#: an id of a new spool is its Unix time times this: ids of a spool made later are always higher
ID_SCALE = 1 << 20
#: what the first id of a new spool is above the last start's, should the clock have gone back
ID_MARGIN = 1 << 40
#: bytes of the smallest database that SQLite makes: a page
SMALLEST_DATABASE = 512
#: seconds to wait for a reader that blocks the checkpoint
CHECKPOINT_WAIT_S = 5.0
PAGE_BYTES = 4096
#: bytes up to which a database of another auto_vacuum is rewritten at the start, so that it can shrink
REWRITE_BYTES = 16 * 1024 * 1024

#: what SQLite calls auto_vacuum=INCREMENTAL
INCREMENTAL = 2
#: (pragma, value to set, value to read back)
PRAGMAS: tuple[tuple[str, str, object], ...] = (
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
    # pages of log at which a COMMIT copies them into the database: who waits for that one waits for all of it, and with
    # fewer pages more of those whose cast has a COMMIT of its own would (docs/decisions/0021-sharing-the-writer.md)
    ("wal_autocheckpoint", "700", 700),
    ("journal_size_limit", str(4 * 1024 * 1024), 4 * 1024 * 1024),
    ("mmap_size", "0", 0),
    ("trusted_schema", "OFF", 0),
    ("cell_size_check", "ON", 1),
)


class Identity(NamedTuple):
    """Who this spool is: (first cast id, spool id) pairs, ascending; a cast falls under one and has its key by it."""

    spools: tuple[tuple[int, bytes], ...]
    next_id: int

    def spool_id(self, cast_id: int) -> bytes:
        """The id of the spool that gave out this cast's id, 12 hex digits."""
        for first, spool_id in reversed(self.spools):
            if first <= cast_id:
                return spool_id
        return self.spools[0][1]


class Opened(NamedTuple):
    """An open spool: the writer's connection, the lock's descriptor, the identity, and what meta says."""

    conn: sqlite3.Connection
    lock: int
    identity: Identity
    draining: bool


class Broken(NamedTuple):
    """A spool that an agent could not go on with: what is wrong, and the next id that it would have given out."""

    reason: str
    next_id: int


class _Unreadable(Exception):
    """The file is, or was, a spool of ours, and cannot be read."""


class _Misnamed(_Unreadable):
    """It can be, but for whose casts some are is not known for certain."""


def prepare_directory(path: Path) -> None:
    """Make the spool's directory 0700, durably, and refuse one that others may write."""
    directory = path.parent
    try:
        if not directory.exists():
            directory.mkdir(mode=0o700)
            sync(directory.parent)
        found = directory.stat()
    except OSError as error:
        raise SpoolUnusable(f"{directory}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise SpoolUnusable(f"{directory} is not a directory")
    if found.st_uid not in (os.geteuid(), 0):
        raise SpoolUnusable(f"{directory} belongs to uid {found.st_uid}, relay runs as {os.geteuid()}")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise SpoolUnusable(f"{directory} may be written by others (mode {stat.S_IMODE(found.st_mode):04o})")


def open_spool(
    path: Path, now_s: float, machine_id: str, lock_wait_s: float = LOCK_WAIT_S, broken: Broken | None = None
) -> Opened:
    """Open or make the spool at `path`; `now_s` is the Unix time a new one counts its ids from.

    One that was found broken is rebuilt before.
    """
    prepare_directory(path)
    descriptor = lock(path, lock_wait_s)
    try:
        if broken is not None:
            _rebuild(path, broken, descriptor, now_s)
        try:
            return _open(path, descriptor, now_s, machine_id)
        except (sqlite3.Error, OSError):
            if not _make_room(path):
                raise
            return _open(path, descriptor, now_s, machine_id)
    except (sqlite3.Error, OSError) as error:
        os.close(descriptor)
        raise SpoolUnusable(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    except BaseException:
        os.close(descriptor)
        raise


def _open(path: Path, descriptor: int, now_s: float, machine: str) -> Opened:
    """Open what is there; what cannot be read is set aside, and then there is nothing."""
    resumed = quarantine.resume(path, now_s)
    if repairing.resume(path):
        log.critical("the spool was rebuilt of what could be read; what there was is set aside beside it")
    elif resumed is not None:
        log.critical("the spool could not be read and was set aside as %s; a new one begins", resumed)
    try:
        return _open_file(path, descriptor, now_s, machine)
    except _Unreadable as error:
        log.warning("the spool cannot be read (%s): it is read once more", error)
        # SQLite calls it corrupt, too, when the disk failed to read; what a disk refuses is refused, never set aside
        quarantine.read_whole(path)
    try:
        return _open_file(path, descriptor, now_s, machine)
    except _Misnamed as error:
        _rebuild(path, Broken(str(error), 0), descriptor, now_s)
    except _Unreadable as error:
        kept = quarantine.set_aside(path, str(error), now_s)
        log.critical("the spool cannot be read (%s): it is set aside as %s; a new one begins", error, kept)
    try:
        return _open_file(path, descriptor, now_s, machine)
    except _Misnamed as error:
        raise SpoolUnusable(f"{path}: {error}, and it cannot be rebuilt") from None
    except _Unreadable as error:
        raise SpoolUnusable(f"{path}: a new spool cannot be read either: {error}") from None


def _open_file(path: Path, descriptor: int, now_s: float, machine: str) -> Opened:
    _check_file(path)
    _check_log(path, now_s)
    conn: sqlite3.Connection | None = None
    try:
        _check_format(path)
        # the writer thread takes the connection over; nothing else ever touches it
        conn = sqlite3.connect(path, isolation_level=None, cached_statements=256, check_same_thread=False, timeout=1)
        _set_up(conn, path)
        schema.migrate(conn)
        identity = _identify(conn, _first_id(descriptor, now_s), machine)
        draining = conn.execute(sql.GET_META, ("draining",)).fetchone()
    except BaseException as error:
        if conn is not None:
            conn.close()
        if is_sign(error):
            raise _Unreadable(str(error)) from None
        raise
    note(descriptor, identity.next_id)
    return Opened(conn, descriptor, identity, bool(draining and draining[0]))


def _rebuild(path: Path, broken: Broken, descriptor: int, now_s: float) -> None:
    """Build the spool anew of what can be read, and set the old one aside; where that cannot be done, leave it."""
    least_id = max(broken.next_id, noted(descriptor)[1])
    try:
        done = repairing.repair(path, round(now_s * 1e6), least_id, f"{broken.reason}; it was rebuilt")
    except SpoolUnusable as error:
        log.critical("the spool cannot be rebuilt: %s", error)
    else:
        text = "the spool was rebuilt: %d casts, %d of them dead as damaged, %d more lost; what there was is kept in %s"
        log.critical(text, done.casts, done.damaged, len(done.lost) + done.missing, done.kept)


def _make_room(path: Path) -> bool:
    """Give the ballast up if the disk is full, since a start has to write; True if that is worth another try."""
    disk = os.statvfs(path.parent)
    ballast = Ballast(path)
    ballast.find()
    return disk.f_bavail * disk.f_frsize < BALLAST_BYTES and ballast.give_up()


def _first_id(descriptor: int, now_s: float) -> int:
    """The first id of a spool made now: by the clock, or, should that have gone back, above all that were given out."""
    first, (_, known) = int(now_s) * ID_SCALE, noted(descriptor)
    return first if first > known else known + ID_MARGIN


def close_spool(opened: Opened) -> None:
    """Close the connection (which checkpoints) and let the lock go."""
    opened.conn.close()
    os.close(opened.lock)


def machine_id() -> str:
    """What tells this machine from a clone of it; empty where the system has no such thing."""
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _check_file(path: Path) -> None:
    """Refuse what is no file of ours; make a missing one with its mode, durably."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        _check_lonely_log(path, "has vanished from beside its log")
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        sync(path.parent)
        return
    except OSError as error:
        raise SpoolUnusable(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise SpoolUnusable(f"{path} is not a regular file")
    if found.st_uid != os.geteuid():
        raise SpoolUnusable(f"{path} belongs to uid {found.st_uid}, relay runs as {os.geteuid()}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise SpoolUnusable(f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}); relay keeps it 0600")
    if not found.st_size:
        _check_lonely_log(path, "is empty, and its log is not")
    elif found.st_size < SMALLEST_DATABASE:
        raise _Unreadable(f"the file has been cut to {found.st_size} bytes")


def _check_lonely_log(path: Path, what: str) -> None:
    """SQLite deletes the log of a database that is empty: it is set aside before."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat(f"{path}-wal").st_size:
            raise _Unreadable(f"the file {what}")


def _check_log(path: Path, now_s: float) -> None:
    """Keep a copy of a log of which SQLite will not read all, since the checkpoint ends it."""
    found = wal.inspect(path)
    if found.state == wal.State.TORN:
        log.warning(
            "the spool's log ends with %d bytes of a COMMIT that did not return: a crash left them", found.unread
        )
    elif found.state == wal.State.DAMAGED:
        reason = f"the log is damaged behind frame {found.frames}: {found.unread} bytes of it cannot be read"
        kept = quarantine.keep_log(path, reason, now_s)
        log.critical("the spool's log is damaged: %d bytes cannot be read; a copy is kept in %s", found.unread, kept)


def _check_format(path: Path) -> None:
    """Refuse what is newer or a stranger's, and read what is needed, by a connection that changes not even the log."""
    try:
        _read_needed(f"file:{quote(str(path))}?mode=ro")
    except sqlite3.OperationalError as error:
        if primary(error) != sqlite3.SQLITE_READONLY:
            raise
        # a kill while the spool was being made left a journal, which only a writer can roll back
        _read_needed(f"file:{quote(str(path))}?mode=rw")


def _read_needed(uri: str) -> None:
    conn = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=1)
    try:
        schema.check(conn)
        if found := schema.version(conn):
            needed.read(conn, found)
            if lanes := checking.misnamed(conn):
                raise _Misnamed(f"the function of lane {min(lanes)} is another one in the index than in the table")
    except needed.Rotten as error:
        raise _Unreadable(str(error)) from None
    finally:
        conn.close()


def _set_up(conn: sqlite3.Connection, path: Path) -> None:
    if not _pragma(conn, "page_count"):
        # only before there is anything, and before the log
        conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
    for name, value, expected in PRAGMAS:
        conn.execute(f"PRAGMA {name} = {value}").fetchall()
        found = conn.execute(f"PRAGMA {name}").fetchone()[0]
        if found != expected:
            raise SpoolUnusable(f"{path}: SQLite will not set {name} to {value} (it says {found})")
    _make_durable(conn, path)
    deadline = time.monotonic() + CHECKPOINT_WAIT_S
    while conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() >= deadline:
            raise SpoolUnusable(f"{path}: a reader ({readers(path)}) blocks the checkpoint that a start needs")
        time.sleep(0.05)
    # only now: what is written before stands behind whatever the log in the cache and the one on disk differ by
    _rewrite(conn)


def _make_durable(conn: sqlite3.Connection, path: Path) -> None:
    """Have what SQLite reads of the log be on the disk; the transaction keeps away whoever else would write it."""
    try:
        conn.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if primary(error) != sqlite3.SQLITE_BUSY:
            raise
        raise SpoolUnusable(f"{path}: somebody ({readers(path)}) writes into it, and a start needs its log") from None
    try:
        wal.rewrite(path)
    finally:
        conn.execute("ROLLBACK")


def _rewrite(conn: sqlite3.Connection) -> None:
    """Give a small database that was made without it auto_vacuum=INCREMENTAL; a large one stays as it is.

    So does one that cannot be rewritten: it costs space, not safety, and is no reason to refuse or to set aside.
    """
    if _pragma(conn, "auto_vacuum") == INCREMENTAL or _pragma(conn, "page_count") * PAGE_BYTES > REWRITE_BYTES:
        return
    try:
        # so small it needs no file elsewhere, where the agent may not be allowed to write
        conn.execute("PRAGMA temp_store = MEMORY")
        conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
        conn.execute("VACUUM")
    except sqlite3.Error as error:
        log.warning("the spool cannot be rewritten so that it can shrink: %s", error)


def _pragma(conn: sqlite3.Connection, name: str) -> int:
    found: int = conn.execute(f"PRAGMA {name}").fetchone()[0]
    return found


def _identify(conn: sqlite3.Connection, first_id: int, machine: str) -> Identity:
    """Count the start, and give a new spool, or one that woke up on another machine, an id of its own."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        spools = conn.execute(sql.SPOOLS).fetchall()
        last_id = conn.execute(sql.LAST_ID).fetchone()[0] or 0
        next_id = max(last_id + 1, spools[-1][0] if spools else first_id)
        if not spools or spools[-1][2] != machine:
            made = (next_id, secrets.token_hex(6), machine)
            conn.execute(sql.INSERT_SPOOL, made)
            spools = [spool for spool in spools if spool[0] != next_id] + [made]
        starts = conn.execute(sql.GET_META, ("starts",)).fetchone()
        conn.execute(sql.SET_META, ("starts", (starts[0] if starts else 0) + 1))
    except BaseException:
        conn.execute("ROLLBACK")
        raise
    conn.execute("COMMIT")
    return Identity(tuple((first, spool_id.encode()) for first, spool_id, _ in spools), next_id)
