"""What an upstream said of casts becomes what is stored of them: retired, set back, dead, or ready again.

Done is retired.  A failure of the work is counted and waits for its backoff on disk, dead once max_attempts are used up
(never while draining).  Trouble of the server counts nothing: the cast is ready again, and the function is left alone
at that server for a while.  Refused for good is dead.

An attempt that takes longer than `attempt_timeout` is given up as a failure of the work.  A worker that completes one
all the same, or one that had failed, retires the cast whatever has become of it since: by the spool's own look at its
state, unless it is in flight again, which is then done.

Never speaks to an upstream, never waits.  What is handed to the spool counts as in flight until its COMMIT.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from random import Random

from relay.clock import Clock, spell
from relay.forwarder.heads import Heads
from relay.forwarder.lanes import Flight, Lane, Share
from relay.forwarder.outlet import Outlet
from relay.forwarder.routing import Routing
from relay.forwarder.sends import Sends
from relay.forwarder.tally import Tally
from relay.forwarder.verdicts import Rule, describe, set_back
from relay.protocol.packets import Kind
from relay.protocol.upstream import PRIORITIZED, News
from relay.settings import Forwarder as Limits
from relay.spool.changes import Done, Kept, Setback
from relay.spool.spool import Spool
from relay.upstream.backoff import Backoff
from relay.upstream.link import Link
from relay.upstream.replies import verdict
from relay.verdict import Outcome, Verdict

log = logging.getLogger(__name__)

#: seconds between two log lines about failures of one function, and lines about deaths in that time
LOG_S = 1.0
DEATHS = 10


class Settling:
    """Verdicts in, changes to the spool out."""

    def __init__(
        self,
        limits: Limits,
        spool: Spool,
        heads: Heads,
        routing: Routing,
        sends: Sends,
        tally: Tally,
        clock: Clock,
        rng: Random,
        links: Callable[[], Iterable[tuple[Outlet, Link[Flight]]]],
    ) -> None:
        """`links` are those that casts are in flight on, each with its upstream."""
        self._spool = spool
        self._heads = heads
        self._routing = routing
        self._sends = sends
        self._tally = tally
        self._clock = clock
        self._rng = rng
        self._links = links
        #: completed sends of casts that had their verdict by another one: it may not have been done
        self._late: list[Flight] = []
        self.configure(limits)

    def configure(self, limits: Limits) -> None:
        """Put other limits in force."""
        self._backoff = Backoff(limits.backoff_initial, limits.backoff_max)

    def settle(self, outlet: Outlet, news: News[Flight], now: float) -> None:
        """Store what came of these casts."""
        done = self._complete(outlet, news.done, now) if news.done else []
        kept = self._kept(outlet, done, news.done)
        setbacks = []
        for flight, kind, text in news.troubles:
            setback = self._setback(outlet, flight, verdict(kind, text), now)
            if setback is not None:
                setbacks.append(setback)
        self._store(outlet, done, setbacks, kept)
        late, self._late = [*news.late, *self._late], []
        if late:
            self._settle_late(outlet, late, now)

    def _store(self, outlet: Outlet, done: list[Done], setbacks: list[Setback], kept: Sequence[Kept] = ()) -> None:
        if done or setbacks:
            self._tally.handed_in(len(done) + len(setbacks), len(done), outlet.condition)
            self._spool.store(done, setbacks, kept)

    def _kept(self, outlet: Outlet, done: Sequence[Done], flights: Sequence[Flight]) -> list[Kept]:
        """What the history is to have of those of these that are done, the first send of each; nothing where it is off.

        In a pass of its own, so that without a history no cast costs anything for it.
        """
        if not done or not self._spool.keeps_done:
            return []
        wall, server, lanes = self._clock.wall(), str(outlet.server), {one[0]: one[1] for one in done}
        kept = []
        for flight in flights:
            id_, attempts = flight.cast[0], flight.attempts + flight.doubts + 1
            if (lane := lanes.pop(id_, None)) is not None:
                kept.append((id_, lane, attempts, flight.failures, flight.began_us, wall, server))
        return kept

    def give_up(self, outlet: Outlet, flights: Sequence[Flight], now: float) -> None:
        """These attempts have taken too long."""
        setbacks = []
        for flight in flights:
            text = f"no verdict within {flight.track.lane.rule.attempt_timeout:g} s"
            what = Verdict(Outcome.DEFERRED, "attempt_timeout", text, counts=True)
            setback = self._setback(outlet, flight, what, now)
            if setback is not None:
                setbacks.append(setback)
        self._store(outlet, [], setbacks)

    def _settle_late(self, by: Outlet, flights: Sequence[Flight], now: float) -> None:
        """These casts were done, `by` an upstream, in an attempt that had ended otherwise, or was given up."""
        again = {flight.cast[0] for flight in flights}
        flying: set[int] = set()
        for outlet, link in self._links():
            sent = [one for one in link.outstanding() if one.cast[0] in again and not one.over]
            if sent:
                flying |= {flight.cast[0] for flight in sent}
                done = self._complete(outlet, link.let_go(sent), now)
                self._store(outlet, done, [], self._kept(by, done, flights))
        late: list[Done] = []
        for flight in flights:
            id_ = flight.cast[0]
            # one that is in flight again was completed just now, or its own answer is on its way
            if id_ not in flying and id_ not in self._heads.gone:
                self._heads.gone.add(id_)
                self._heads.drop(flight.track.name.number, {id_})
                late.append((id_, flight.track.name.number, flight.size, flight.deferred, 0))
        if late:
            self._spool.retire_late([one[0] for one in late], self._kept(by, late, flights))

    def _complete(self, outlet: Outlet, flights: Sequence[Flight], now: float) -> list[Done]:
        done: list[Done] = []
        sums: dict[Lane, list[int]] = {}
        for flight in flights:
            track = flight.track
            if flight.over:
                self._late.append(flight)
            elif not flight.shared or self._sends.settle(flight):
                done.append((flight.cast[0], track.name.number, flight.size, flight.deferred, flight.doubts))
            found = sums.get(track.lane)
            if found is None:
                sums[track.lane] = [1, flight.size]
            else:
                found[0] += 1
                found[1] += flight.size
        for lane, (casts, size) in sums.items():
            share = outlet.schedule.share(lane)
            outlet.schedule.completed(share, casts, size, now)
            lane.last_error = ""
            self._after(share, now)
        outlet.completed(len(done))
        return done

    def _after(self, share: Share, now: float) -> None:
        """A lane had a verdict, and has room again."""
        self._routing.heard(share, now)
        for track in share.lane.tracks:
            self._heads.refill(track)

    def _setback(self, outlet: Outlet, flight: Flight, what: Verdict, now: float) -> Setback | None:
        """What to store of an attempt that was not done; None when nothing is."""
        lane = flight.track.lane
        share = outlet.schedule.share(lane)
        self._tally.failed[what.reason] += 1
        lane.last_error = what.text
        outlet.schedule.failed(share, flight.size, now)
        if flight.over:
            # its handle is remembered for a while, and with it this flight
            flight.forget_payload()
            self._after(share, now)
            return None
        if what.reason == "server_error" and flight.kind in PRIORITIZED and outlet.link is not None:
            self._refused_kind(outlet, outlet.link, flight)
            self._after(share, now)
            return None
        if what.outcome is Outcome.DEFERRED and not what.counts:
            self._leave_alone(outlet, share, flight, now)
            self._log_failure(outlet, flight, what, f"{lane.function.decode()} waits", now)
            return None
        self._sends.settle(flight)
        wall = self._clock.wall()
        rule = Rule(lane.rule.max_attempts, self._backoff, self._spool.draining)
        setback = set_back(flight, what, rule, str(outlet.server), wall, now - flight.began_at, self._rng)
        due_at = setback.due_at
        next_step = "dead" if due_at is None else f"again in {spell((due_at - wall) / 1e6)}"
        self._log_failure(outlet, flight, what, next_step, now)
        flight.forget_payload()
        self._after(share, now)
        return setback

    def condemn(self, outlet: Outlet, flight: Flight, reason: str, now: float) -> None:
        """A cast by which links are lost is dead."""
        what = Verdict(Outcome.REFUSED, "kills_link", f"each link that it was sent on alone was lost: {reason}")
        wall = self._clock.wall()
        rule = Rule(flight.track.lane.rule.max_attempts, self._backoff, self._spool.draining)
        setback = set_back(flight, what, rule, str(outlet.server), wall, now - flight.began_at, self._rng)
        self._log_failure(outlet, flight, what, "dead", now)
        self._tally.failed[what.reason] += 1
        self._tally.sent([flight])
        self._tally.handed_in(1)
        self._spool.store([], [setback])

    def _refused_kind(self, outlet: Outlet, link: Link[Flight], flight: Flight) -> None:
        """The server may not know this priority: the cast is ready again, and goes there as a normal one at once."""
        if flight.kind not in link.refused:
            link.refused.add(flight.kind)
            log.info(
                "upstream %s refuses %s: such casts go there as normal ones", outlet.server, Kind(flight.kind).name
            )
        self._give_back(flight)

    def _give_back(self, flight: Flight) -> None:
        """It is ready again, unless it is out elsewhere: then that is its send."""
        if self._sends.lost(flight):
            flight.attempts += 1
            self._heads.put_back(flight)
            self._tally.landed(flight)

    def _leave_alone(self, outlet: Outlet, share: Share, flight: Flight, now: float) -> None:
        """The server has trouble with this function: the cast is ready again, the function waits a little there."""
        self._give_back(flight)
        if now >= share.not_before:
            share.troubles += 1
            outlet.schedule.rest(share, now + self._backoff.wait(share.troubles, self._rng))
        self._after(share, now)

    def _log_failure(self, outlet: Outlet, flight: Flight, what: Verdict, next_step: str, now: float) -> None:
        """One line an attempt, at most one a second and function, the others are counted; of deaths DEATHS as well."""
        lane = flight.track.lane
        if now - lane.log_at >= LOG_S:
            lane.deaths_logged = 0
        elif next_step == "dead" and lane.deaths_logged < DEATHS:
            lane.deaths_logged += 1
        else:
            lane.unlogged += 1
            return
        took_s = now - flight.began_at
        log.warning("%s", describe(flight, what, str(outlet.server), took_s, next_step, lane.unlogged))
        lane.log_at, lane.unlogged = now, 0
