"""The cast, as it is handed over and as it is stored.

On the path of a cast these are plain tuples, not objects: at some 300,000 casts a second the attribute access and the
constructor of a class cost more than the work done on it (a NamedTuple takes 250 ns to build, a tuple 30).  The shapes
are named here, once, and taken apart by unpacking.

A `Submission` is what a caller handed over.  A `Row` is what stands on disk, column by column, written once and never
updated; what changes about a cast (its failures, when it is due, why it died) is its fate and lives in a row of its
own.

Never does I/O, never fails: only `checksum` computes, and it is total.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias


class Priority(IntEnum):
    """The three priorities of the Gearman protocol; the smaller number goes first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


#: (function, unique, payload, priority): one cast as a caller submitted it.  An empty unique means none.
Submission: TypeAlias = tuple[bytes, bytes, bytes, int]

#: The columns of the table `casts`, in the order of a `Row`.
COLUMNS = ("id", "lane", "accepted_at", "not_before", "uid", "digest", "unique", "crc", "payload")

#: (id, lane, accepted_at us, not_before us or None, uid or None, digest or None, unique or None, crc, payload)
Row: TypeAlias = tuple[int, int, int, int | None, int | None, int | None, bytes | None, int, bytes]


#: The columns that a cast without a unique fills; the others are NULL.
SHORT_COLUMNS = ("id", "lane", "accepted_at", "uid", "crc", "payload")

#: (id, unique or None, payload, since us): what is remembered of a cast while it waits in memory or is in flight; its
#: lifetime runs from `since`, the later of accepted_at and not_before
Waiting: TypeAlias = tuple[int, bytes | None, bytes, int]


class LaneName(NamedTuple):
    """A lane as the spool numbers it: one function at one priority.

    `number` is the key of the table `lanes`; it is the `lane` of a `Row`.
    """

    number: int
    function: bytes
    priority: int


class Arrival:
    """The casts of one read of one caller: what intake hands to the spool, and what the spool answers.

    Intake fills `casts`, `uid` (None where the caller has none) and `settled`; the spool fills `outcome` and calls
    `settled(self)` in the event loop's thread, after COMMIT returned or after the batch was refused.
    """

    __slots__ = ("answered", "casts", "first_id", "not_before", "outcome", "prepared", "settled", "size", "uid")

    def __init__(
        self,
        casts: list[Submission],
        uid: int | None,
        settled: Callable[[Arrival], None],
        not_before: int | None = None,
    ) -> None:
        self.casts = casts
        self.uid = uid
        self.settled = settled
        #: microseconds since the epoch before which the caller wants none of these casts done
        self.not_before = not_before
        #: payload bytes, for whoever bounds what waits
        self.size = sum([len(cast[2]) for cast in casts])
        #: the id of the first cast, should it be accepted; the others' follow
        self.first_id = 0
        #: what the spool could do for it before the writer's turn
        self.prepared: Prepared | None = None
        #: for each cast, in order: its id, or the code of its refusal; a promise only once `answered` is True, which
        #: is set in the event loop's thread after COMMIT returned
        self.answered = False
        self.outcome: Sequence[int | str] = ()

    def __repr__(self) -> str:
        return f"<Arrival of {len(self.casts)} casts, {self.size} bytes, uid {self.uid}>"


class Prepared:
    """An arrival made ready for the writer, in the event loop's thread, while the writer waits for the disk.

    `values` are the columns of all its casts in one flat list: SHORT_COLUMNS, or COLUMNS when `keys` is not empty.
    `fresh` are the casts as (lane, casts in order) for each run of one lane; `keys` are the (function, unique) of those
    with a unique, and `digests` and `ids` theirs.
    """

    __slots__ = ("digests", "fresh", "ids", "keys", "values")

    def __init__(self) -> None:
        self.values: list[object] = []
        self.fresh: list[tuple[int, list[Waiting]]] = []
        self.keys: list[tuple[bytes, bytes]] = []
        self.digests: list[int] = []
        self.ids: list[int] = []


class Taken(NamedTuple):
    """A cast read back from disk for an attempt, and what its fate says of earlier attempts."""

    cast: Waiting
    attempts: int
    failures: int
    #: True when the cast has a fate of state deferred, so that the counts know where it was taken from
    deferred: bool
    #: the idempotency key that an imported cast brought, else None
    key: bytes | None = None


_SEED = struct.Struct("<qqqq").pack
_DIGEST = struct.Struct("<q").pack

#: the types that the columns of a Row may have: integers but for the unique and the payload, None where allowed
_ROW_TYPES = frozenset(
    (int, int, int, not_before, uid, *unique, int, bytes)
    for not_before in (int, type(None))
    for uid in (int, type(None))
    for unique in ((int, bytes), (type(None), type(None)))
)


def seed(lane: int, accepted_at: int, not_before: int | None, uid: int | None) -> int:
    """The part of a checksum that casts of one lane and one arrival share."""
    return zlib.crc32(_SEED(lane, accepted_at, -1 if not_before is None else not_before, -1 if uid is None else uid))


def checksum(seed_: int, id_: int, digest: int | None, unique: bytes | None, payload: bytes) -> int:
    """The CRC-32 over every stored column of a cast.

    SQLite notices few bit flips in the content of a row (38 of 400, measured); this one notices each.  The id goes in
    by exclusive or, folded to 32 bits: a start value of a CRC that differs makes a CRC that differs.
    """
    crc = seed_ ^ ((id_ ^ id_ >> 32) & 0xFFFFFFFF)
    if unique is not None and digest is not None:
        crc = zlib.crc32(unique, zlib.crc32(_DIGEST(digest), crc))
    return zlib.crc32(payload, crc)


def sound(row: tuple[Any, ...]) -> bool:
    """True when a row read back is the row that was written; total, whatever a flipped bit made of its columns."""
    if tuple(map(type, row)) not in _ROW_TYPES:
        return False
    id_, lane, accepted_at, not_before, uid, digest, unique, crc, payload = row
    known: bool = checksum(seed(lane, accepted_at, not_before, uid), id_, digest, unique, payload) == crc
    return known
