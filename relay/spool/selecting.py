"""Which casts an operator's change is about: by name, or by a filter, read beside the writer a slice at a time.

A name is an id, a handle, or a caller's unique (which several casts may bear: all of them are meant).  What is read is
only a proposal: `edits.apply` looks again at the state of each, in the writer's transaction.  Casts that come while a
selection is read are not in it, so that it ends.

Promises what `reading` promises, and raises what it raises.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from relay.errors import SpoolUnusable
from relay.spool import reading
from relay.spool.preparing import digest
from relay.spool.reading import Filter

#: casts of one slice
SLICE = 500

_HANDLE_FORM = re.compile(r"H:.*:([0-9]{1,19})").fullmatch
_ID_FORM = re.compile(r"[0-9]{1,19}").fullmatch

_BY_ID = "SELECT id, lane FROM casts WHERE id = ?"
_BY_UNIQUE = 'SELECT id, lane FROM casts WHERE digest = ? AND "unique" = ? ORDER BY id'
_FROM_FATES = "SELECT id FROM fates WHERE id > :after AND id <= :last AND state IN ({}) ORDER BY id LIMIT :slice"
_CHOSEN = (
    "SELECT id, lane FROM (SELECT casts.id, casts.lane, lanes.function, coalesce(fates.state, 'ready') AS state,"
    " casts.accepted_at, casts.uid, fates.error AS last_error, coalesce(fates.exported, 0) AS exported,"
    " coalesce(fates.held_by, '') AS held_by, coalesce(fates.since, 0) AS since"
    " FROM casts JOIN lanes ON lanes.number = casts.lane LEFT JOIN fates ON fates.id = casts.id)"
    " WHERE id IN ({}) AND state IN ({}){} ORDER BY id"
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Names, or else a filter and the oldest `limit` of what it lets through.

    `exported` asks for held casts that were written out by `export --hold`; `held_by` for those that this one holds;
    `before` for those that have been in their state since a moment (us) or longer.
    """

    names: tuple[str, ...] | None = None
    wanted: Filter = field(default_factory=Filter)
    limit: int | None = None
    exported: bool = False
    held_by: str | None = None
    before: int | None = None


class Chosen(NamedTuple):
    """A slice: casts by id, with their lanes, in order, and how many names no cast bears."""

    casts: dict[int, int]
    missing: int = 0


def select(path: Path, selection: Selection, states: Sequence[str], now: int) -> Generator[Chosen, None, None]:
    """The casts that are meant, those in one of `states`, oldest first; ages are seen from `now` (us)."""
    with closing(reading.connect(path)) as conn:
        try:
            if selection.names is not None:
                yield from _named(conn, selection.names)
            else:
                yield from _filtered(conn, selection, states, now)
        except sqlite3.Error as error:
            raise SpoolUnusable(f"{path}: {error}") from None


def find(conn: sqlite3.Connection, name: str) -> list[tuple[int, int]]:
    """(id, lane) of each cast on disk that bears this name, oldest first."""
    id_ = number(name)
    if id_ is not None and (found := conn.execute(_BY_ID, (id_,)).fetchall()):
        return found
    unique = name.encode("utf-8", "surrogateescape")
    return conn.execute(_BY_UNIQUE, (digest(unique), unique)).fetchall()


def number(name: str) -> int | None:
    """The id that a name may be, or end in."""
    if _ID_FORM(name):
        id_ = int(name)
    elif handle := _HANDLE_FORM(name):
        id_ = int(handle[1])
    else:
        return None
    return id_ if id_ < 1 << 63 else None


def _named(conn: sqlite3.Connection, names: Sequence[str]) -> Iterator[Chosen]:
    seen: set[int] = set()
    for start in range(0, len(names), SLICE):
        casts: dict[int, int] = {}
        missing = 0
        for name in names[start : start + SLICE]:
            found = find(conn, name)
            missing += not found
            casts.update(one for one in found if one[0] not in seen)
        seen.update(casts)
        yield Chosen(casts, missing)


def _filtered(conn: sqlite3.Connection, selection: Selection, states: Sequence[str], now: int) -> Iterator[Chosen]:
    wanted, left = selection.wanted, selection.limit
    if wanted.state is not None:
        states = [wanted.state] if wanted.state in states else []
    last = reading.last_id(conn)
    if not last or not states or left == 0:
        return
    words = ", ".join(f"'{state}'" for state in states)
    conditions, more = _conditions(selection)
    parameters = {**wanted.given(), **more, "now": now, "slice": SLICE, "last": last}
    source = _FROM_FATES.format(words) if "ready" not in states else reading.source(conn, wanted)
    after = 0
    while ids := [row[0] for row in conn.execute(source, {**parameters, "after": after}).fetchall()]:
        after = ids[-1]
        statement = _CHOSEN.format(",".join(map(str, ids)), words, conditions)
        casts = dict(conn.execute(f"{statement} LIMIT {SLICE if left is None else min(left, SLICE)}", parameters))
        if casts:
            yield Chosen({id_: lane for id_, lane in casts.items() if id_ <= last})
        left = None if left is None else left - len(casts)
        if left == 0 or after >= last:
            return


def _conditions(selection: Selection) -> tuple[str, dict[str, Any]]:
    """What the rows must fulfil beside their state, and the parameters for what is no part of a filter."""
    found = [condition for name, condition in reading.CONDITIONS.items() if name in selection.wanted.given()]
    more: dict[str, Any] = {}
    if selection.exported:
        found.append("exported = 1")
    if selection.held_by is not None:
        found.append("held_by = :held_by")
        more["held_by"] = selection.held_by
    if selection.before is not None:
        found.append("since <= :before")
        more["before"] = selection.before
    return "".join(f" AND {condition}" for condition in found), more
