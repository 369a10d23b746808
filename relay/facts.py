"""What the forwarder knows and others show: lanes and upstreams at one moment.

The forwarder publishes a `Facts`, the agent hands it on to control (and intake), so that none of the loops knows
another.  Frozen: a reader may keep it as long as it likes, it only grows old.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class UpstreamFacts:
    """One job server: `state` is healthy, throttled or paused; `in_flight` counts casts."""

    server: str
    state: str
    in_flight: int
    last_error: str


@dataclass(frozen=True, slots=True)
class LaneFacts:
    """One function: casts in flight, seconds since its last good verdict (None: none yet), its last error."""

    in_flight: int
    quiet_seconds: float | None
    stalled: bool
    last_error: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything at once; an empty one is what holds before the forwarder has run."""

    upstreams: tuple[UpstreamFacts, ...] = ()
    lanes: Mapping[bytes, LaneFacts] = field(default_factory=dict)
    in_flight: int = 0
