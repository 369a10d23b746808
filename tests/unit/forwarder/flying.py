"""Lanes with casts in memory, for tests of the forwarder's pure parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from relay.cast import LaneName, Taken, Waiting
from relay.forwarder.lanes import Lane, Track
from relay.settings import Forwarder as Limits

LIMITS = Limits(
    window=100,
    window_bytes=100_000,
    function_window=50,
    function_window_bytes=20_000,
    max_attempts=3,
    backoff_initial=1.0,
    backoff_max=900.0,
    rotation="sticky",
    confirm="completed",
    lifetime=0.0,
    attempt_timeout=0.0,
    policies=(),
)


def waiting(id_: int, size: int = 1) -> Waiting:
    """A cast without a unique."""
    return id_, None, b"x" * size, 0


def due(id_: int, failures: int = 1) -> Taken:
    """A deferred cast that was taken."""
    return Taken(waiting(id_), failures, failures, True)


def lane_of(number: int, *ids: int, size: int = 1, priority: int = 1) -> Lane:
    """A lane of one track with these casts fresh in memory."""
    lane = Lane(b"f%d" % number, LIMITS)
    track_of(lane, number, priority).fresh.extend([waiting(id_, size) for id_ in ids])
    return lane


def track_of(lane: Lane, number: int = 1, priority: int = 1) -> Track:
    """The track of a lane at that priority."""
    return lane.track(LaneName(number, lane.function, priority))


async def until(condition: Callable[[], object]) -> None:
    """Let the loop go round until that is so; the test's own time limit ends what never is."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event, and must not get one for a test's sake
        await asyncio.sleep(0)
