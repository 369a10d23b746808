"""With which upstreams there are links, and which are in use.

*Sticky*: one is in use until its link is lost; then it is the next one's turn.  While another than the preferred one is
in use, there is a link to the preferred one as soon as it can be reached; once that has held for RETURN_S (by chance,
so that a fleet does not come back as one) new casts go there, and what is in flight elsewhere ends there.  *Round
robin*: all that are well are in use, each with a link.  Beside these there are links to upstreams that alone have
workers for some lanes, and, while their casts are in flight, to those that are to be left: paused by the operator, or
asking for grace (a new connection is refused while the old one lives: a job server that wants to end).

Those that failed are tried again even if it is not their turn, so that what is told of them is so; a link that is for
nothing is ended.  Decides and connects, never sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from relay.clock import spell
from relay.forwarder.outlet import Outlet
from relay.forwarder.routing import Routing
from relay.settings import Server
from relay.upstream.ring import Ring

#: seconds that a preferred upstream must have been well before it is in use again: drawn between the two
RETURN_S = (300.0, 1800.0)
#: seconds that a link must have been there before it is ended as being for nothing
KEEP_S = 5.0
#: seconds between two looks for such
PART_S = 1.0
STICKY, ROUND_ROBIN = ROTATIONS = ("sticky", "round_robin")


class Rotation:
    """The links of a forwarder."""

    def __init__(self, routing: Routing, rng: Random) -> None:
        self._routing = routing
        self._rng = rng
        self._ring = Ring(())
        self._sticky = True
        self.outlets: dict[Server, Outlet] = {}
        self.used: list[Outlet] = []
        self._ended = False
        self._part_at = 0.0
        #: when each upstream that is well may be in use again
        self._return_at: dict[Outlet, float] = {}

    def line_up(self, outlets: dict[Server, Outlet], rotation: str, now: float) -> None:
        """These are the upstreams, in the order of preference; the one in use stays so, if it is still listed."""
        used = self._ring.current if self._ring.order else None
        self._ring = Ring(tuple(outlets))
        if used is not None:
            self._ring.stay_with(used)
        gone = [outlet for outlet in self.outlets.values() if outlet.server not in outlets]
        self.outlets, self._sticky = outlets, rotation != ROUND_ROBIN
        self._use(now)
        for outlet in gone:
            self._return_at.pop(outlet, None)
            outlet.close()
            outlet.schedule.leave()

    def end(self) -> None:
        """Let go of every link, and make none any more."""
        self._ended = True
        for outlet in self.outlets.values():
            outlet.close()

    def opened(self, outlet: Outlet, now: float) -> None:
        """There is a link."""
        self._return_at[outlet] = now + self._rng.uniform(*RETURN_S)
        self._turn(now)

    def lost(self, outlet: Outlet, now: float) -> None:
        """There is a link no longer; the outlet's schedule is clear."""
        self._return_at.pop(outlet, None)
        self._routing.wanted.discard(outlet)
        if self._ring.order and self._ring.current == outlet.server:
            self._ring.rotate()
        self._use(now)
        self._turn(now)

    def changed(self, now: float) -> None:
        """An upstream was paused, resumed, asks for grace, or does so no longer."""
        self._turn(now)

    def tick(self, now: float) -> None:
        """Connect and part as time goes on."""
        self._turn(now)
        if self._sticky:
            self._return(now)
        for outlet in self._routing.wanted:
            self._connect(outlet, now)
        for outlet in self.outlets.values():
            if outlet.failed:
                self._connect(outlet, now)
        if now >= self._part_at:
            self._part_at = now + PART_S
            for outlet in self.outlets.values():
                if self._is_for_nothing(outlet, now):
                    outlet.close()

    def role(self, outlet: Outlet, now: float) -> str:
        """What an upstream is used for, in words; empty where there is no link."""
        if outlet in self.used:
            return "in use"
        if not outlet.is_open:
            return ""
        if not outlet.fit:
            return "finishing"
        if outlet.schedule.routed:
            return "for functions without workers elsewhere"
        if outlet.server in self._preferred:
            return f"in use again in {spell(max(0.0, self._return_at[outlet] - now))}"
        return "finishing"

    # -- the inside ------------------------------------------------------------------------------------------------

    def _turn(self, now: float) -> None:
        """Have links to those that are to be in use, and use those that are well."""
        if not self._sticky:
            for outlet in self.outlets.values():
                self._connect(outlet, now)
        elif self._ring.order:
            current = self.outlets[self._ring.current]
            if current.link is None or not current.fit:
                server = self._ring.turn(lambda server: self.outlets[server].is_open and self.outlets[server].fit)
                if server is None:
                    server = self._ring.turn(lambda server: self.outlets[server].may_be_tried(now))
                if server is not None:
                    self._connect(self.outlets[server], now)
        if self._good() != self.used:
            self._use(now)

    def _connect(self, outlet: Outlet, now: float) -> None:
        if outlet.link is None and outlet.may_be_tried(now) and not self._ended:
            outlet.connect()

    def _return(self, now: float) -> None:
        """Look after those that are preferred to the one in use."""
        for server in self._preferred:
            outlet = self.outlets[server]
            self._connect(outlet, now)
            if outlet.is_open and outlet.fit and now >= self._return_at[outlet]:
                self._ring.stay_with(server)
                self._use(now)
            if outlet.link is not None:
                return

    @property
    def _preferred(self) -> Sequence[Server]:
        """The servers that this host would rather use than the one it does."""
        return self._ring.order[: self._ring.order.index(self._ring.current)] if self._ring.order else ()

    def _good(self) -> list[Outlet]:
        """Those that may be in use now."""
        good = [outlet for outlet in self.outlets.values() if outlet.is_open and outlet.fit]
        if self._sticky and self._ring.order:
            good = [outlet for outlet in good if outlet.server == self._ring.current]
        return good

    def _use(self, now: float) -> None:
        """Say which are in use now, and have every lane routed anew."""
        before, self.used = self.used, self._good()
        self._routing.use(tuple(self.outlets.values()), self.used, now)
        for outlet in self.used:
            if outlet not in before:
                outlet.say_in_use()

    def _is_for_nothing(self, outlet: Outlet, now: float) -> bool:
        if (
            not outlet.is_open
            or outlet in self.used
            or outlet in self._routing.wanted
            or now - outlet.opened_at < KEEP_S
        ):
            return False
        if outlet.fit and (outlet.server in self._preferred or outlet.schedule.routed):
            return False
        return not outlet.busy
