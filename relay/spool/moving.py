"""Casts as lines of JSON, out of one spool and into another, for moving a backlog to another host.

A line has everything of a cast: `origin` (its spool and id there, kept over any number of moves), `key` (its
idempotency key, which goes on the wire here as it did there), `function`, `unique` or `unique_base64`, `priority`,
`state`, `accepted_at` and `not_before` (Unix seconds), `uid`, `attempts`, `failures`, `reason`, `last_error`, and
`payload` or `payload_base64`.  Only `function` and a payload must be there.

Promises: the same line twice is one cast, for as long as the spool remembers its origin (see `chores`); a line that
cannot be read takes the whole piece with it, so that nothing is half done.  What a caller or an operator said of a cast
holds here too: held stays held, dead stays dead, a moment to come is waited for.  Everything else is ready.

`parse` raises ValueError; the rest raises sqlite3.Error as SQLite does.
"""

from __future__ import annotations

import base64
import binascii
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from relay.cast import Priority, checksum, seed, sound
from relay.lifecycle import Event, State, after
from relay.spool import reading, schema
from relay.spool import statements as sql
from relay.spool.edits import EXPORT
from relay.spool.opening import Identity
from relay.spool.preparing import digest, is_message_id
from relay.spool.transitions import Transitions

#: bytes of a function and of a unique, as callers may have them
FUNCTION_LIMIT, UNIQUE_LIMIT = 512, 64
#: bytes of a key and of an origin: with what tells sends apart behind it, a key fits a job server's unique
KEY_LIMIT = 40
#: seconds for which the origin of an imported cast is remembered once the cast is gone
ORIGINS_KEPT_S = 30 * 86400.0
_EARLIEST, _LATEST = 0, 1 << 62


class Incoming(NamedTuple):
    """A line, read; times in microseconds."""

    origin: str
    key: str
    function: bytes
    unique: bytes | None
    priority: int
    state: str
    accepted_at: int | None
    not_before: int | None
    uid: int | None
    attempts: int
    failures: int
    reason: str
    error: str
    payload: bytes


@dataclass(slots=True)
class Imported:
    """What came of lines: casts that are new here, lines that were here already, twins of living casts."""

    imported: int = 0
    repeated: int = 0
    twins: int = 0


# -- out ---------------------------------------------------------------------------------------------------------------


def lines(
    conn: sqlite3.Connection, identity: Identity, ids: Sequence[int], now: int, *, kept: bool = False
) -> Iterator[bytes]:
    """A line for each of these casts that is still here, with `kept` only for those that are held or dead.

    One whose checksum does not fit, or whose function is not known, has a line of its id and `damaged`.
    """
    # a fate has no checksum: a text of it may be none any more
    conn.text_factory = reading.text
    for id_ in ids:
        row = conn.execute(sql.READ_CAST, (id_,)).fetchone()
        if row is None:
            continue
        fate = conn.execute(sql.READ_FATE, (id_,)).fetchone()
        if kept and (fate is None or fate[0] not in ("held", "dead")):
            continue
        lane = conn.execute(sql.READ_LANE, (row[1],)).fetchone()
        if lane is None or not sound(row):
            yield json.dumps({"id": id_, "damaged": True}).encode() + b"\n"
            continue
        moved = conn.execute(sql.READ_IMPORT, (id_,)).fetchone()
        yield _line(row, fate, lane, moved, identity, now)


def _line(row: Any, fate: Any, lane: Any, moved: Any, identity: Identity, now: int) -> bytes:
    id_, _, accepted_at, not_before, uid, _, unique, _, payload = row
    state, attempts, failures, reason, error, held_by = fate or ("ready", 0, 0, "", "", "")
    here = f"{identity.spool_id(id_).decode()}-{id_}"
    key = unique.decode() if unique is not None and is_message_id(unique) else here
    if moved is not None:
        here, key = moved
    if held_by == EXPORT:
        state = "deferred" if not_before is not None and not_before > now else "ready"
    line = {
        "id": id_,
        "origin": here,
        "key": key,
        "function": lane[0].decode("ascii"),
        **_bytes("unique", unique),
        "priority": Priority(lane[1]).name.lower(),
        "state": reading.text(state),
        "accepted_at": accepted_at / 1e6,
        "not_before": None if not_before is None else not_before / 1e6,
        "uid": uid,
        "attempts": schema.number(attempts),
        "failures": schema.number(failures),
        "reason": reading.text(reason),
        "last_error": reading.text(error),
        **_bytes("payload", payload),
    }
    return json.dumps(line).encode() + b"\n"


def _bytes(name: str, value: bytes | None) -> dict[str, str | None]:
    """Bytes as text where they are UTF-8, else in base64."""
    if value is None:
        return {name: None}
    try:
        return {name: value.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode("ascii")}


# -- in ----------------------------------------------------------------------------------------------------------------


def parse_all(body: bytes) -> list[Incoming]:
    """Lines; ValueError names the one that cannot be read."""
    casts = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if line.strip():
            try:
                casts.append(parse(line))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from None
    return casts


def parse(line: bytes) -> Incoming:
    """A line; ValueError says what is wrong with it."""
    try:
        found = json.loads(line)
    except ValueError:
        raise ValueError("it is no JSON, or was cut short") from None
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    function = _text(found, "function").encode("utf-8")
    if not 0 < len(function) <= FUNCTION_LIMIT or not all(0x21 <= byte <= 0x7E for byte in function):
        raise ValueError("function is none")
    unique = _read_bytes(found, "unique")
    if unique is not None and not 0 < len(unique) <= UNIQUE_LIMIT:
        raise ValueError(f"unique has 1 to {UNIQUE_LIMIT} bytes")
    payload = _read_bytes(found, "payload")
    if payload is None:
        raise ValueError("payload is missing")
    priority = found.get("priority", "normal")
    if priority not in ("high", "normal", "low"):
        raise ValueError("priority is high, normal or low")
    state = found.get("state", "ready")
    if state not in ("ready", "deferred", "held", "dead"):
        raise ValueError("state is ready, deferred, held or dead")
    key = _word(found, "key", "")
    return Incoming(
        origin=_word(found, "origin", key),
        key=key,
        function=function,
        unique=unique,
        priority=Priority[priority.upper()].value,
        state=state,
        accepted_at=_moment(found, "accepted_at"),
        not_before=_moment(found, "not_before"),
        uid=_number(found, "uid", None),
        attempts=_number(found, "attempts", 0) or 0,
        failures=_number(found, "failures", 0) or 0,
        reason=_text(found, "reason", ""),
        error=_text(found, "last_error", ""),
        payload=payload,
    )


def _text(found: dict[str, Any], name: str, default: str | None = None) -> str:
    value = found.get(name, default)
    if not isinstance(value, str) or len(value) > 65536:
        raise ValueError(f"{name} is no text")
    value.encode("utf-8")
    return value


def _word(found: dict[str, Any], name: str, default: str) -> str:
    """Text that goes on the wire as it is: a NUL in it would end it there, and begin the payload."""
    word = _text(found, name, default)
    if len(word) > KEY_LIMIT or not all("!" <= letter <= "~" for letter in word):
        raise ValueError(f"{name} has at most {KEY_LIMIT} bytes from 0x21 to 0x7e")
    return word


def _number(found: dict[str, Any], name: str, default: int | None) -> int | None:
    value = found.get(name, default)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < _LATEST:
        raise ValueError(f"{name} is no integer of 0 or more")
    return int(value)


def _moment(found: dict[str, Any], name: str) -> int | None:
    value = found.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not _EARLIEST <= value < _LATEST / 1e6:
        raise ValueError(f"{name} is no Unix time")
    moment: int = round(value * 1e6)
    return moment


def _read_bytes(found: dict[str, Any], name: str) -> bytes | None:
    text, encoded = found.get(name), found.get(f"{name}_base64")
    if encoded is not None:
        if not isinstance(encoded, str) or text is not None:
            raise ValueError(f"{name}_base64 is no text, or stands beside {name}")
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise ValueError(f"{name}_base64: {error}") from None
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"{name} is no text")
    return text.encode("utf-8")


def bring_in(
    transitions: Transitions, identity: Identity, casts: Sequence[Incoming], first_id: int, now: int
) -> Imported:
    """Take these casts in, in one transaction that others begin and end; ids from `first_id` on are theirs."""
    said = Imported()
    for id_, cast in enumerate(casts, first_id):
        if _known(transitions, identity, cast.origin):
            said.repeated += 1
        elif cast.unique is not None and transitions.find_twin(cast.function, cast.unique) is not None:
            if cast.state != "dead":
                said.twins += 1
                continue
            _insert(transitions, id_, cast, now)
            said.imported += 1
        else:
            _insert(transitions, id_, cast, now)
            said.imported += 1
    return said


def _known(transitions: Transitions, identity: Identity, origin: str) -> bool:
    """True where the cast of this origin was imported before, or is one of our own that is still here."""
    if not origin:
        return False
    if transitions.execute(sql.FIND_ORIGIN, (origin,)).fetchone() is not None:
        return True
    spool, _, number = origin.partition("-")
    ours = number.isascii() and number.isdigit() and len(number) < 19
    if not ours or identity.spool_id(int(number)).decode() != spool:
        return False
    return transitions.execute(sql.UNIQUE, (int(number),)).fetchone() is not None


def _insert(transitions: Transitions, id_: int, cast: Incoming, now: int) -> None:
    lane = transitions.ledger.lane(cast.function, cast.priority)
    accepted_at = now if cast.accepted_at is None else min(cast.accepted_at, now)
    key = digest(cast.unique) if cast.unique is not None else None
    crc = checksum(seed(lane, accepted_at, cast.not_before, cast.uid), id_, key, cast.unique, cast.payload)
    row = (id_, lane, accepted_at, cast.not_before, cast.uid, key, cast.unique, crc, cast.payload)
    transitions.execute(sql.INSERT_CASTS[1], row)
    counts = transitions.ledger.changes.of(lane)
    counts.accepted += 1
    counts.bytes += len(cast.payload)
    transitions.ledger.changes.last_ids[lane] = id_
    state, due_at, held_by = after(State.NOWHERE, Event.ACCEPT), None, ""
    pattern = transitions.holds.pattern(lane, now)
    if cast.state == "dead":
        state = State.DEAD
        counts.dead += 1
    elif cast.state == "held" or pattern is not None:
        state, held_by = State.HELD, "operator" if cast.state == "held" else f"new {pattern}"
        counts.held += 1
    elif cast.not_before is not None and cast.not_before > now:
        state, due_at = after(State.NOWHERE, Event.SCHEDULE), cast.not_before
        counts.deferred += 1
    fate = (id_, lane, state.value, int(due_at is not None), due_at, now, cast.attempts, cast.failures)
    transitions.execute(sql.EDIT_FATE, (*fate, cast.reason or "imported", cast.error, held_by, 0, None))
    if state in (State.READY, State.DEFERRED):
        transitions.ledger.bring_back(lane, due_at or now, scheduled=due_at is not None)
    if cast.origin:
        transitions.execute(sql.INSERT_IMPORT, (id_, cast.origin, cast.key or cast.origin, now))
        transitions.ledger.imported = True
