"""A clock of an agent's own that can be set: libfaketime's, over its process alone.

The monotonic clock goes on, as where a host's clock is set.
Never does: reach another process.
"""

from pathlib import Path

LIBRARIES = [str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
"""Where the library is; empty where it is not installed."""
SHARED = Path("/dev/shm")


class Clock:
    """What an agent takes for the time: an offset in seconds, in a file that libfaketime reads."""

    def __init__(self, path: Path) -> None:
        """Right, to begin with."""
        self._path = path
        self.set("+0")

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to have this clock."""
        return {
            "LD_PRELOAD": LIBRARIES[0],
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        """The clock is set; seen at the agent's next look."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{offset}\n")
        fresh.rename(self._path)


def forget(pid: int) -> None:
    """Remove what libfaketime shared with a process that was killed."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        (SHARED / name).unlink(missing_ok=True)
