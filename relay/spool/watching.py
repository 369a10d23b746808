"""What can be seen of the spool from outside of it, and should be told to an operator: three sentences, or fewer.

Looks at names and sizes in the spool's directory, and, when the log is too long, at who has the database open; that may
take some time on a host with many processes, so it is done in a thread of nobody's.  Never fails: what cannot be seen
is not told.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from relay.spool import quarantine
from relay.spool.readers import readers

#: bytes of a write-ahead log beyond which somebody is told
LONG_LOG = 64 * 1024 * 1024
#: quarantines named in one sentence
NAMED = 3


class Sights(NamedTuple):
    """What is to be told; None for each that is well."""

    quarantined: str | None = None
    long_log: str | None = None


def look(path: Path) -> Sights:
    """Look at the spool at `path`."""
    return Sights(_quarantined(path), _long_log(path))


def _quarantined(path: Path) -> str | None:
    try:
        kept = quarantine.kept(path)
    except OSError:
        return None
    if not kept:
        return None
    more = f"; and {len(kept) - NAMED} older ones" if len(kept) > NAMED else ""
    return "; ".join(f"{one}: {reason}" for one, reason in kept[-NAMED:]) + more


def _long_log(path: Path) -> str | None:
    try:
        size = os.stat(f"{path}-wal").st_size
    except OSError:
        return None
    if size <= LONG_LOG:
        return None
    return f"the spool's log has grown to {size >> 20} MiB: a reader ({readers(path)}) keeps it from being cut short"
