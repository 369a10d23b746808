"""A file that keeps room on the disk, and is given up when the disk is full.

At SQLITE_FULL a DELETE and a checkpoint fail as well as an INSERT, so a full disk, or a quota that is used up, that
nothing else empties would be a deadlock: what is done could not be retired, and nothing would ever free a page.  With
BALLAST_BYTES given back, retiring and checkpointing go on (the log begins anew every 3 MiB).  While it is given up new
casts are refused, or they would use the room; it is made again once there is plenty.

Never raises: what goes wrong leaves the ballast where, or absent as, it was.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

#: bytes kept on the disk for retiring and checkpointing
BALLAST_BYTES = 4 * 1024 * 1024
#: bytes that must be free for it to be made, itself included
PLENTY = 2 * BALLAST_BYTES
#: bytes that are tried, to tell a disk or a quota that is full from one that fails
PROBE_BYTES = 64 * 1024


class Ballast:
    """The file beside the spool at `path`."""

    def __init__(self, path: Path) -> None:
        self._file = path.with_name(path.name + ".ballast")
        #: True while the room is kept
        self.held = False

    def find(self) -> None:
        """See whether an earlier start left it; one that is not whole is removed."""
        try:
            self.held = self._file.stat().st_blocks * 512 >= BALLAST_BYTES
        except OSError:
            self.held = False
            return
        if not self.held:
            self._remove()

    def make(self, free: int) -> bool:
        """Keep the room, if `free` bytes are enough for that; True if it is kept."""
        if self.held or free < PLENTY:
            return self.held
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            self._remove()
        else:
            self.held = True
        return self.held

    def lacks_room(self) -> bool:
        """True where not even PROBE_BYTES more fit, for lack of space or by a quota; they are not kept."""
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            size = os.fstat(descriptor).st_size
            try:
                os.posix_fallocate(descriptor, size, PROBE_BYTES)
            finally:
                os.ftruncate(descriptor, size)
                os.close(descriptor)
        except OSError as error:
            return error.errno in (errno.ENOSPC, errno.EDQUOT)
        finally:
            if not self.held:
                self._remove()
        return False

    def give_up(self) -> bool:
        """Give the room back; True if there was any."""
        held, self.held = self.held, False
        if held:
            log.warning("the disk is full: the ballast beside the spool is given up, so that casts can be retired")
            self._remove()
        return held

    def _remove(self) -> None:
        try:
            # a file system that counts an open or a snapshotted file gives room back at least for this
            os.truncate(self._file, 0)
            self._file.unlink()
        except OSError as error:
            log.debug("the ballast cannot be removed: %s", error)
