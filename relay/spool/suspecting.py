"""Whether a spool that is in use is broken: rotten where no COMMIT mends it, so that a cast would wait for ever.

A page that cannot be read or written, an index that has lost a cast, a count that is not what is there: each shows as
something else (a take or a COMMIT that fails, a lane that is counted and never seen).  Whoever meets such a sign calls
`suspect`; then the whole spool is read, in a thread of nobody's, and if something is broken `on_broken` is told what.
The agent then begins anew, and what can be read is brought into a new spool (`opening`).

Nothing is called broken that a disk may have failed to read: SQLite calls that corrupt, too.  So it is looked at twice,
and between the two every byte is read without SQLite.  Casts whose checksum does not fit are not meant: they are set
aside one by one.

Bounds: one look at a time, and pauses between two from PAUSE_S to LONGEST_PAUSE_S, doubling while nothing is found.
Runs in the event loop's thread but for the look.  Never fails: what cannot be read is logged, and looked at again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from relay.clock import Clock
from relay.errors import SpoolUnusable
from relay.spool import checking, quarantine
from relay.spool.codes import is_sign

log = logging.getLogger(__name__)

#: seconds between two looks: at first, at most
PAUSE_S = 5.0
LONGEST_PAUSE_S = 3600.0


def find(path: Path) -> str | None:
    """What is broken in the spool at `path`, if anything is; OSError or SpoolUnusable where that cannot be seen."""
    if _find(path) is None:
        return None
    read_elsewhere(path)
    return _find(path)


def read_elsewhere(path: Path) -> None:
    """Read every byte of the spool's files, in a process of its own; OSError where the disk fails to.

    A process that closes a file lets go of all locks that it has on it, the writer's connection's too: then a reader
    that comes and goes takes itself for the last one, and removes the log.
    """
    files = [f"{path}{end}" for end in quarantine.FILES if Path(f"{path}{end}").exists()]
    command = ["/bin/cat", "--", *files]
    done = subprocess.run(  # noqa: S603 - nothing of it comes from outside
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    if done.returncode:
        raise OSError(errno.EIO, done.stderr.decode(errors="replace").strip() or os.strerror(errno.EIO))


def _find(path: Path) -> str | None:
    try:
        for finding in checking.broken(path):
            if finding.check != "checksum":
                return f"{finding.check}, {finding.where}: {finding.text}"
    except checking.Unreadable as error:
        return str(error)
    return None


class Suspicion:
    """Over the spool at `path`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._pause_s = PAUSE_S
        self._next_at = 0.0
        self._look: asyncio.Task[None] | None = None
        #: told what is broken
        self.on_broken: Callable[[str], None] = lambda _: None

    def suspect(self, sign: str) -> None:
        """Something was seen that a broken spool causes."""
        now = self._clock.monotonic()
        if self._look is None and now >= self._next_at:
            log.warning("the spool may be damaged (%s): it is looked at as a whole", sign)
            self._look = asyncio.get_running_loop().create_task(self._look_at_it())

    def hear(self, error: BaseException) -> None:
        """An answer came to this error; where SQLite's own is behind it, that may be a sign."""
        if is_sign(error.__context__):
            self.suspect(str(error))

    async def _look_at_it(self) -> None:
        found = None
        try:
            found = await asyncio.to_thread(find, self._path)
        except (OSError, SpoolUnusable) as error:
            log.error("the spool cannot be read: %s", getattr(error, "strerror", None) or error)
        else:
            if found is None:
                log.warning("the spool is not damaged: its disk failed, or somebody else was at it")
        self._next_at = self._clock.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._look = None
        if found is not None:
            self.on_broken(found)
