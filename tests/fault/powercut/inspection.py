"""Opening a spool as the agent does at its start, and what it says of itself then.

Promises: the order is the agent's own (`relay.spool.opening`), then the lanes are loaded, then each cast is read and
its checksum compared. Whatever does not fit is a complaint in words. The spool is changed by that, as by a start.
"""

import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from relay.cast import COLUMNS, sound
from relay.errors import RelayError
from relay.spool.opening import close_spool, open_spool
from relay.spool.quarantine import kept
from relay.spool.transitions import Transitions

_CASTS = "SELECT " + ", ".join(f'"{name}"' for name in COLUMNS) + " FROM casts"
_BY_LANE = "SELECT lane, count(*), sum(length(payload)) FROM casts GROUP BY lane"
_BY_STATE = "SELECT lane, state, count(*) FROM fates GROUP BY lane, state"


class Found(NamedTuple):
    """What is in a spool: payloads by id, the next id it would give out, and what is wrong with it."""

    payloads: dict[int, bytes]
    next_id: int
    complaints: list[str]


def inspect(path: Path) -> Found:
    """Open, read everything, close."""
    try:
        opened = open_spool(path, time.time(), "a machine", 0)
    except RelayError as error:
        return Found({}, 0, [f"does not open: {error}"])
    complaints = [f"set aside: {reason}" for _, reason in kept(path)]
    payloads: dict[int, bytes] = {}
    try:
        transitions = Transitions(opened.conn, opened.draining)
        lanes = transitions.load()
        for row in opened.conn.execute(_CASTS):
            if sound(row):
                payloads[row[0]] = row[8]
            else:
                complaints.append(f"cast {row[0]} is damaged")
        counted = {lane: (casts, size) for lane, casts, size in opened.conn.execute(_BY_LANE)}
        by_state = {(lane, state): casts for lane, state, casts in opened.conn.execute(_BY_STATE)}
        for name, counts in lanes.items():
            found = *counted.pop(name.number, (0, 0)), *(by_state.get((name.number, s), 0) for s in _STATES)
            said = counts.kept, counts.bytes, counts.deferred, counts.held, counts.dead
            if found != said or counts.ready < 0:
                complaints.append(f"the counts of lane {name.number} say {said} and there are {found}")
        if counted:
            complaints.append(f"casts without a lane: {counted}")
        check = opened.conn.execute("PRAGMA quick_check").fetchone()[0]
        if check != "ok":
            complaints.append(f"quick_check: {check}")
    except sqlite3.Error as error:
        complaints.append(f"cannot be read: {error}")
    finally:
        close_spool(opened)
    return Found(payloads, opened.identity.next_id, complaints)


_STATES = ("deferred", "held", "dead")
