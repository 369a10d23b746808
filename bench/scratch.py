"""The directory that a run measures in: on the disk that is asked for, and gone when the run is over.

SIGTERM ends a run as Ctrl-C does, so that what was started is stopped, and this goes, then too.
"""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch(where: Path) -> Iterator[Path]:
    where.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    disk = Path(tempfile.mkdtemp(prefix="bench-", dir=where)).resolve()
    try:
        yield disk
    finally:
        shutil.rmtree(disk, ignore_errors=True)
