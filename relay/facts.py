"""What the forwarder knows and others show: lanes and upstreams at one moment.

The forwarder publishes a `Facts`, the agent hands it on to control (and intake), so that none of the loops knows
another.  Frozen: a reader may keep it as long as it likes, it only grows old.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class UpstreamFacts:
    """One job server: `state` is healthy, throttled or paused; `in_flight` counts casts.

    `completed` counts the casts that were done there since the agent's start, `functions` those that send casts there
    now; `since_s` is how long it has been in its state, `role` what it is used for, in words.
    """

    server: str
    state: str
    in_flight: int
    last_error: str
    completed: int = 0
    functions: int = 0
    since_s: float = 0.0
    role: str = ""


@dataclass(frozen=True, slots=True)
class LaneFacts:
    """One function: casts in flight, whether it is stalled (in flight, and no verdict for a while), its last error.

    `scheduled` says that it has casts whose caller named a moment that has not come.
    `workers` is how many the upstream in use said it has for the function, None where it was not asked.
    """

    in_flight: int
    stalled: bool
    last_error: str
    workers: int | None = None
    scheduled: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Something an operator should know: a code, one sentence, and since when (Unix seconds)."""

    code: str
    text: str
    since: float


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything at once; an empty one is what holds before the forwarder has run.

    `in_flight_ready` and `in_flight_deferred` say from which state on disk the casts in flight were taken; a cast
    counts as in flight until its verdict is stored.  `lanes` has the functions of which there is something to tell.
    `failed` counts the attempts since the agent's start that did not go well, by reason.
    """

    upstreams: tuple[UpstreamFacts, ...] = ()
    lanes: Mapping[bytes, LaneFacts] = field(default_factory=dict)
    in_flight_ready: int = 0
    in_flight_deferred: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
