"""What is done for the file while nobody wants anything of it: its log cut short, free pages given back, casts read.

Three chores, a slice of one at a time, each in a transaction of its own that aims at SLICE_S, so that a caller who
comes in the middle does not notice.  *Shorten*: a log that a reader let grow is written back and cut off, once that
reader has gone.  *Shrink*: after a backlog has drained, free pages beyond SPARE_BYTES are given back to the disk (all
at once, or whenever a page is free, would cost more than the pages are worth).  *Verify*: what lies long on disk is
read and its checksum compared, one pass a day; a rotten cast is only reported here, it is set aside when it is taken,
and no news from then on.

A slice begins when nothing came for IDLE_S.  Where there is never such a pause nothing is shrunk, and nothing needs to
be: pages that are free are used again.

Runs in the writer's thread.  Never raises: an error is logged, and the chore is left alone for REST_S.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relay.cast import sound
from relay.spool import statements as sql
from relay.spool.codes import is_sign
from relay.spool.opening import INCREMENTAL
from relay.spool.schema import number

log = logging.getLogger(__name__)

#: seconds without work after which a slice may begin, and between two looks when there is nothing to do
IDLE_S = 0.02
LOOK_S = 1.0
#: seconds that a slice aims at
SLICE_S = 0.005
#: seconds that a chore rests after an error
REST_S = 60.0
#: bytes of a log that nobody needs to be longer
LOG_BYTES = 8 * 1024 * 1024
#: bytes of free pages that are kept for the next casts, and as many again that it takes to begin
SPARE_BYTES = 16 * 1024 * 1024
#: pages that a slice gives back: at first, at most
FIRST_PAGES, MOST_PAGES = 32, 2048
_PAGE_BYTES = 4096
#: casts, and bytes of them, that a slice verifies; seconds from one slice to the next, and from one pass to the next
VERIFY_CASTS, VERIFY_BYTES = 64, 1024 * 1024
VERIFY_S = 0.25
PASS_S = 86400.0


def fitting(pages: int, took_s: float) -> int:
    """How many pages the next slice gives back, after one of so many took so long."""
    if took_s > 2 * SLICE_S:
        return max(1, pages // 2)
    return min(2 * pages, MOST_PAGES) if took_s < SLICE_S else pages


class Upkeep:
    """The chores of one spool, over its writer's connection."""

    def __init__(self, conn: sqlite3.Connection, path: Path, suspect: Callable[[str], None] = lambda _: None) -> None:
        """`suspect` is told of what only a broken spool does."""
        self._conn = conn
        self._suspect = suspect
        self._log = f"{path}-wal"
        self._pages = FIRST_PAGES
        self._shrinking = False
        self._verified_to = 0
        self._verify_at = time.monotonic() + VERIFY_S
        #: ids of casts that this pass found rotten
        self._found: list[int] = []
        #: the same of the last whole pass
        self.rotten: tuple[int, ...] = ()
        #: when the next slice may begin, if nothing comes before
        self._wanted_at = time.monotonic() + LOOK_S

    @property
    def next_at(self) -> float:
        """When to be called next, seen from now, if nothing else is to be done."""
        return max(self._wanted_at, time.monotonic() + IDLE_S)

    def step(self, now: float) -> None:
        """Do one slice of whatever is due."""
        if now < self._wanted_at:
            return
        try:
            # what a slice moves goes into the log, which a reader must not make as long as the file
            busy = not self._is_long_after_shortening() and self._shrink()
            self._wanted_at = now + (IDLE_S if busy else self._verify(now))
        except sqlite3.Error as error:
            log.error("the upkeep of the spool failed: %s", error)
            if is_sign(error):
                self._suspect(str(error))
            self._wanted_at = now + REST_S

    def _is_long_after_shortening(self) -> bool:
        """Cut a long log short; True where a reader keeps it long."""
        if not self._is_long():
            return False
        # a reader makes it busy, and is not waited for
        self._conn.execute("PRAGMA busy_timeout = 0").fetchall()
        try:
            self._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self._conn.execute("PRAGMA busy_timeout = 1000").fetchall()
        return self._is_long()

    def _is_long(self) -> bool:
        try:
            return os.stat(self._log).st_size > LOG_BYTES
        except OSError:
            return False

    def _shrink(self) -> bool:
        free = self._pragma("freelist_count") * _PAGE_BYTES
        self._shrinking = free > (SPARE_BYTES if self._shrinking else 2 * SPARE_BYTES)
        if not self._shrinking or self._pragma("auto_vacuum") != INCREMENTAL:
            return False
        pages = min(self._pages, (free - SPARE_BYTES) // _PAGE_BYTES)
        began = time.monotonic()
        # execute() would give back one page, however many it is told
        self._conn.executescript(f"PRAGMA incremental_vacuum({pages})")
        self._pages = fitting(pages, time.monotonic() - began)
        return True

    def _verify(self, now: float) -> float:
        """Verify a slice if it is time; seconds until the next look at anything."""
        if now >= self._verify_at:
            self._verify_at = now + (VERIFY_S if self._verify_some() else PASS_S)
        return min(LOOK_S, max(IDLE_S, self._verify_at - now))

    def _verify_some(self) -> bool:
        """Read some casts behind the last one read; False at the end of a pass."""
        try:
            last, found = self._read_some()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            self._suspect(str(error))
            last, found = self._read_singly()
        self._found += [id_ for id_ in found if not self._set_aside(id_)]
        if last > self._verified_to:
            self._verified_to = last
            return True
        if set(self._found) - set(self.rotten):
            log.error("casts that lie in the spool are damaged: %d, the first is %d", len(self._found), self._found[0])
        self.rotten, self._found, self._verified_to = tuple(self._found), [], 0
        return False

    def _set_aside(self, id_: int) -> bool:
        """Whether a rotten cast is dead as damaged; one whose fate cannot be read is not known to be."""
        try:
            return self._conn.execute(sql.SET_ASIDE, (id_,)).fetchone() is not None
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return False

    def _read_some(self) -> tuple[int, list[int]]:
        """Verify a slice: the last id read, and the ids of what is rotten."""
        last, size = self._verified_to, 0
        for id_, more in self._conn.execute(sql.SIZES_AFTER, (last, VERIFY_CASTS)).fetchall():
            size += number(more)
            if last > self._verified_to and size > VERIFY_BYTES:
                break
            last = id_
        rows = self._conn.execute(sql.READ_CASTS, (self._verified_to, last)).fetchall()
        self._compare(rows, last)
        return last, [row[0] for row in rows if not sound(row)]

    def _compare(self, rows: list[tuple[Any, ...]], last: int) -> None:
        """The index by which casts are taken has to know all of them, and no others."""
        known: set[int] = set()
        for lane in {row[1] for row in rows}:
            known.update([id_ for (id_,) in self._conn.execute(sql.IDS_BETWEEN, (lane, self._verified_to, last))])
        there = {row[0] for row in rows}
        if there != known:
            what = "no index knows of cast" if there - known else "only an index knows of cast"
            self._suspect(f"{what} {min(there - known or known - there)}")

    def _read_singly(self) -> tuple[int, list[int]]:
        """The same where a page of the table cannot be read: the ids by the index alone, then one cast at a time."""
        ids: list[int] = []
        for (lane,) in self._conn.execute(sql.LANE_NUMBERS).fetchall():
            ids += [row[0] for row in self._conn.execute(sql.IDS_AFTER, (lane, self._verified_to, VERIFY_CASTS))]
        chosen = sorted(ids)[:VERIFY_CASTS]
        return (chosen[-1] if chosen else self._verified_to), [id_ for id_ in chosen if not self._is_sound(id_)]

    def _is_sound(self, id_: int) -> bool:
        try:
            row = self._conn.execute(sql.READ_CAST, (id_,)).fetchone()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            return False
        return row is not None and sound(row)

    def _pragma(self, name: str) -> int:
        found: int = self._conn.execute(f"PRAGMA {name}").fetchone()[0]
        return found
