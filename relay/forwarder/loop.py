"""The forwarder: takes casts from the spool, has an upstream get them done, and stores what came of it.

The strategies, named once.  *Sticky ring*: one upstream is in use until its link is lost; then the next one's turn, and
everything in flight is in doubt, ready again at once under a fresh wire unique.  *Windows*: `window`.  *Taking turns*:
`schedule`.  *Verdicts*: done is retired; a failure of the work is counted and waits for its backoff on disk, dead once
max_attempts are used up (never while draining); trouble of the server counts nothing, and the function is left alone
there for a while; refused for good is dead.

Promises: no cast is retired but on the server's WORK_COMPLETE behind a clean barrier.  What is in flight stays within
the windows; casts in memory stay within BUFFER_BYTES and one cast a lane; with VERDICTS_LIMIT verdicts not stored, or
the disk failing, nothing is sent.

Never does: speak SQL, know a caller, or wait.  Everything runs in the event loop's thread: `committed` (fresh casts),
`opened`, `told` and `lost` (the link), what `heads` and `survey` wake, and `_tick`, which finds what the others left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterable, Sequence
from random import Random

from relay.clock import Clock, spell
from relay.facts import Facts, LaneFacts, UpstreamFacts
from relay.forwarder.heads import Heads
from relay.forwarder.lanes import Flight, Lane
from relay.forwarder.schedule import Schedule
from relay.forwarder.survey import Survey
from relay.forwarder.verdicts import Rule, describe, set_back
from relay.protocol.upstream import News
from relay.settings import Forwarder as Limits
from relay.settings import Upstream
from relay.spool.changes import Done, Setback
from relay.spool.committer import Committed
from relay.spool.preparing import is_message_id
from relay.spool.spool import Spool
from relay.upstream.backoff import Backoff
from relay.upstream.health import Condition, Event, Health
from relay.upstream.link import Link
from relay.upstream.replies import verdict
from relay.upstream.ring import Ring, preference
from relay.verdict import Outcome, Verdict

log = logging.getLogger(__name__)

#: seconds between two looks at what only time changes
TICK_S = 0.1
#: verdicts not yet stored beyond which nothing is sent
VERDICTS_LIMIT = 10_000
#: seconds that a link must hold, if no cast is completed on it, before its losses are forgotten
PROBATION_S = 30.0
#: seconds between two log lines about failures of one function, and lines about deaths in that time
LOG_S = 1.0
DEATHS = 10


class Forwarder:
    """See the module; `start` begins, `stop` ends it."""

    def __init__(self, limits: Limits, upstream: Upstream, spool: Spool, clock: Clock, rng: Random) -> None:
        self._limits = limits
        self._upstream = upstream
        self._spool = spool
        self._clock = clock
        self._rng = rng
        self._backoff = Backoff(limits.backoff_initial, limits.backoff_max)
        #: tells the sends of this start from those of any other
        self._start_mark = secrets.token_hex(4).encode()
        self._sends = 0
        self._schedule = Schedule(limits)
        self._heads = Heads(spool, self._schedule, clock, limits.backoff_max, self._pump)
        self._survey = Survey(self._heads, self._schedule, clock, rng, self._pump)
        #: lanes with casts in flight
        self._flying: set[Lane] = set()
        self._ring = Ring(preference(upstream.servers, spool.identity.spool_id(spool.identity.next_id)))
        self._conditions = {server: Condition() for server in self._ring.order}
        self._link: Link[Flight] | None = None
        self._opened_at = 0.0
        self._completed_here = 0
        #: lanes that are left alone for a while
        self._resting: set[Lane] = set()
        self._unstored = 0
        self._in_flight_ready = 0
        self._in_flight_deferred = 0
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
        self._survey.close()
        if self._link is not None:
            self._link.close()

    def configure(self, limits: Limits, upstream: Upstream) -> None:
        """Put other settings in force; the link stays if its server does."""
        self._limits = self._schedule.limits = limits
        self._backoff = Backoff(limits.backoff_initial, limits.backoff_max)
        self._heads.configure(limits.backoff_max)
        self._upstream = upstream
        used = self._ring.current
        self._ring = Ring(preference(upstream.servers, self._spool.identity.spool_id(self._spool.identity.next_id)))
        self._ring.stay_with(used)
        self._conditions = {server: self._conditions.get(server, Condition()) for server in self._ring.order}
        if self._link is not None and self._link.server not in self._conditions:
            self._link.close()
        if self._link is not None:
            self._link.configure(upstream)
        self._pump()

    def facts(self) -> Facts:
        """What is so at this moment."""
        window = self._schedule.window
        using = self._link.server if self._link is not None and self._link.is_open else None
        upstreams = tuple(
            UpstreamFacts(
                str(server),
                condition.state.value,
                window.moving + window.others if server == using else 0,
                condition.last_error,
            )
            for server, condition in self._conditions.items()
        )
        lanes = {}
        for lane in self._heads.lanes.values():
            scheduled = any(track.scheduled for track in lane.tracks)
            if lane.window.casts or lane.last_error or scheduled or lane.workers is not None:
                lanes[lane.function] = LaneFacts(
                    lane.window.casts, lane.window.stalled, lane.last_error, lane.workers, scheduled
                )
        return Facts(upstreams, lanes, self._in_flight_ready, self._in_flight_deferred)

    def is_in_flight(self, cast_id: int) -> bool:
        """True while that cast is at an upstream, without a verdict."""
        return self._link is not None and any(flight.cast[0] == cast_id for flight in self._link.outstanding())

    def expedite(self) -> None:
        """Deferred casts on disk were made due: look at them now."""
        self._heads.expedite()
        self._pump()

    def committed(self, committed: Committed) -> None:
        """A batch was written: verdicts are stored, and fresh casts may go at once."""
        changes = committed.changes
        for ready, deferred in changes.ended.values():
            self._in_flight_ready -= ready
            self._in_flight_deferred -= deferred
            self._unstored -= ready + deferred
        now, wall = self._clock.monotonic(), self._clock.wall()
        for number, due_at in changes.due.items():
            track = self._heads.track(self._spool.name(number))
            track.scheduled = track.scheduled or number in changes.scheduled
            self._heads.due_in(track, (due_at - wall) / 1e6)
        for number, fresh in changes.fresh.items():
            if fresh:
                self._heads.offer(self._heads.track(self._spool.name(number)), fresh, now)
        self._pump()

    # -- casts out -------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Send whatever may go, and read ahead for lanes that run low."""
        if self._stopping:
            if not self._schedule.window.moving:
                self._quiet.set()
            return
        link = self._link
        if link is not None and link.is_open and self._survey.done and not self._blocked():
            now = self._clock.monotonic()
            flights = self._schedule.pick(now)
            if flights:
                self._send(link, flights, now)
        self._heads.read()

    def _blocked(self) -> bool:
        return self._unstored >= VERDICTS_LIMIT or self._spool.failing is not None

    def _send(self, link: Link[Flight], flights: list[Flight], now: float) -> None:
        wall, mark, number = self._clock.wall(), self._start_mark, self._sends
        identity, jobs = self._spool.identity, []
        for flight in flights:
            number += 1
            (id_, unique, payload), name = flight.cast, flight.track.name
            flight.began_at, flight.began_us = now, wall
            if unique is not None and is_message_id(unique):
                wire = b"%b.%b-%d" % (unique, mark, number)
            else:
                wire = b"%b-%d.%b-%d" % (identity.spool_id(id_), id_, mark, number)
            jobs.append((flight, name.function, wire, payload, name.priority))
            if flight.deferred:
                self._in_flight_deferred += 1
            else:
                self._in_flight_ready += 1
            self._heads.sent(flight)
        self._sends = number
        link.submit(jobs)
        for track in {flight.track for flight in flights}:
            self._flying.add(track.lane)
            self._heads.refill(track)

    # -- the link's side -------------------------------------------------------------------------------------------

    def opened(self, link: Link[Flight]) -> None:
        """The upstream is there: every lane starts anew on it."""
        condition = self._conditions[link.server]
        away = condition.losses - condition.flaps
        condition.happened(Event.OPENED, self._clock.monotonic(), self._rng)
        self._opened_at = self._clock.monotonic()
        self._completed_here = 0
        self._survey.open(link.server)
        if not condition.flaps:
            log.info("upstream %s is in use%s", link.server, f" (reached after {away} tries)" if away else "")
        for lane in self._heads.lanes.values():
            self._schedule.enter(lane, self._opened_at)
        self._pump()

    def told(self, link: Link[Flight], news: News[Flight]) -> None:
        """Verdicts came in."""
        now = self._clock.monotonic()
        done = self._complete(link, news.done, now) if news.done else []
        setbacks = []
        for flight, kind, text in news.troubles:
            setback = self._setback(link, flight, verdict(kind, text), now)
            if setback is not None:
                setbacks.append(setback)
        if done or setbacks:
            self._unstored += len(done) + len(setbacks)
            self._spool.store(done, setbacks)
        self._pump()

    def lost(self, link: Link[Flight], reason: str, doubtful: list[Flight]) -> None:
        """The link is gone: what was in flight is in doubt, and it is the next upstream's turn."""
        self._link = None
        now = self._clock.monotonic()
        condition = self._conditions.get(link.server)
        if condition is not None:
            if not self._stopping:
                self._log_loss(link, condition, reason, len(doubtful), now)
            condition.happened(Event.LOST, now, self._rng, reason)
            if self._ring.current == link.server:
                self._ring.rotate()
        self._give_back(doubtful)
        self._survey.close()
        self._schedule.clear()
        for lane in self._heads.lanes.values():
            lane.window.reset()
            lane.workers = None
            lane.troubles, lane.not_before = 0, 0.0
            self._heads.unpark(lane, now)
        self._flying.clear()
        if not self._stopping:
            self._connect(now)

    def _log_loss(self, link: Link[Flight], condition: Condition, reason: str, doubtful: int, now: float) -> None:
        """One line when a state changes; tries that fail in a row are only counted."""
        if condition.state is Health.HEALTHY and condition.flaps == 0:
            log.warning(
                "upstream %s is lost: %s; in doubt, and to go out again: %d; completed there in %s: %d",
                link.server,
                reason,
                doubtful,
                spell(now - self._opened_at),
                self._completed_here,
            )
        elif not condition.losses:
            log.warning("upstream %s cannot be reached: %s", link.server, reason)

    def _give_back(self, doubtful: Iterable[Flight]) -> None:
        """In doubt: ready again at once, in the order of ids, before anything else of their lane."""
        for flight in sorted(doubtful, key=lambda flight: flight.cast[0], reverse=True):
            flight.doubts += 1
            flight.track.again.appendleft(flight)
            self._landed(flight)

    def _landed(self, flight: Flight) -> None:
        """A cast is no longer in flight, and nothing about that is stored."""
        if flight.deferred:
            self._in_flight_deferred -= 1
        else:
            self._in_flight_ready -= 1

    def _connect(self, now: float) -> None:
        """Turn to an upstream that may be tried, if none is in use."""
        if self._link is not None:
            return
        server = self._ring.turn(lambda server: self._conditions[server].may_be_tried(now))
        if server is not None:
            self._link = Link(server, self._upstream, self)
            self._link.start()

    # -- verdicts --------------------------------------------------------------------------------------------------

    def _complete(self, link: Link[Flight], flights: Sequence[Flight], now: float) -> list[Done]:
        done: list[Done] = []
        sums: dict[Lane, list[int]] = {}
        for flight in flights:
            track = flight.track
            done.append((flight.cast[0], track.name.number, flight.size, flight.deferred, flight.doubts))
            found = sums.get(track.lane)
            if found is None:
                sums[track.lane] = [1, flight.size]
            else:
                found[0] += 1
                found[1] += flight.size
        for lane, (casts, size) in sums.items():
            self._schedule.completed(lane, casts, size, now)
            lane.troubles = 0
            lane.last_error = ""
            self._after(lane, now)
        if not self._completed_here:
            self._conditions[link.server].proved()
        self._completed_here += len(done)
        return done

    def _after(self, lane: Lane, now: float) -> None:
        """A lane had a verdict, and has room again."""
        if lane.workers is not None:
            self._heads.forget_workers(lane, now)
        if not lane.window.casts:
            self._flying.discard(lane)
        self._schedule.enter(lane, now)
        for track in lane.tracks:
            self._heads.refill(track)

    def _setback(self, link: Link[Flight], flight: Flight, what: Verdict, now: float) -> Setback | None:
        """What to store of an attempt that was not done; None when nothing is."""
        lane = flight.track.lane
        lane.last_error = what.text
        self._schedule.failed(lane, flight.size, now)
        if what.outcome is Outcome.DEFERRED and not what.counts:
            self._leave_alone(flight, now)
            self._log_failure(link, flight, what, f"{lane.function.decode()} waits", now)
            return None
        wall = self._clock.wall()
        rule = Rule(self._limits.max_attempts, self._backoff, self._spool.draining)
        setback = set_back(flight, what, rule, str(link.server), wall, now - flight.began_at, self._rng)
        due_at = setback.due_at
        next_step = "dead" if due_at is None else f"again in {spell((due_at - wall) / 1e6)}"
        self._log_failure(link, flight, what, next_step, now)
        self._after(lane, now)
        return setback

    def _leave_alone(self, flight: Flight, now: float) -> None:
        """The server has trouble with this function: the cast is ready again, the function waits a little."""
        lane = flight.track.lane
        flight.attempts += 1
        self._heads.put_back(flight)
        self._landed(flight)
        self._resting.add(lane)
        if now >= lane.not_before:
            lane.troubles += 1
            lane.not_before = now + self._backoff.wait(lane.troubles, self._rng)
        self._after(lane, now)

    def _log_failure(self, link: Link[Flight], flight: Flight, what: Verdict, next_step: str, now: float) -> None:
        """One line an attempt, at most one a second and function, the others are counted; of deaths DEATHS as well."""
        lane = flight.track.lane
        if now - lane.log_at >= LOG_S:
            lane.deaths_logged = 0
        elif next_step == "dead" and lane.deaths_logged < DEATHS:
            lane.deaths_logged += 1
        else:
            lane.unlogged += 1
            return
        log.warning("%s", describe(flight, what, str(link.server), now - flight.began_at, next_step, lane.unlogged))
        lane.log_at, lane.unlogged = now, 0

    # -- time ------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Look at what only time changes: stalled lanes, casts that are due, servers to be tried again."""
        self._timer = self._loop.call_later(TICK_S, self._tick)
        now = self._clock.monotonic()
        for lane in self._flying:
            self._schedule.check(lane, now)
        self._heads.tick(now)
        for lane in [lane for lane in self._resting if now >= lane.not_before]:
            self._resting.discard(lane)
            self._schedule.enter(lane, now)
        if self._link is not None and self._link.is_open and now - self._opened_at >= PROBATION_S:
            self._conditions[self._link.server].proved()
        self._connect(now)
        self._survey.tick(now)
        self._pump()
