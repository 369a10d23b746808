"""What SQLite's errors mean, by their codes: the one place that takes a code apart.

Pure and total: an error without a code (Python's own, or one that is none of SQLite's) means nothing here.
"""

from __future__ import annotations

import sqlite3

_ROTTEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def primary(error: BaseException | None) -> int:
    """SQLite's code for an error without what extends it; 0 where it has none."""
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code


def is_sign(error: BaseException | None) -> bool:
    """True for an error of SQLite's that a broken spool causes: the file is not what it was."""
    return primary(error) in _ROTTEN
