"""What a start must be able to read of a spool: all that every COMMIT changes, and all that is kept in memory.

Whatever of it is rotten would end every start, or every COMMIT, in the same way for ever; so a spool is looked at
before anything is made of it.  Rot does not always make a page that SQLite calls corrupt: a flipped bit may leave a
text where a number was, which ends whoever computes with it.  So the kinds of values are compared as well.

Reads only, little, and whatever the backlog.  Raises Rotten for a value that none of relay's wrote, and sqlite3.Error
as SQLite does.
"""

from __future__ import annotations

import sqlite3

from relay.spool import statements as sql
from relay.spool.codes import primary
from relay.spool.schema import COUNTS

_NOTHING = type(None)
#: statement -> the kinds of its columns, in any format
_NEEDED: dict[str, tuple[type | tuple[type, ...], ...]] = {
    # the steps of the clock are a text, of which `ageing` takes whatever is none of its own for none
    "SELECT name, value FROM meta WHERE name <> 'clock_steps'": (str, int),
    sql.SPOOLS: (int, str, str),
    sql.LANES: (int, bytes, int, *[int for _ in COUNTS]),
    "SELECT last_id FROM lanes": (int,),
    "SELECT max(id) FROM casts": ((int, _NOTHING),),
    sql.HOLDS: (str, (int, _NOTHING)),
    sql.PAUSED: (str, int),
}
#: the same, since a format
_NEEDED_SINCE: dict[int, dict[str, tuple[type | tuple[type, ...], ...]]] = {2: {sql.ANY_IMPORT: (int,)}}

#: the columns of the tables that takes and verdicts are made of, since each format; a name in quotes that no column has
#: is a text to SQLite, unless its table stands before it
_NAMES = {
    1: (
        'SELECT id, lane, accepted_at, not_before, uid, digest, casts."unique", crc, payload FROM casts LIMIT 0',
        "SELECT id, lane, state, scheduled, due_at, since, attempts, failures, reason, error FROM fates LIMIT 0",
    ),
    2: ("SELECT held_by, exported, aged_from FROM fates LIMIT 0",),
}


class Rotten(Exception):
    """A value is not what it was."""


def read(conn: sqlite3.Connection, version: int) -> None:
    """Read what is needed of a spool of this format."""
    try:
        _read(conn, version)
    except sqlite3.OperationalError as error:
        if primary(error) != sqlite3.SQLITE_ERROR:
            raise
        # the text of the schema has no checksum either
        raise Rotten(f"the schema is not what it was ({error})") from None


def _read(conn: sqlite3.Connection, version: int) -> None:
    needed = dict(_NEEDED)
    for since, more in _NEEDED_SINCE.items():
        if version >= since:
            needed.update(more)
    for since, names in _NAMES.items():
        for statement in names if version >= since else ():
            conn.execute(statement)
    # text that is none any more would be an error without a code
    conn.text_factory = _text
    for statement, kinds in needed.items():
        for row in conn.execute(statement):
            for value, kind in zip(row, kinds, strict=True):
                if not isinstance(value, kind):
                    raise Rotten(f"a value in the spool is not what it was ({statement})")


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
