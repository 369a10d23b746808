"""What stands in a write-ahead log that nobody has open: how far SQLite will read it, and whether more lies behind.

SQLite reads a WAL up to the first frame whose checksum does not fit, and takes what is behind it for nothing: a bit
that rots there silently drops every later COMMIT (400 of 400 flips, measured).  So it is looked at before SQLite does.

The theory.  Each frame's checksum goes on from the one before it, so two frames that fit each other were written one
after the other.  Behind the first bad frame there may lie the rest of a COMMIT that never returned (a power cut, a full
disk), which nobody was promised: the log is *torn*.  If anywhere behind it a frame fits a frame that ended a
transaction, then that transaction was on disk before the next one began: what SQLite will not read was promised, and
the log is *damaged*.  Frames under other salts are left over from before the log began anew, and mean nothing.

What SQLite will read need not be summed here: a connection that only reads has it recover the log, which it does a
hundred times as fast, and its index then says how far it came.  Only what lies behind that is looked at frame by frame,
and of that no sum is made once damage is sure, nor of frames under other salts.

`inspect` promises: it changes nothing of the database and its log, and sums at most LIMIT bytes.  To be called while
this process has no connection to the database: it closes the index, and with it goes whatever lock it has there.

What a log holds when it is read need not be on the disk: behind an fsync that failed its pages stay in the cache, count
as clean, and no later fsync writes them.  `rewrite` makes them the disk's.  Both raise OSError as the disk does.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

#: bytes of a log that are summed here, some 15 ms each MiB; and frames behind what SQLite reads that are looked at
LIMIT = 32 * 1024 * 1024
MOST_FRAMES = 262_144
#: bytes that are rewritten at a time
_BLOCK = 1024 * 1024
_HEADER = struct.Struct(">IIIIIIII")
_FRAME = struct.Struct(">IIIIII")
#: the beginning of the index, written twice: of interest are isInit, mxFrame, its checksum, and the salts
_INDEX = struct.Struct("=IIIBBHIIII8s8s")
#: the least significant bit says in which order of bytes the checksums were computed
_MAGIC = 0x377F0682
_WORD = 0xFFFFFFFF


class State:
    """What a log may be."""

    SOUND = "sound"
    TORN = "torn"
    DAMAGED = "damaged"


class Wal(NamedTuple):
    """A log: its `state`, the frames that SQLite will read, and the bytes behind them that are this log's as well."""

    state: str
    frames: int
    unread: int


class _Reached(NamedTuple):
    """How far SQLite reads a log: the frame that ended the last transaction, its checksum, and the log's salts."""

    frames: int
    sums: tuple[int, int]
    salts: bytes


def inspect(path: Path) -> Wal:
    """Look at the log beside the database at `path`; one that is missing or empty is sound."""
    try:
        with Path(f"{path}-wal").open("rb") as log:
            return _inspect(log, path)
    except FileNotFoundError:
        return Wal(State.SOUND, 0, 0)


def rewrite(path: Path) -> None:
    """Write the log beside the database at `path` once more, each byte where it stands, and sync it.

    To be called while nobody else can write the log.  A kill or a power cut at any step leaves what was there.
    """
    with contextlib.suppress(FileNotFoundError), Path(f"{path}-wal").open("r+b") as log:
        while block := log.read(_BLOCK):
            log.seek(-len(block), os.SEEK_CUR)
            log.write(block)
        if log.tell():
            log.flush()
            os.fsync(log.fileno())


def _reached(path: Path) -> _Reached | None:
    """Have SQLite read the log, and see how far it came; None where that cannot be told."""
    try:
        conn = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=1)
        with closing(conn):
            conn.execute("SELECT count(*) FROM sqlite_master").fetchone()
            with Path(f"{path}-shm").open("rb") as index:
                raw = index.read(2 * _INDEX.size)
    except (sqlite3.Error, OSError):
        return None
    if len(raw) < 2 * _INDEX.size or raw[: _INDEX.size] != raw[_INDEX.size :]:
        return None
    _, _, _, begun, _, _, frames, _, first, second, salts, _ = _INDEX.unpack(raw[: _INDEX.size])
    return _Reached(frames, (first, second), salts) if begun else None


def _inspect(log: BinaryIO, path: Path) -> Wal:
    raw = log.read(_HEADER.size)
    if not raw:
        return Wal(State.SOUND, 0, 0)
    if len(raw) < _HEADER.size:
        return Wal(State.TORN, 0, len(raw))
    magic, _, page, _, *salts, first, second = _HEADER.unpack(raw)
    order = ">" if magic & 1 else "<"
    sound = magic | 1 == _MAGIC | 1 and _sum(raw[:24], 0, 0, order) == (first, second)
    if page not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536):
        sound, page = False, 4096
    there = (os.fstat(log.fileno()).st_size - _HEADER.size) // (page + _FRAME.size)
    reached = _reached(path) if sound else None
    if reached is None or reached.salts != raw[16:24] or reached.frames > there:
        return _walk(log, page, order, salts if sound else None, 0, there, {(first, second)})
    log.seek(_HEADER.size + reached.frames * (page + _FRAME.size))
    return _walk(log, page, order, salts, reached.frames, there, {reached.sums})


def _walk(
    log: BinaryIO, page: int, order: str, salts: list[int] | None, frames: int, there: int, sums: set[tuple[int, int]]
) -> Wal:
    """Look at what is behind the good `frames` of those `there`; without `salts` the first one says what they are."""
    sound = salts is not None
    good = committed = frames
    behind, left = 0, LIMIT
    promised = ended = False
    for number in range(frames + 1, min(frames + MOST_FRAMES, there) + 1):
        head = log.read(_FRAME.size)
        _, size, *rest = _FRAME.unpack(head)
        salts, stored = rest[:2] if salts is None else salts, (rest[2], rest[3])
        ours = rest[:2] == salts
        if promised or not (ours or sound):
            # of the sums nothing hangs any more
            log.seek(page, os.SEEK_CUR)
            behind = number if ours else behind
            sums, ended = {stored}, False
            continue
        if left <= 0:
            break
        content, left = log.read(page), left - page
        # a checksum that is itself what rots is made good by that of its frame
        made = {_sum(content, *_sum(head[:8], *before, order), order) for before in sums}
        fits = stored in made
        sums = {stored} if fits else {stored, *made}
        if sound and ours and fits:
            good = number
            committed = number if size else committed
            continue
        # the first bad frame may be one of ours with rotten salts; of the others the salts decide
        ours = ours or (sound and fits)
        promised = promised or (ours and ended and fits)
        behind = number if ours else behind
        ended = ours and size != 0
        sound = False
    if not behind:
        return Wal(State.SOUND, committed, 0)
    return Wal(State.DAMAGED if promised else State.TORN, committed, (behind - good) * (page + _FRAME.size))


def _sum(data: bytes, first: int, second: int, order: str) -> tuple[int, int]:
    """SQLite's checksum of a log, going on from another."""
    for one, two in struct.iter_unpack(f"{order}II", data):
        first = first + one + second & _WORD
        second = second + two + first & _WORD
    return first, second
