"""Small disks of a test's own: a tmpfs that can be filled, with a spool on it.

Promises: what was mounted is unmounted when the test ends, whatever happened; agents on it are ended before.
Failure: where one may not mount, the test is skipped with the reason.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .rig import Rig


class SmallDisk:
    """A mounted tmpfs of so many MiB."""

    def __init__(self, directory: Path, size: int) -> None:
        """Mount it."""
        if os.geteuid() != 0:
            pytest.skip("only root may mount a file system of its own")
        self.directory = directory
        self._filler = directory / "filler"
        directory.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=0755", "relay-test", directory], check=True)

    @property
    def spool(self) -> Path:
        """Where a spool on it would be."""
        return self.directory / "spool" / "spool.db"

    def fill(self) -> None:
        """Take all that is free, to the last page."""
        fill(self._filler)

    def empty(self) -> None:
        """Give it back."""
        self._filler.unlink()

    def close(self) -> None:
        """Unmount it, if need be behind the back of who still has a file there open."""
        subprocess.run(["umount", "-l", self.directory], check=True)


def fill(filler: Path) -> None:
    """Write a file until not a page is free on its disk."""
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            disk = os.fstatvfs(file.fileno())
            file.write(bytes(64 * 1024) if disk.f_bavail * disk.f_frsize > 64 * 1024 else bytes(4096))


@contextlib.contextmanager
def small_disk(rig: Rig, size: int) -> Iterator[SmallDisk]:
    """A disk in the rig's directory, of so many MiB."""
    disk = SmallDisk(rig.directory / "disk", size)
    try:
        yield disk
    finally:
        for agent in rig.agents:
            agent.close()
        disk.close()
