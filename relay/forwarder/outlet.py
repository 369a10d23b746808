"""One upstream as the forwarder uses it: its health, its link if there is one, its schedule, and its survey.

The link tells an outlet what happens, and the outlet tells its owner, once it has taken it in.  One line is logged when
the upstream's state changes; tries that fail in a row are only counted.

Never decides whether the upstream is to be used, nor what is sent there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from random import Random
from typing import Protocol

from relay.clock import Clock, spell
from relay.forwarder.lanes import Flight
from relay.forwarder.schedule import Schedule
from relay.forwarder.survey import Survey
from relay.protocol.upstream import News
from relay.settings import Forwarder as Limits
from relay.settings import Server, Upstream
from relay.upstream.health import Condition, Event, Health
from relay.upstream.link import Link

log = logging.getLogger(__name__)

#: seconds that a link must hold, if no cast is completed on it, before its losses are forgotten
PROBATION_S = 30.0


class Owner(Protocol):
    """Who is told about an outlet; all in the event loop's thread."""

    def opened(self, outlet: Outlet) -> None:
        """There is a link."""

    def concerned(self, outlet: Outlet) -> bool:
        """Whether there is reason to ask where workers are."""

    def learned(self, outlet: Outlet, workers: Mapping[bytes, int] | None) -> bool:
        """The upstream said where workers are; True if that changed anything."""

    def told(self, outlet: Outlet, news: News[Flight]) -> None:
        """Verdicts came in."""

    def lost(self, outlet: Outlet, doubtful: list[Flight]) -> None:
        """The link is gone, or never came to be; its schedule is still what it was."""


class Outlet:
    """See the module."""

    def __init__(
        self, server: Server, limits: Limits, settings: Upstream, clock: Clock, rng: Random, owner: Owner
    ) -> None:
        self.server = server
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._owner = owner
        self.condition = Condition()
        self.schedule = Schedule(limits)
        self.survey = Survey(
            server, clock, rng, lambda: owner.concerned(self), lambda workers: owner.learned(self, workers)
        )
        self.link: Link[Flight] | None = None
        self._opened_at = 0.0
        self._completed_here = 0
        #: True while it is ended on purpose
        self._closing = False

    def __repr__(self) -> str:
        return f"<Outlet {self.server}, {self.condition.state.value}>"

    @property
    def is_open(self) -> bool:
        """True while there is a link."""
        return self.link is not None and self.link.is_open

    @property
    def sends(self) -> bool:
        """True while casts may be sent: the link is open, and was surveyed."""
        return self.is_open and self.survey.done

    @property
    def in_flight(self) -> int:
        """Casts there, without a verdict."""
        return self.schedule.window.moving + self.schedule.window.others

    def configure(self, limits: Limits, settings: Upstream) -> None:
        """Put other settings in force; the link stays."""
        self.schedule.limits = limits
        self._settings = settings
        if self.link is not None:
            self.link.configure(settings)

    def connect(self) -> None:
        """Begin a link."""
        self._closing = False
        self.link = Link(self.server, self._settings, self)
        self.link.start()

    def close(self) -> None:
        """End the link on purpose; what is in flight is told as lost."""
        self._closing = True
        self.survey.close()
        if self.link is not None:
            self.link.close()

    def tick(self, now: float) -> None:
        """Look at what only time changes."""
        self.schedule.tick(now)
        if self.is_open and now - self._opened_at >= PROBATION_S:
            self.condition.proved()

    def completed(self, casts: int) -> None:
        """So many casts are done."""
        if not self._completed_here:
            self.condition.proved()
        self._completed_here += casts
        self.condition.completed += casts

    # -- the link's side -------------------------------------------------------------------------------------------

    def opened(self, link: Link[Flight]) -> None:
        """The upstream is there: every lane starts anew on it."""
        condition, now = self.condition, self._clock.monotonic()
        away = condition.losses - condition.flaps
        condition.happened(Event.OPENED, now, self._rng)
        self._opened_at = now
        self._completed_here = 0
        self.survey.open()
        if not condition.flaps:
            log.info("upstream %s is in use%s", self.server, f" (reached after {away} tries)" if away else "")
        self._owner.opened(self)

    def told(self, link: Link[Flight], news: News[Flight]) -> None:
        """Verdicts came in."""
        self._owner.told(self, news)

    def lost(self, link: Link[Flight], reason: str, doubtful: list[Flight]) -> None:
        """The link is gone: what was in flight is in doubt."""
        self.link = None
        now = self._clock.monotonic()
        if not self._closing:
            self._log_loss(reason, len(doubtful), now)
        self.condition.happened(Event.LOST, now, self._rng, reason)
        self.survey.close()
        self._owner.lost(self, doubtful)

    def _log_loss(self, reason: str, doubtful: int, now: float) -> None:
        condition = self.condition
        if condition.state is Health.HEALTHY and condition.flaps == 0:
            log.warning(
                "upstream %s is lost: %s; in doubt, and to go out again: %d; completed there in %s: %d",
                self.server,
                reason,
                doubtful,
                spell(now - self._opened_at),
                self._completed_here,
            )
        elif not condition.losses:
            log.warning("upstream %s cannot be reached: %s", self.server, reason)
