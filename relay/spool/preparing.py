"""What can be done for an arrival before the writer's turn: checksums, digests, and the rows as flat lists.

The interpreter runs one thread at a time, and SQLite runs outside its lock; so the writer's thread is kept for SQLite,
and whatever can be computed without the database is computed in the event loop's thread while the writer waits for the
disk.  Pure; `now` is an argument.  What is rare is not prepared, and the writer goes through it cast by cast: a
function that has no lane yet, and casts for later.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from collections.abc import Mapping
from hashlib import blake2b
from zlib import crc32

from relay.cast import Arrival, Prepared, Waiting, checksum, seed

_MESSAGE_ID_FORM = re.compile(rb"[0-9a-f]{32}\Z").match


def is_message_id(unique: bytes) -> bool:
    """32 lower-case hex digits: the caller's own name for a message, and so its idempotency key."""
    return _MESSAGE_ID_FORM(unique) is not None


def digest(unique: bytes) -> int:
    """64 bits to find a unique by, signed.

    Of a message id the first 48 bits stand in front, so that ids made in the order of time (UUIDv7: its millisecond) go
    to the end of the index and a batch touches few of its pages; the rest is a hash, so that ids which share their
    beginning do not share it all.  Casts found by it are compared in full.
    """
    hashed = blake2b(unique, digest_size=8).digest()
    if is_message_id(unique):
        hashed = unhexlify(unique[:12]) + hashed[6:]
    return int.from_bytes(hashed, "big", signed=True)


def kept_unique(unique: bytes, payload: bytes) -> bytes | None:
    """A caller's unique as it is stored: None for none, and for `-` (the payload's digest) a name made of it."""
    if unique == b"-":
        return b"-" + blake2b(payload, digest_size=16).hexdigest().encode()
    return unique or None


def prepare(arrival: Arrival, now: int, lanes: Mapping[tuple[bytes, int], int]) -> Prepared | None:
    """The arrival as rows, accepted at `now` (us); None where it is for later, or names a function without a lane."""
    if arrival.not_before is not None:
        return None
    if any([cast[1] for cast in arrival.casts]):  # noqa: C419 - a list is twice as fast as a generator here
        return _named(arrival, now, lanes)
    return _plain(arrival, now, lanes)


def _plain(arrival: Arrival, now: int, lanes: Mapping[tuple[bytes, int], int]) -> Prepared | None:
    """The path of most casts: no unique among them.  A run of one lane shares what it can."""
    made = Prepared()
    values, uid, id_ = made.values, arrival.uid, arrival.first_id
    last_function, last_priority = b"", -1
    lane: int | None = 0
    seeded = 0
    mine: list[Waiting] = []
    for function, _, payload, priority in arrival.casts:
        if priority != last_priority or function != last_function:
            last_function, last_priority = function, priority
            lane = lanes.get((function, priority))
            if lane is None:
                return None
            seeded = seed(lane, now, None, uid)
            mine = []
            made.fresh.append((lane, mine))
        # the checksum is `cast.checksum`, without the call
        crc = crc32(payload, seeded ^ ((id_ ^ id_ >> 32) & 0xFFFFFFFF))
        values += (id_, lane, now, uid, crc, payload)
        mine.append((id_, None, payload, now))
        id_ += 1
    return made


def _named(arrival: Arrival, now: int, lanes: Mapping[tuple[bytes, int], int]) -> Prepared | None:
    """The same with uniques."""
    made = Prepared()
    values, uid, id_ = made.values, arrival.uid, arrival.first_id
    last_function, last_priority = b"", -1
    lane: int | None = 0
    seeded = 0
    mine: list[Waiting] = []
    for function, given, payload, priority in arrival.casts:
        if priority != last_priority or function != last_function:
            last_function, last_priority = function, priority
            lane = lanes.get((function, priority))
            if lane is None:
                return None
            seeded = seed(lane, now, None, uid)
            mine = []
            made.fresh.append((lane, mine))
        unique = kept_unique(given, payload)
        key = None
        if unique is not None:
            key = digest(unique)
            made.keys.append((function, unique))
            made.digests.append(key)
            made.ids.append(id_)
        values += (id_, lane, now, None, uid, key, unique, checksum(seeded, id_, key, unique, payload), payload)
        mine.append((id_, unique, payload, now))
        id_ += 1
    return made
