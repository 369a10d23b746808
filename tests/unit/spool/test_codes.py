"""What SQLite's errors mean."""

import sqlite3

from relay.spool.codes import is_sign


def test_which_errors_are_signs() -> None:
    """Those that a rotten file causes, with what extends their code; not those of a disk, or of people."""
    for code, sign in ((11, True), (11 | 2 << 8, True), (26, True), (10, False), (13, False), (5, False)):
        error = sqlite3.DatabaseError()
        error.sqlite_errorcode = code
        assert is_sign(error) is sign
    assert not is_sign(sqlite3.DatabaseError())
    assert not is_sign(None)
