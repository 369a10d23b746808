"""One upstream as the forwarder uses it: its health, its link if there is one, its schedule, and its survey.

The link tells an outlet what happens, and the outlet tells its owner, once it has taken it in.  One line is logged when
the upstream's state changes; tries that fail in a row are only counted.

Never decides whether the upstream is to be used, nor what is sent there.
"""

from __future__ import annotations

import logging
from random import Random
from typing import Protocol

from relay.clock import Clock, spell
from relay.facts import UpstreamFacts
from relay.forwarder.lanes import Flight, Lane
from relay.forwarder.overdue import Overdue
from relay.forwarder.schedule import Schedule
from relay.forwarder.survey import Survey
from relay.forwarder.tally import Tally
from relay.protocol.upstream import News
from relay.settings import Forwarder as Limits
from relay.settings import Server, Upstream
from relay.upstream.census import Census
from relay.upstream.health import Condition, Event, Health
from relay.upstream.link import Link

log = logging.getLogger(__name__)

#: seconds that a link must hold, if no cast is completed on it, before its losses are forgotten
PROBATION_S = 30.0
#: seconds that an upstream that wants to end is kept from it by casts of functions of whose workers nothing is known
GRACE_S = 5.0
#: seconds from one audit to the next, the age of the casts that are asked about, and how many of them at a time
AUDIT_S = 60.0
AUDITED_AGE_S = 30.0
AUDITED = 50
#: seconds between two tries to find out whether the server's answers about jobs can be trusted
PROBE_S = 5.0


class Owner(Protocol):
    """Who is told about an outlet; all in the event loop's thread."""

    def opened(self, outlet: Outlet) -> None:
        """There is a link."""

    def concerned(self, outlet: Outlet) -> bool:
        """Whether there is reason to ask where workers are."""

    def learned(self, outlet: Outlet, workers: dict[bytes, int] | None) -> bool:
        """The upstream said where workers are, or could not be asked; True if that changed anything."""

    def changed(self, outlet: Outlet) -> None:
        """It may be used, or may not, although its link stays: see `fit`."""

    def told(self, outlet: Outlet, news: News[Flight]) -> None:
        """Verdicts came in."""

    def lost(self, outlet: Outlet, doubtful: list[Flight]) -> None:
        """The link is gone, or never came to be; its schedule is still what it was."""


class Outlet:
    """See the module."""

    def __init__(
        self,
        server: Server,
        limits: Limits,
        settings: Upstream,
        clock: Clock,
        rng: Random,
        tally: Tally,
        owner: Owner,
    ) -> None:
        self.server = server
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._tally = tally
        self._owner = owner
        self.condition = Condition()
        self.condition.since = clock.monotonic()
        self.schedule = Schedule(limits)
        self.survey = Survey(server, clock, rng, lambda: owner.concerned(self), self._learned)
        self.overdue = Overdue()
        self.link: Link[Flight] | None = None
        #: True while it refuses new connections, although its link lives
        self.grace = False
        self._grace_until = 0.0
        #: when its link opened (monotonic seconds), and how many casts were completed on it
        self.opened_at = 0.0
        self.completed_here = 0
        self._audit_at = 0.0
        #: when it was lost, and how many casts had been completed anywhere by then; None while it was never in use
        self._lost: tuple[float, int] | None = None
        #: tries that failed and were told of in the log
        self._told = 0
        #: True while it is in use, and the log does not say so before it has shown that it works
        self._unsaid = False
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
    def fit(self) -> bool:
        """True unless it is to be left, whether or not there is a link: paused, or asking for grace."""
        return not self.grace and self.condition.state is not Health.PAUSED

    @property
    def failed(self) -> bool:
        """True while there is no link because the last one was lost, or never came to be."""
        return self.link is None and bool(self.condition.last_error)

    @property
    def busy(self) -> bool:
        """True while there are casts in flight there that may be done yet."""
        flights = self.link.outstanding() if self.link is not None else []
        return any(not flight.over and self._waits_for(flight.track.lane) for flight in flights)

    def _waits_for(self, lane: Lane) -> bool:
        """Whether an upstream that wants to end is to stay for a lane's casts: not where no worker is known of."""
        share = self.schedule.share(lane)
        if not self.grace or share.workers or share.window.moving:
            return True
        return not share.parked and self._clock.monotonic() < self._grace_until

    @property
    def in_flight(self) -> int:
        """Casts there, without a verdict."""
        return self.schedule.window.casts

    def facts(self, role: str) -> UpstreamFacts:
        """What is so at this moment."""
        condition = self.condition
        return UpstreamFacts(
            str(self.server),
            condition.state.value,
            self.in_flight,
            condition.last_error,
            condition.completed,
            sum(share.routed for share in self.schedule.shares.values()) if self.is_open else 0,
            self._clock.monotonic() - condition.since,
            role,
        )

    def configure(self, limits: Limits, settings: Upstream) -> None:
        """Put other settings in force; the link stays."""
        self.schedule.limits = limits
        self._settings = settings
        if self.link is not None:
            self.link.configure(settings)

    def may_be_tried(self, now: float) -> bool:
        """True when a link to it is in order."""
        return self.fit and self.condition.may_be_tried(now)

    def pause(self, paused: bool) -> None:
        """The operator's word: nothing new is sent there, what is in flight may finish; or it may be used again."""
        now = self._clock.monotonic()
        self.condition.happened(Event.PAUSE if paused else Event.RESUME, now, self._rng)
        if not paused and self.is_open:
            self.condition.happened(Event.OPENED, now, self._rng)

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
        if self.is_open and now - self.opened_at >= PROBATION_S:
            self._prove()
        if self.is_open and self.link is not None and now >= self._audit_at:
            self._audit_at = now + (AUDIT_S if self.link.trusted else PROBE_S)
            self.link.audit(lambda flight: now - flight.began_at >= AUDITED_AGE_S, AUDITED)

    def completed(self, casts: int) -> None:
        """So many casts are done."""
        if not self.completed_here:
            self._prove()
        self.completed_here += casts

    def _prove(self) -> None:
        self.condition.proved()
        self._told = 0
        if self._unsaid:
            self.say_in_use()

    # -- the link's side -------------------------------------------------------------------------------------------

    def opened(self, link: Link[Flight]) -> None:
        """The upstream is there: every lane starts anew on it."""
        now = self._clock.monotonic()
        self.condition.happened(Event.OPENED, now, self._rng)
        self.opened_at = now
        self._audit_at = now + PROBE_S * self._rng.uniform(0.0, 1.0)
        self.completed_here = 0
        self.schedule.window.open(now)
        self.survey.open()
        self._owner.opened(self)

    def told(self, link: Link[Flight], news: News[Flight]) -> None:
        """Verdicts came in."""
        self._owner.told(self, news)

    def lost(self, link: Link[Flight], reason: str, doubtful: list[Flight]) -> None:
        """The link is gone: what was in flight is in doubt."""
        self.link, now = None, self._clock.monotonic()
        self._unsaid = False
        if self._closing:
            # it held until it was for nothing
            self.condition.proved()
            self.condition.happened(Event.LEFT, now, self._rng)
        else:
            self._log_loss(reason, len(doubtful), now)
            self.condition.happened(Event.LOST, now, self._rng, reason)
        self.grace = False
        self.survey.close()
        self._owner.lost(self, doubtful)

    def _learned(self, answer: Census) -> bool:
        if self.is_open and answer.refused != self.grace:
            self._ask_for_grace(answer.refused)
        return self._owner.learned(self, answer.workers)

    def _ask_for_grace(self, asks: bool) -> None:
        self.grace, now = asks, self._clock.monotonic()
        self._grace_until = now + GRACE_S
        if asks:
            log.warning(
                "upstream %s refuses new connections, so it wants to end: nothing more is sent there; in flight: %d",
                self.server,
                self.in_flight,
            )
            self.condition.happened(Event.GRACE, now, self._rng, "it refuses new connections while the old one lives")
        else:
            log.info("upstream %s takes new connections again", self.server)
            self.condition.happened(Event.OPENED, now, self._rng)
        self._owner.changed(self)

    # -- what is said in the log -----------------------------------------------------------------------------------

    def say_in_use(self) -> None:
        """It is in use from now on: after how long, and what was done without it.

        Where its last link was lost as soon as it had opened, that is said once it has shown that this one is better.
        """
        self._unsaid = self.condition.flaps > 0
        if self._unsaid:
            return
        away = ""
        if self._lost is not None:
            since, completed = self._lost
            away = f": back after {spell(self._clock.monotonic() - since)}"
            away += f", {self._tally.completed - completed} casts completed elsewhere since"
        elif self.condition.losses != self._told:
            away = f": reached after {self.condition.losses} tries"
        log.info("upstream %s is in use%s", self.server, away)
        self._lost, self._told = None, self.condition.losses

    def _log_loss(self, reason: str, doubtful: int, now: float) -> None:
        condition = self.condition
        if self.grace:
            log.info("upstream %s has ended, as it wanted to: %s; in doubt: %d", self.server, reason, doubtful)
        elif (condition.state is Health.HEALTHY and condition.flaps == 0) or (
            condition.state is Health.PAUSED and doubtful
        ):
            log.warning(
                "upstream %s is lost: %s; in doubt, and to go out again: %d; completed there in %s: %d",
                self.server,
                reason,
                doubtful,
                spell(now - self.opened_at),
                self.completed_here,
            )
        elif not condition.losses:
            log.warning("upstream %s cannot be reached: %s", self.server, reason)
        if self._lost is None and self.opened_at:
            self._lost = (now, self._tally.completed)
