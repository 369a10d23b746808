"""The two clocks, as values that are handed in.

`wall` is what is stored and shown, in whole microseconds since the epoch, and may jump.  `monotonic` is what waits are
measured with, in seconds, and never goes back.  Pure code gets readings as arguments; shells get a `Clock`; tests hand
in their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple


def wall_us() -> int:
    """Microseconds since the epoch, by the wall clock."""
    return time.time_ns() // 1000


class Clock(NamedTuple):
    """A wall clock (microseconds) and a monotonic one (seconds)."""

    wall: Callable[[], int] = wall_us
    monotonic: Callable[[], float] = time.monotonic


def spell(seconds: float) -> str:
    """A duration for people: `0.2 s`, `42 s`, `3 min`, `5 h`, `2 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
