"""Setting a spool aside that cannot be read: renamed as a whole into a directory beside it, never deleted.

The directory is `<spool>.quarantine-<time>`, with the database and its logs under their own names (so that any tool
opens them together) and a file `reason`.  It is made as `<spool>.quarantine-partial`, filled, and then renamed; a start
that finds a partial one with a file of the spool in it, because the last was killed there, goes on with it before it
looks at anything else.  So the
pair is never parted, whichever step a kill or a power cut falls on: the logs follow the database.

Nothing is ever removed: an operator moves the directory away when it has been seen to, and until then `kept` lists it.
Raises OSError as the disk does.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
import time
from pathlib import Path

#: the files of a database, in the order they are moved; its index (-shm) is made anew by whoever opens it
FILES = ("", "-journal", "-wal", "-shm")
_REASON = "reason"


def set_aside(path: Path, reason: str, now_s: float) -> Path:
    """Rename the database at `path` with its logs into a directory of their own; the directory, durably there."""
    partial = _partial(path)
    partial.mkdir(mode=0o700)
    _write(partial / _REASON, reason)
    sync(path.parent)
    return _finish(path, now_s)


def keep_log(path: Path, reason: str, now_s: float) -> Path:
    """Copy the log of the database at `path` into such a directory, and leave it where it is.

    A copy of the same bytes that is there already is the copy: a start that is refused behind this, again and again,
    does not fill the disk with them.
    """
    own = Path(f"{path}-wal")
    for directory, _ in kept(path):
        with contextlib.suppress(OSError):
            if filecmp.cmp(own, directory / own.name, shallow=False):
                return directory
    partial = _partial(path, "copy")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    _write(partial / _REASON, reason)
    copy(own, partial / own.name)
    return _name(path, partial, now_s)


def resume(path: Path, now_s: float) -> Path | None:
    """Go on where a kill interrupted `set_aside`; the directory, or None where no file had been moved.

    Then somebody may have seen to the spool meanwhile, so whoever opens it decides anew.
    """
    partial = _partial(path)
    if not partial.is_dir():
        return None
    if {one.name for one in partial.iterdir()} <= {_REASON}:
        shutil.rmtree(partial)
        sync(path.parent)
        return None
    return _finish(path, now_s)


def kept(path: Path) -> list[tuple[Path, str]]:
    """What was set aside and is still there, oldest first: the directory, and the reason it says."""
    found = sorted(path.parent.glob(f"{path.name}.quarantine-[0-9]*"))
    return [(one, _read(one / _REASON)) for one in found if one.is_dir()]


def read_whole(path: Path) -> None:
    """Read every byte of the files of the database at `path`; OSError where the disk fails to."""
    for end in FILES:
        with contextlib.suppress(FileNotFoundError), Path(f"{path}{end}").open("rb", buffering=0) as file:
            while file.read(1024 * 1024):
                pass


def copy(source: Path, target: Path) -> None:
    """Copy a file durably, for its user alone."""
    with source.open("rb") as reading, open(target, "xb", opener=_private) as writing:
        shutil.copyfileobj(reading, writing, 1024 * 1024)
        writing.flush()
        os.fsync(writing.fileno())


def sync(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _partial(path: Path, what: str = "partial") -> Path:
    return path.with_name(f"{path.name}.quarantine-{what}")


def _finish(path: Path, now_s: float) -> Path:
    partial = _partial(path)
    for end in FILES:
        source, target = Path(f"{path}{end}"), partial / f"{path.name}{end}"
        # a database that is in the directory already is not joined by another
        if source.exists() and not target.exists():
            source.rename(target)
    return _name(path, partial, now_s)


def _name(path: Path, partial: Path, now_s: float) -> Path:
    """Give a directory that is complete its name: the time, and a number where that is taken."""
    sync(partial)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
    name = path.with_name(f"{path.name}.quarantine-{stamp}")
    number = 1
    while name.exists():
        number += 1
        name = path.with_name(f"{path.name}.quarantine-{stamp}-{number}")
    partial.rename(name)
    sync(path.parent)
    return name


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _write(path: Path, text: str) -> None:
    with open(path, "x", opener=_private, encoding="utf-8") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "no reason is written there"
