"""Owning a spool: the lock beside it, which one process holds, and what stands in the lock's file.

The lock is the kernel's (flock), so it ends with the process however that ends.  The file says whose it is, and up to
which id casts were given out as of the last start: for a spool that may have to begin anew.  It is never removed.

Raises SpoolOwned (75) while another process holds it, and SpoolUnusable (73) where the disk fails.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from relay.errors import SpoolOwned, SpoolUnusable

log = logging.getLogger(__name__)

#: seconds to wait for another agent's lock
LOCK_WAIT_S = 30.0


def lock(path: Path, wait_s: float, pause: Callable[[float], None] = time.sleep) -> int:
    """Own the spool: the descriptor of its lock file; SpoolOwned when another agent keeps it for `wait_s` seconds."""
    name = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SpoolUnusable(f"{name}: {error.strerror}") from None
    deadline = time.monotonic() + wait_s
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = noted(descriptor)[0] or "unknown"
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise SpoolOwned(f"another agent (pid {owner}) owns {path}") from None
            if not told:
                told = True
                log.warning("another agent (pid %s) owns %s: it is waited for, %d s at most", owner, path, wait_s)
            pause(0.1)
        except OSError as error:
            os.close(descriptor)
            raise SpoolUnusable(f"{name}: {error.strerror}") from None
        else:
            note(descriptor, noted(descriptor)[1])
            return descriptor


def note(descriptor: int, next_id: int) -> None:
    """Write into the lock's file whose it is, and the next id as of this start, for a spool that may come after."""
    # on a full disk the old text stays; nothing depends on it but words and a clock that goes back
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, f"{os.getpid():<10}\n{next_id:<20}\n".encode(), 0)
        os.fsync(descriptor)


def noted(descriptor: int) -> tuple[str, int]:
    """The pid and the id that stand in the lock's file."""
    with contextlib.suppress(OSError, ValueError):
        owner, _, next_id = os.pread(descriptor, 64, 0).decode("ascii").partition("\n")
        return owner.strip(), int(next_id.strip() or 0)
    return "", 0
