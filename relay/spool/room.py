"""How much more the spool may hold, and why it may hold no more.

Three bounds.  `max_casts` and `max_bytes` are the operator's: casts, and bytes, of payloads or of the pages in use less
OVERHEAD for what an empty spool needs, whichever is more.  `min_free` is the disk's: what is free there and inside of
the database.  Below any of them new casts are refused, and nothing else is: what is there is forwarded and retired.

Two backstops, should these be passed all the same.  The database's own limit, `max_page_count`, stands BACKSTOP_BYTES
above max_bytes; it gives way to verdicts, which must be stored wherever there is a disk.  And at a full disk the
ballast is given up; until it is made again no cast is taken.

Runs in the writer's thread.  Raises sqlite3.Error; a disk whose free space cannot be learnt counts as full.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from pathlib import Path

from relay.settings import Spool as Limits
from relay.spool.ballast import BALLAST_BYTES, Ballast

log = logging.getLogger(__name__)

#: bytes of a page of the database
PAGE_BYTES = 4096
#: bytes in use that do not count towards max_bytes
OVERHEAD = 4 * 1024 * 1024
#: bytes above max_bytes at which SQLite itself stops the database from growing
BACKSTOP_BYTES = 16 * 1024 * 1024
#: seconds that one look at the free disk space is good for
SPACE_S = 0.1
_PLENTY = 1 << 62
_MOST_PAGES = 0xFFFFFFFE


class Room:
    """The bounds of the spool at `path`, over its writer's connection."""

    def __init__(self, conn: sqlite3.Connection, path: Path, limits: Limits, ballast: Ballast) -> None:
        self._conn = conn
        self._directory = path.parent
        self._ballast = ballast
        self._looked_at = 0.0
        self._enough = True
        self._limits = limits
        self._stopped_for: Limits | None = None

    def limit(self, limits: Limits) -> None:
        """Put other limits in force from the next look on; the one call that any thread may make."""
        self._limits = limits

    def left(self, kept: int, kept_bytes: int) -> tuple[str | None, int, int]:
        """(code that refuses every new cast, casts that have room, bytes that have room)."""
        limits = self._limits
        if limits is not self._stopped_for:
            self._stopped_for, self._looked_at = limits, 0.0
            self._stop_at(limits.max_bytes + BACKSTOP_BYTES if limits.max_bytes else 0)
        casts = limits.max_casts - kept if limits.max_casts else _PLENTY
        size = _PLENTY
        if limits.max_bytes:
            size = limits.max_bytes - max(kept_bytes, self._used() - OVERHEAD)
        return None if self._has_space() else "disk_full", casts, size

    def exceeds_quota(self, error: sqlite3.Error) -> bool:
        """True for a write that failed where there is no room for more: SQLite knows a full disk, but no quota."""
        return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_WRITE and self._ballast.lacks_room()

    def over_quota(self) -> None:
        """The quota is used up, which the free space of the disk does not show."""
        self._ballast.give_up()
        self._enough = False

    def filled(self, *, casts: bool) -> None:
        """SQLite says that it is full: make what room can be made, for verdicts at any rate.

        The transaction was rolled back, and the database with it to what it was before: how many pages it has now does
        not say whether it was its limit that stopped it.
        """
        most = self._pragma("max_page_count")
        if most < _MOST_PAGES and not casts:
            self._stop_at(most * PAGE_BYTES + BACKSTOP_BYTES)
        if most >= _MOST_PAGES or self._free() < BALLAST_BYTES:
            self._ballast.give_up()
            self._enough = False

    def _used(self) -> int:
        return (self._pragma("page_count") - self._pragma("freelist_count")) * PAGE_BYTES

    def _has_space(self) -> bool:
        now = time.monotonic()
        if now - self._looked_at >= SPACE_S:
            self._looked_at = now
            free = self._free()
            least = self._limits.min_free
            inside = self._pragma("freelist_count") * PAGE_BYTES if least else 0
            self._enough = self._ballast.make(free - least) and free + inside >= least
        return self._enough

    def _free(self) -> int:
        """Bytes free on the disk; 0 where that cannot be learnt."""
        try:
            disk = os.statvfs(self._directory)
        except OSError as error:
            if self._enough:
                log.error("the free space of the spool's disk cannot be learnt: %s", error)
            return 0
        return disk.f_bavail * disk.f_frsize

    def _pragma(self, name: str) -> int:
        found: int = self._conn.execute(f"PRAGMA {name}").fetchone()[0]
        return found

    def _stop_at(self, size: int) -> None:
        """Have SQLite refuse to grow the database beyond `size` bytes; 0: never."""
        pages = size // PAGE_BYTES if size else _MOST_PAGES
        self._conn.execute(f"PRAGMA max_page_count = {pages}").fetchall()
