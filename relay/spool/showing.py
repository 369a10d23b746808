"""One cast, whole: what stands in the backlog about it, its attempts, its payload; by id, handle or unique.

Several casts may bear a unique: the newest that lives is shown, else the newest that is dead, else the newest that is
done, where a history is kept; `others` has the ids of the rest.  Promises what `reading` promises.

`history` are its last attempts, in order: when each began, how long the cast had waited for it (since it was accepted,
or its caller's moment, or the end of the attempt before; None where that one is not known), and how long it took.  Of
a cast that is done the last one is the one that did it.
"""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from relay.errors import SpoolUnusable
from relay.spool import reading, schema, selecting
from relay.spool import statements as sql
from relay.spool.opening import Identity
from relay.spool.preparing import digest, is_message_id

#: ids of other casts with the same unique that are named
OTHERS = 100

_CAST = "SELECT * FROM backlog WHERE id = ?"
_FATE = "SELECT state, since, reason, held_by, exported FROM fates WHERE id = ?"
_ATTEMPTS = "SELECT number, began_at, took, upstream, reason, error FROM attempts WHERE id = ? ORDER BY number"
_PAYLOAD = "SELECT payload FROM casts WHERE id = ?"
_LIVING = "SELECT casts.id FROM casts LEFT JOIN fates ON fates.id = casts.id WHERE {} AND fates.state IS NOT 'dead'"
_DONE = (
    "SELECT done.id, lanes.function, \"unique\", CASE lanes.priority WHEN 0 THEN 'high' WHEN 1 THEN 'normal' ELSE 'low'"
    " END AS priority, 'done' AS state, done.bytes, accepted_at, not_before, NULL AS due_at, attempts,"
    " done.failures, NULL AS last_error, uid, began_at, done_at, upstream"
    " FROM done JOIN lanes ON lanes.number = done.lane WHERE {} ORDER BY done.id DESC LIMIT ?"
)


def show(path: Path, name: str, now: int, *, payload: bool) -> dict[str, Any] | None:
    """The cast of this name, or None where there is none; ages are seen from `now` (us)."""
    with closing(reading.connect(path)) as conn:
        conn.row_factory = None
        try:
            return _show(conn, name, now, payload)
        except sqlite3.Error as error:
            raise SpoolUnusable(f"{path}: {error}") from None


def _show(conn: sqlite3.Connection, name: str, now: int, payload: bool) -> dict[str, Any] | None:
    found = [id_ for id_, _ in selecting.find(conn, name)]
    if not found:
        return _done(conn, name, now) if schema.version(conn) > 1 else None
    living = conn.execute(_LIVING.format(f"casts.id IN ({','.join(map(str, found[-OTHERS:]))})")).fetchall()
    id_ = max(row[0] for row in living) if living else found[-1]
    cursor = conn.execute(_CAST, (id_,))
    row = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
    _, since, reason, held_by, exported = conn.execute(_FATE, (id_,)).fetchone() or ("ready", None, "", "", 0)
    shown = {
        **reading.shown(row, now),
        "accepted_at": row["accepted_at"] / 1e6,
        "not_before": _seconds(row["not_before"]),
        "since": _seconds(since),
        "reason": reason,
        "held_by": held_by,
        "exported": bool(exported),
        "key": _key(conn, id_, row["unique"]),
        "history": _waited(row, _attempts(conn, id_)),
        "others": [other for other in found[-OTHERS:] if other != id_],
    }
    if payload:
        shown |= rendered(conn.execute(_PAYLOAD, (id_,)).fetchone()[0])
    return shown


def _done(conn: sqlite3.Connection, name: str, now: int) -> dict[str, Any] | None:
    """A cast of the history, where one is kept."""
    id_ = selecting.number(name)
    cursor = conn.execute(_DONE.format("done.id = ?"), (id_, 1))
    rows = cursor.fetchall()
    if not rows:
        unique = name.encode("utf-8", "surrogateescape")
        cursor = conn.execute(_DONE.format('done.digest = ? AND "unique" = ?'), (digest(unique), unique, OTHERS))
        rows = cursor.fetchall()
    if not rows:
        return None
    cast = dict(zip([column[0] for column in cursor.description], rows[0], strict=True))
    attempts, began_at = _attempts(conn, cast["id"]), cast["began_at"] / 1e6
    # one that was done late, by an attempt that had ended otherwise, has that attempt's number
    late = [attempt["number"] for attempt in attempts if attempt["began_at"] == began_at]
    last = {
        "number": late[0] if late else cast["attempts"],
        "began_at": began_at,
        "seconds": max(0, cast["done_at"] - cast["began_at"]) / 1e6,
        "upstream": cast["upstream"],
        "reason": "done",
        "error": "",
    }
    return {
        **reading.shown(cast, now),
        "accepted_at": cast["accepted_at"] / 1e6,
        "not_before": _seconds(cast["not_before"]),
        "since": cast["done_at"] / 1e6,
        "reason": "done",
        "held_by": "",
        "exported": False,
        "key": _key(conn, cast["id"], cast["unique"]),
        "history": _waited(cast, [*attempts, last]),
        "others": [row[0] for row in rows[:0:-1]],
    }


def rendered(payload: bytes) -> dict[str, str]:
    """A payload as text where it is UTF-8, else in base64."""
    try:
        return {"payload": payload.decode("utf-8")}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode("ascii")}


def _attempts(conn: sqlite3.Connection, id_: int) -> list[dict[str, Any]]:
    return [
        {
            "number": number,
            "began_at": began_at / 1e6,
            "seconds": took / 1e6,
            "upstream": upstream,
            "reason": reason,
            "error": error,
        }
        for number, began_at, took, upstream, reason, error in conn.execute(_ATTEMPTS, (id_,))
    ]


def _waited(row: dict[str, Any], attempts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The attempts, each with how long the cast had waited for it."""
    free_at: float | None = max(row["accepted_at"], row["not_before"] or 0) / 1e6
    if attempts and attempts[0]["number"] > 1:
        free_at = None
    told = []
    for attempt in attempts:
        began_at = attempt["began_at"]
        # less than nothing: an attempt that was told of before, or a clock that was set
        waited = None if free_at is None or began_at < free_at else round(began_at - free_at, 6)
        told.append({"number": attempt["number"], "began_at": began_at, "waited_seconds": waited, **attempt})
        free_at = began_at + attempt["seconds"]
    return told


def _key(conn: sqlite3.Connection, id_: int, unique: bytes | None) -> str:
    """The idempotency key that workers see."""
    imported = conn.execute(sql.IMPORTED_KEY, (id_,)).fetchone()
    if imported is not None:
        return str(imported[0])
    if unique is not None and is_message_id(unique):
        return unique.decode()
    spools = [(first, spool.encode()) for first, spool, _ in conn.execute(sql.SPOOLS)]
    return f"{Identity(tuple(spools), 0).spool_id(id_).decode()}-{id_}"


def _seconds(moment: int | None) -> float | None:
    return None if moment is None else moment / 1e6
