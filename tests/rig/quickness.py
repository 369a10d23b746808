"""How quick an agent is for one caller, compared with another agent beside it, so that the machine's noise hits both.

Promises: only ratios are asserted, of medians over rounds that are measured in turns; a wait under FLOOR_S counts as
FLOOR_S, and once may be bad luck: TRIES times is not.
Failure: AssertionError with both figures.
"""

import statistics
import time

from . import packets
from .packets import Stream, submission

ROUNDS, CASTS = 5, 100
TIMES_SLOWER = 3
FLOOR_S = 0.01
"""What a wait is taken for at least: below it the machine's noise is what is measured."""
TRIES = 3


def p99(caller: Stream) -> float:
    """The 99th percentile of how long a cast waits for its answer, in one round of casts."""
    waits = []
    for _ in range(CASTS):
        began = time.monotonic()
        assert caller.ask(submission(b"nobody", b"x" * 100)).type == packets.JOB_CREATED
        waits.append(time.monotonic() - began)
    return statistics.quantiles(waits, n=100, method="inclusive")[98]


def assert_as_quick(burdened: Stream, control: Stream) -> None:
    """A cast at the agent with a burden waits at most TIMES_SLOWER times as long as one at an agent without."""
    for _ in range(TRIES):
        rounds = [(p99(burdened), p99(control)) for _ in range(ROUNDS)]
        slow, quick = (statistics.median(waits) for waits in zip(*rounds, strict=True))
        if slow <= TIMES_SLOWER * max(quick, FLOOR_S):
            return
    raise AssertionError(f"p99 {slow:.4f} s with the burden, and {quick:.4f} s without")
