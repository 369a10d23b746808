"""The health of one upstream, as a table: healthy, throttled or paused.

    (state, event)          -> state         healthy: may be used; throttled: failed, and not to be tried before
    healthy    lost         throttled        `retry_at`; paused: stopped by the operator, whatever else happens.
    healthy    grace        throttled        The upstream wants to end: it refuses new connections, its link lives
    healthy    left         throttled, due at once: its link was ended on purpose, nothing failed
    throttled  lost         throttled
    throttled  opened       healthy
    any        pause        paused
    paused     resume       throttled, due at once

Pure: `now` (monotonic seconds) and chance are arguments.
"""

from __future__ import annotations

from enum import Enum
from random import Random

from relay.upstream.backoff import Backoff

#: seconds between tries to reach a server: at most the first, never more than the second
RECONNECT = Backoff(0.2, 15.0)


class Health(Enum):
    """The three states; the values are the words of status."""

    HEALTHY = "healthy"
    THROTTLED = "throttled"
    PAUSED = "paused"


class Event(Enum):
    """What changes them."""

    OPENED = "opened"
    LOST = "lost"
    LEFT = "left"
    GRACE = "grace"
    PAUSE = "pause"
    RESUME = "resume"


TABLE: dict[tuple[Health, Event], Health] = {
    (Health.HEALTHY, Event.OPENED): Health.HEALTHY,
    (Health.HEALTHY, Event.LOST): Health.THROTTLED,
    (Health.HEALTHY, Event.LEFT): Health.THROTTLED,
    (Health.HEALTHY, Event.GRACE): Health.THROTTLED,
    (Health.HEALTHY, Event.PAUSE): Health.PAUSED,
    (Health.HEALTHY, Event.RESUME): Health.HEALTHY,
    (Health.THROTTLED, Event.OPENED): Health.HEALTHY,
    (Health.THROTTLED, Event.LOST): Health.THROTTLED,
    (Health.THROTTLED, Event.LEFT): Health.THROTTLED,
    (Health.THROTTLED, Event.GRACE): Health.THROTTLED,
    (Health.THROTTLED, Event.PAUSE): Health.PAUSED,
    (Health.THROTTLED, Event.RESUME): Health.THROTTLED,
    (Health.PAUSED, Event.OPENED): Health.PAUSED,
    (Health.PAUSED, Event.LOST): Health.PAUSED,
    (Health.PAUSED, Event.LEFT): Health.PAUSED,
    (Health.PAUSED, Event.GRACE): Health.PAUSED,
    (Health.PAUSED, Event.PAUSE): Health.PAUSED,
    (Health.PAUSED, Event.RESUME): Health.THROTTLED,
}


class Condition:
    """One upstream's health over time; it begins throttled and due at once: untried."""

    def __init__(self) -> None:
        self.state = Health.THROTTLED
        self.retry_at = 0.0
        #: when it came into its state (monotonic seconds)
        self.since = 0.0
        #: losses in a row, and how many of them were of a link that had opened; a link that opens and is lost again
        #: before anything was completed on it is no better than one that does not open
        self.losses = 0
        self.flaps = 0
        self.last_error = ""
        #: casts that were done there
        self.completed = 0

    def happened(self, event: Event, now: float, rng: Random, error: str = "") -> None:
        """Take in an event; `error` says what a loss was."""
        was, self.state = self.state, TABLE[self.state, event]
        if was is not self.state:
            self.since = now
        if event is Event.OPENED:
            self.last_error = ""
        elif event is Event.LOST:
            self.flaps += was is Health.HEALTHY
            self.losses += 1
            self.last_error = error
            self.retry_at = now + RECONNECT.wait(self.losses, rng)
        elif event is Event.GRACE:
            self.last_error = error
        elif event in (Event.RESUME, Event.LEFT):
            self.retry_at = now

    def proved(self) -> None:
        """It has shown that it works: what went wrong before is forgotten."""
        self.losses = self.flaps = 0

    def may_be_tried(self, now: float) -> bool:
        """True when a connection to it is in order."""
        return self.state is Health.HEALTHY or (self.state is Health.THROTTLED and now >= self.retry_at)
