"""File systems of one's own, in a file on a loop device, whose power can be cut.

`cut` is FS_IOC_SHUTDOWN: from then on nothing reaches the disk that had not reached it, every call fails, and a mount
anew finds what a power cut would have left, with the file system's own recovery from its journal.
Promises: `close` unmounts and removes; an image lies in memory where there is room for it.
Failure: where one may not mount, or the tools are missing, the test is skipped with the reason.
"""

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import pytest

from .wait import until

FS_IOC_SHUTDOWN = 0x8004587D
#: what becomes of the journal that is in memory: it is written first, or it is lost
WITH_JOURNAL, WITHOUT_JOURNAL = 1, 2
#: the smallest image that each kind makes its file system on, in MiB
SIZES_MIB = {"ext4": 64, "xfs": 320}
IN_MEMORY = Path("/dev/shm")


class LoopDisk:
    """A file system of a kind (ext4, xfs), mounted at `path`."""

    def __init__(self, kind: str) -> None:
        """Make it and mount it."""
        make = shutil.which(f"mkfs.{kind}", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if os.geteuid() != 0:
            pytest.skip("only root may mount a file system of its own")
        if not make:
            pytest.skip(f"mkfs.{kind} is not installed")
        self._directory = Path(tempfile.mkdtemp(prefix="relay-disk-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
        self._image = self._directory / "image"
        self.path = self._directory / "mounted"
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(SIZES_MIB[kind] << 20)
        subprocess.run([make, "-q", self._image], check=True)
        if self._mount() != 0:
            shutil.rmtree(self._directory)
            pytest.skip("no loop device can be mounted here")

    def _mount(self) -> int:
        return subprocess.run(["mount", "-o", "loop", self._image, self.path], check=False).returncode

    def cut(self, journal: int = WITHOUT_JOURNAL) -> None:
        """The power is gone; what has files open there gets errors."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, struct.pack("I", journal))
        finally:
            os.close(descriptor)

    def turn_read_only(self) -> None:
        """The kernel finds an error in it (ext4 alone can be made to), and lets nobody write any more."""
        subprocess.run(["mount", "-o", "remount,errors=remount-ro", self.path], check=True)
        device = self.path.stat().st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("a test")

    def back(self) -> None:
        """The power is back: unmounted, and mounted anew; whoever had files open there is gone."""
        self._unmount()
        assert self._mount() == 0, "the file system cannot be mounted again"

    def _unmount(self) -> None:
        until(
            lambda: subprocess.run(["umount", self.path], check=False, capture_output=True).returncode == 0,
            f"{self.path} is unmounted",
        )

    def close(self) -> None:
        """Unmount and remove."""
        self._unmount()
        shutil.rmtree(self._directory)

    def __enter__(self) -> Self:
        """The disk."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
