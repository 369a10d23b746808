"""Opening the spool, in the order that a crash at any step allows; and closing it.

The order: directory, lock, owner and mode, open, pragmas read back, TRUNCATE, version and migration, identity.  The
checkpoint with TRUNCATE must succeed before anything is accepted: after a WAL fsync that failed, recovery may read
frames from the page cache that never reached the disk, and what is committed behind that hole a power cut takes (10 of
10 acknowledged casts lost on ext4; none in 134,775 crash states with the TRUNCATE).

Each step refuses with SpoolUnusable (73) or SpoolOwned (75) and one line; nothing is ever overwritten or deleted.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from relay.errors import SpoolOwned, SpoolUnusable
from relay.spool import schema
from relay.spool import statements as sql

#: an id of a new spool is its Unix time times this: ids of a spool made later are always higher
ID_SCALE = 1 << 20
#: bytes of the smallest database that SQLite makes: a page
SMALLEST_DATABASE = 512
#: seconds to wait for another agent's lock, and for a reader that blocks the checkpoint
LOCK_WAIT_S = 30.0
CHECKPOINT_WAIT_S = 5.0

#: (pragma, value to set, value to read back)
PRAGMAS: tuple[tuple[str, str, object], ...] = (
    ("auto_vacuum", "INCREMENTAL", 2),
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
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


def prepare_directory(path: Path) -> None:
    """Make the spool's directory 0700, durably, and refuse one that others may write."""
    directory = path.parent
    try:
        if not directory.exists():
            directory.mkdir(mode=0o700)
            _sync(directory.parent)
        found = directory.stat()
    except OSError as error:
        raise SpoolUnusable(f"{directory}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise SpoolUnusable(f"{directory} is not a directory")
    if found.st_uid not in (os.geteuid(), 0):
        raise SpoolUnusable(f"{directory} belongs to uid {found.st_uid}, relay runs as {os.geteuid()}")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise SpoolUnusable(f"{directory} may be written by others (mode {stat.S_IMODE(found.st_mode):04o})")


def lock(path: Path, wait_s: float, pause: Callable[[float], None] = time.sleep) -> int:
    """Own the spool: the descriptor of its lock file; SpoolOwned when another agent keeps it for `wait_s` seconds."""
    name = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SpoolUnusable(f"{name}: {error.strerror}") from None
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                os.close(descriptor)
                raise SpoolOwned(f"another agent (pid {owner or 'unknown'}) owns {path}") from None
            pause(0.1)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return descriptor


def open_spool(path: Path, now_s: float, machine_id: str, lock_wait_s: float = LOCK_WAIT_S) -> Opened:
    """Open or make the spool at `path`; `now_s` is the Unix time a new one counts its ids from."""
    prepare_directory(path)
    descriptor = lock(path, lock_wait_s)
    conn: sqlite3.Connection | None = None
    try:
        _check_file(path)
        # the writer thread takes the connection over; nothing else ever touches it
        conn = sqlite3.connect(path, isolation_level=None, cached_statements=256, check_same_thread=False, timeout=1)
        schema.check(conn)
        _set_up(conn, path)
        schema.migrate(conn)
        identity = _identify(conn, now_s, machine_id)
        draining = conn.execute(sql.GET_META, ("draining",)).fetchone()
    except sqlite3.Error as error:
        _give_up(conn, descriptor)
        raise SpoolUnusable(f"{path}: {error}") from None
    except BaseException:
        _give_up(conn, descriptor)
        raise
    return Opened(conn, descriptor, identity, bool(draining and draining[0]))


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
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _sync(path.parent)
        return
    except OSError as error:
        raise SpoolUnusable(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise SpoolUnusable(f"{path} is not a regular file")
    if found.st_uid != os.geteuid():
        raise SpoolUnusable(f"{path} belongs to uid {found.st_uid}, relay runs as {os.geteuid()}")
    if 0 < found.st_size < SMALLEST_DATABASE:
        raise SpoolUnusable(f"{path} is no database")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise SpoolUnusable(f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}); relay keeps it 0600")


def _set_up(conn: sqlite3.Connection, path: Path) -> None:
    for name, value, expected in PRAGMAS:
        conn.execute(f"PRAGMA {name} = {value}").fetchall()
        found = conn.execute(f"PRAGMA {name}").fetchone()[0]
        # an existing database keeps its auto_vacuum; it costs space, not safety
        if found != expected and name != "auto_vacuum":
            raise SpoolUnusable(f"{path}: SQLite will not set {name} to {value} (it says {found})")
    deadline = time.monotonic() + CHECKPOINT_WAIT_S
    while conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() >= deadline:
            raise SpoolUnusable(f"{path}: a reader ({readers(path)}) blocks the checkpoint that a start needs")
        time.sleep(0.05)


def readers(path: Path) -> str:
    """The processes beside this one that have the spool open, for people: `pid 12 (sqlite3), pid 13 (python3)`."""
    found = []
    target = os.path.realpath(path)
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) != os.getpid() and any(
                os.path.realpath(link) == target for link in (entry / "fd").iterdir()
            ):
                found.append(f"pid {entry.name} ({(entry / 'comm').read_text().strip()})")
        except OSError:
            continue
    return ", ".join(found) or "of unknown pid"


def _identify(conn: sqlite3.Connection, now_s: float, machine: str) -> Identity:
    """Count the start, and give a new spool, or one that woke up on another machine, an id of its own."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        spools = conn.execute(sql.SPOOLS).fetchall()
        last_id = conn.execute(sql.LAST_ID).fetchone()[0] or 0
        next_id = max(last_id + 1, spools[-1][0] if spools else int(now_s) * ID_SCALE)
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


def _give_up(conn: sqlite3.Connection | None, descriptor: int) -> None:
    if conn is not None:
        conn.close()
    os.close(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
