"""The forwarder: takes casts from the spool, has an upstream get them done, and stores what came of it.

The strategies, named once, each where it stands.  *Heads* of the backlog in memory: `heads`.  *Ring*, and what each
upstream is used for: `routing`.  *Taking turns*: `schedule`.  *Windows*: `window`.  *Asking where workers are*:
`survey`.  *Sending*: `sending`.  *Verdicts*: `settling`.  Here they are joined, and here it is decided with which
upstreams there are links.

Promises: no cast is retired but on the server's WORK_COMPLETE behind a clean barrier.  What is in flight stays within
the windows; casts in memory stay within BUFFER_BYTES and one cast a lane; with VERDICTS_LIMIT verdicts not stored, or
the disk failing, nothing is sent.

Never does: speak SQL, know a caller, or wait.  Everything runs in the event loop's thread: `committed` (fresh casts),
`opened`, `learned`, `told` and `lost` (an outlet), what `heads` wakes, and `_tick`, which finds what the others left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from random import Random

from relay.cast import LaneName
from relay.clock import Clock
from relay.facts import Facts, LaneFacts
from relay.forwarder.expiring import Expiring
from relay.forwarder.heads import Heads
from relay.forwarder.lanes import Flight, Lane, Track
from relay.forwarder.outlet import Outlet
from relay.forwarder.rotation import Rotation
from relay.forwarder.routing import Routing
from relay.forwarder.sending import Sender
from relay.forwarder.sends import Sends
from relay.forwarder.settling import Settling
from relay.forwarder.tally import Tally
from relay.forwarder.trials import Trials
from relay.protocol.upstream import News
from relay.settings import Forwarder as Limits
from relay.settings import Upstream
from relay.spool.committer import Committed
from relay.spool.spool import Spool
from relay.upstream.link import Link
from relay.upstream.ring import preference

log = logging.getLogger(__name__)

#: seconds between two looks at what only time changes
TICK_S = 0.1
#: verdicts not yet stored beyond which nothing is sent
VERDICTS_LIMIT = 10_000
#: casts that one upstream gets before it is the next one's turn, when several are in use
DEAL = 8


class Forwarder:
    """See the module; `start` begins, `stop` ends it."""

    def __init__(self, limits: Limits, upstream: Upstream, spool: Spool, clock: Clock, rng: Random) -> None:
        self._limits = limits
        self._upstream = upstream
        self._spool = spool
        self._clock = clock
        self._rng = rng
        self._tally = Tally()
        self._heads = Heads(spool, clock, limits, self._joined, self._entered, self._pump)
        self._routing = Routing(self._heads)
        self._sender = Sender(spool.identity, self._heads, self._tally, clock)
        self._sends = Sends()
        self._settling = Settling(
            limits, spool, self._heads, self._routing, self._sends, self._tally, clock, rng, self._links
        )
        self._trials = Trials(
            lambda: self._upstream, self._sender, self._settling, self._tally, clock, self._may_send, self._go_on
        )
        self._expiring = Expiring(spool, self._heads, self._tally, clock)
        self._rotation = Rotation(self._routing, rng)
        self._line_up()
        self._dealer = 0
        self._stopping = False
        #: set when a stop has nothing to wait for
        self._quiet = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    # -- the agent's side ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Read the backlog's heads, connect, and go on until `stop`."""
        self._loop = asyncio.get_running_loop()
        self._heads.load()
        self._tick()

    async def stop(self, timeout_s: float) -> None:
        """Send nothing more; wait at most `timeout_s` for what is in flight in lanes that move; then let go."""
        self._stopping = True
        self._pump()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), timeout_s)
        if self._timer is not None:
            self._timer.cancel()
        self._trials.close()
        self._rotation.end()

    def configure(self, limits: Limits, upstream: Upstream) -> None:
        """Put other settings in force; the links to servers that are still listed stay."""
        self._limits, self._upstream = limits, upstream
        self._heads.configure(limits)
        self._settling.configure(limits)
        for outlet in self._rotation.outlets.values():
            outlet.configure(limits, upstream)
        self._line_up()
        self._pump()

    def _line_up(self) -> None:
        """Bring the outlets to what is configured, in the order of preference."""
        identity, old = self._spool.identity, self._rotation.outlets
        outlets = {}
        for server in preference(self._upstream.servers, identity.spool_id(identity.next_id)):
            outlet = old.get(server)
            if outlet is None:
                outlet = Outlet(server, self._limits, self._upstream, self._clock, self._rng, self._tally, self)
                if str(server) in self._spool.paused:
                    outlet.pause(True)
            outlets[server] = outlet
        self._rotation.line_up(outlets, self._limits.rotation, self._clock.monotonic())

    def facts(self, *, functions: bool = True) -> Facts:
        """What is so at this moment; of each function, too, which takes a while where they are thousands."""
        now = self._clock.monotonic()
        upstreams = tuple(outlet.facts(self._rotation.role(outlet, now)) for outlet in self._rotation.outlets.values())
        lanes = {}
        for lane in self._heads.lanes.values() if functions else ():
            scheduled = any(track.scheduled for track in lane.tracks)
            in_flight, workers = lane.in_flight, lane.workers
            if in_flight or lane.last_error or scheduled or workers is not None:
                stalled = any(share.window.stalled for share in lane.shares)
                lanes[lane.function] = LaneFacts(in_flight, stalled, lane.last_error, workers, scheduled)
        return Facts(upstreams, lanes, self._tally.ready, self._tally.deferred, dict(self._tally.failed))

    def is_in_flight(self, cast_id: int) -> bool:
        """True while that cast is at an upstream, without a verdict."""
        return any(flight.cast[0] == cast_id for flight in self._outstanding())

    def _outstanding(self) -> Iterator[Flight]:
        return chain.from_iterable(link.outstanding() for _, link in self._links())

    def _links(self) -> Iterator[tuple[Outlet, Link[Flight]]]:
        for outlet in self._rotation.outlets.values():
            if outlet.link is not None:
                yield outlet, outlet.link
        if self._trials.link is not None and self._trials.outlet is not None:
            yield self._trials.outlet, self._trials.link

    def missed(self) -> LaneName | None:
        """A lane with casts that are counted on disk, and never come from there; None while verdicts are under way."""
        return None if self._tally.unstored or self._tally.ready or self._tally.deferred else self._heads.missed()

    def fence(self, numbers: Collection[int]) -> set[int]:
        """Send nothing of these lanes until `unfence`; the ids of all casts that are in flight."""
        self._heads.fence(numbers)
        return {flight.cast[0] for flight in self._outstanding()}

    def unfence(self, numbers: Collection[int]) -> None:
        """What was changed of these lanes is told; they go on."""
        self._heads.unfence(numbers, self._clock.monotonic())
        self._pump()

    def expedite(self) -> None:
        """Deferred casts on disk were made due: look at them now."""
        self._heads.expedite()
        self._pump()

    def pause(self, server: str, paused: bool) -> None:
        """An upstream was paused or resumed; that stands in the spool already."""
        for outlet in self._rotation.outlets.values():
            if str(outlet.server) == server:
                outlet.pause(paused)
                self.changed(outlet)

    def committed(self, committed: Committed) -> None:
        """A batch was written: verdicts are stored, and fresh casts may go at once."""
        changes = committed.changes
        self._tally.stored(changes)
        self._heads.gone.difference_update(changes.retired_late)
        now, wall = self._clock.monotonic(), self._clock.wall()
        for number, ids in changes.left.items():
            self._heads.drop(number, set(ids))
        for number, due_at in changes.due.items():
            track = self._heads.track(self._spool.name(number))
            track.scheduled = track.scheduled or number in changes.scheduled
            self._heads.due_in(track, (due_at - wall) / 1e6)
        for number, fresh in changes.fresh.items():
            if fresh:
                self._heads.offer(self._heads.track(self._spool.name(number)), fresh, now)
        self._pump()

    # -- casts out -------------------------------------------------------------------------------------------------

    def _joined(self, lane: Lane) -> None:
        self._routing.join(lane)

    def _entered(self, lane: Lane, now: float) -> None:
        self._routing.enter(lane, now)

    def _go_on(self, lane: Lane) -> None:
        self._routing.enter(lane, self._clock.monotonic())
        self._pump()

    def _pump(self) -> None:
        """Send whatever may go, and read ahead for lanes that run low."""
        if self._stopping:
            if not any(outlet.schedule.window.moving for outlet in self._rotation.outlets.values()):
                self._quiet.set()
            return
        if self._may_send():
            now = self._clock.monotonic()
            outlets = [outlet for outlet in self._rotation.outlets.values() if outlet.sends]
            for outlet, picked in self._schedule_all(outlets, now):
                flights = self._expiring.sift(outlet.schedule, picked) if self._heads.policies.ages else picked
                if outlet.link is not None and flights:
                    self._sender.send(outlet.link, flights, now)
        self._heads.read()

    def _may_send(self) -> bool:
        return self._tally.unstored < VERDICTS_LIMIT and self._spool.failing is None and not self._stopping

    def _schedule_all(self, outlets: list[Outlet], now: float) -> Iterable[tuple[Outlet, list[Flight]]]:
        """What goes to each; with several in use they are dealt out, and another begins each time."""
        # in use are also links that may not send yet: nobody knows by then where workers are
        if len(self._rotation.used) < 2 or not outlets:
            return [(outlet, flights) for outlet in outlets if (flights := outlet.schedule.pick(now))]
        self._dealer += 1
        first = self._dealer % len(outlets)
        picked = {outlet: list[Flight]() for outlet in outlets[first:] + outlets[:first]}
        more = True
        while more:
            more = False
            for outlet, flights in picked.items():
                dealt = outlet.schedule.pick(now, DEAL)
                flights.extend(dealt)
                more = more or bool(dealt)
        return [(outlet, flights) for outlet, flights in picked.items() if flights]

    # -- the outlets' side -----------------------------------------------------------------------------------------

    def opened(self, outlet: Outlet) -> None:
        """There is a link."""
        self._rotation.opened(outlet, self._clock.monotonic())

    def concerned(self, outlet: Outlet) -> bool:
        """Whether there is reason to ask this upstream where workers are."""
        return outlet.fit and self._routing.concerned(outlet)

    def learned(self, outlet: Outlet, workers: dict[bytes, int] | None) -> bool:
        """The upstream said where workers are, or could not be asked: casts may go there in any case."""
        changed = workers is not None and self._routing.learned(outlet, workers, self._clock.monotonic())
        self._rescue()
        self._pump()
        return changed

    def changed(self, outlet: Outlet) -> None:
        """It may be used, or may not, although its link stays."""
        self._rotation.changed(self._clock.monotonic())
        self._pump()

    def told(self, outlet: Outlet, news: News[Flight]) -> None:
        """Verdicts came in."""
        if news.vanished:
            log.warning(
                "upstream %s knows nothing of casts that were in flight there: they go out again: %d",
                outlet.server,
                len(news.vanished),
            )
            for flight in news.vanished:
                outlet.schedule.returned(outlet.schedule.share(flight.track.lane), flight.size)
            self._doubt(news.vanished)
            for lane in {flight.track.lane for flight in news.vanished}:
                # there is room, although a cast that was done elsewhere goes nowhere again
                self._routing.enter(lane, self._clock.monotonic())
        self._settling.settle(outlet, news, self._clock.monotonic())
        self._pump()

    def lost(self, outlet: Outlet, doubtful: list[Flight]) -> None:
        """The link is gone: what was in flight is in doubt, and it may be the next upstream's turn."""
        self._trials.shaken(outlet, self._clock.monotonic())
        self._doubt(doubtful, lost=True)
        outlet.schedule.clear()
        if not self._stopping:
            self._rotation.lost(outlet, self._clock.monotonic())
            self._pump()

    def _doubt(self, doubtful: Iterable[Flight], *, lost: bool = False) -> None:
        """Ready again at once, in the order of ids, before anything else of their lane."""
        now = self._clock.monotonic()
        again: dict[Track, list[Flight]] = {}
        for flight in sorted(doubtful, key=lambda flight: flight.cast[0]):
            if self._sends.lost(flight):
                self._tally.failed["in_doubt"] += 1
                flight.doubts += 1
                self._tally.landed(flight)
                if not (lost and self._trials.suspects(flight, now)):
                    again.setdefault(flight.track, []).append(flight)
        for track, flights in again.items():
            track.again[:0] = flights
            self._routing.enter(track.lane, now)

    def _give_up_overdue(self, outlet: Outlet, now: float) -> None:
        """Attempts that have taken too long are failures; the job stays at the server, and may be done late."""
        if outlet.link is not None and outlet.overdue.due(now):
            found = outlet.overdue.find(outlet.link.outstanding(), now)
            if found:
                self._settling.give_up(outlet, outlet.link.let_go(found), now)

    def _rescue(self) -> None:
        """Casts that wait where no worker is are sent also where one is."""
        lanes, self._routing.stranded = self._routing.stranded, set()
        if not lanes:
            return
        for outlet in self._rotation.outlets.values():
            if outlet.link is not None:
                here = [lane for lane in lanes if outlet.schedule.share(lane).stranded]
                self._sends.double(outlet.link.outstanding(), here)
        for lane in lanes:
            self._routing.enter(lane, self._clock.monotonic())

    # -- time ------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Look at what only time changes: stalled lanes, casts that are due, servers to be tried again."""
        self._timer = self._loop.call_later(TICK_S, self._tick)
        now = self._clock.monotonic()
        for outlet in self._rotation.outlets.values():
            outlet.tick(now)
            if self._heads.policies.time_attempts:
                self._give_up_overdue(outlet, now)
        if self._expiring.tick(now, self._rotation.outlets.values()):
            # what waits for a moment of the wall clock may have to go now
            self._heads.expedite()
        self._heads.tick(now)
        self._rotation.tick(now)
        self._trials.tick(now, [outlet for outlet in self._rotation.outlets.values() if outlet.sends and outlet.fit])
        for outlet in self._rotation.outlets.values():
            outlet.survey.tick(now)
        self._pump()
