"""The one way a test waits: poll a condition until it holds, or say what was missing.

Promises: returns the condition's first true value as soon as it is seen; raises AssertionError with `what` once the
time is up. The default is generous: it is reached only when something is broken, on a slow machine too.
Never does: swallow an exception of the condition.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    condition: Callable[[], T], what: str | Callable[[], object], seconds: float = 60.0, pause: float = 0.02
) -> T:
    """The first true value of condition; AssertionError with what (a text, or a call that makes one) if none comes."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            detail = what() if callable(what) else what
            raise AssertionError(f"waited {seconds:g} s in vain: {detail}")
        time.sleep(pause)
