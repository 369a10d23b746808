"""Who else has the spool open, as far as this user may see: for the sentence that tells an operator whom to ask.

Looks through /proc, which takes some time on a host with many processes.  Never fails: what cannot be seen is left out.
"""

from __future__ import annotations

import os
from pathlib import Path


def readers(path: Path) -> str:
    """The processes beside this one that have the spool open, for people: `pid 12 (sqlite3), pid 13 (python3)`."""
    found = []
    target = os.path.realpath(path)
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) != os.getpid() and any(
                os.path.realpath(link) == target for link in (entry / "fd").iterdir()
            ):
                found.append(f"pid {entry.name} ({(entry / 'comm').read_text(errors='replace').strip()})")
        except OSError:
            continue
    return ", ".join(found) or "of unknown pid"
