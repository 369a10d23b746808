"""The forwarder: takes casts from the spool, has an upstream get them done, and stores what came of it.

The strategies, named once.  *Sticky ring*: one upstream is in use until its link is lost; then the next one's turn, and
everything in flight is in doubt, ready again at once under a fresh wire unique.  *Windows*: `window`.  *Taking turns*:
`schedule`.  *Verdicts*: done is retired; a failure of the work is counted and waits for its backoff on disk, dead once
max_attempts are used up (never while draining); trouble of the server counts nothing, and the function is left alone
there for a while; refused for good is dead.

Promises: no cast is retired but on the server's WORK_COMPLETE behind a clean barrier.  What is in flight stays within
the windows; casts in memory stay within BUFFER_BYTES and one cast a lane; with VERDICTS_LIMIT verdicts not stored, or
the disk failing, nothing is sent.

Never does: speak SQL, know a caller, or wait.  Everything runs in the event loop's thread, in `offer` (fresh casts),
`told` and `lost` (the link), `_took` (the spool) and `_tick`; each ends in `_pump`.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from random import Random

from relay.cast import LaneName, Waiting
from relay.clock import Clock, spell
from relay.facts import Facts, LaneFacts, UpstreamFacts
from relay.forwarder.lanes import OVERHEAD, Flight, Lane, Track
from relay.forwarder.schedule import Schedule
from relay.protocol.upstream import News
from relay.settings import Forwarder as Limits
from relay.settings import Upstream
from relay.spool.committer import Committed
from relay.spool.spool import Spool
from relay.spool.preparing import is_message_id
from relay.spool.transitions import Attempt, Done, Setback, Took
from relay.upstream.backoff import Backoff
from relay.upstream.health import Condition, Event, Health
from relay.upstream.link import Link
from relay.upstream.replies import verdict
from relay.upstream.ring import Ring, preference
from relay.verdict import Outcome, Verdict

log = logging.getLogger(__name__)

#: seconds between two looks at what only time changes
TICK_S = 0.1
#: bytes of casts in memory that are not in flight, overhead included
BUFFER_BYTES = 16 * 1024 * 1024
#: bytes of payload that one take reads, and takes that are out at a time
TAKE_BYTES = 1024 * 1024
TAKES = 16
#: verdicts not yet stored beyond which nothing is sent
VERDICTS_LIMIT = 10_000
#: seconds between two log lines about failures of one function
LOG_S = 1.0


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
        self._lanes: dict[bytes, Lane] = {}
        self._tracks: dict[int, Track] = {}
        self._schedule = Schedule(limits)
        #: lanes with casts in flight
        self._flying: set[Lane] = set()
        self._ring = Ring(preference(upstream.servers, spool.identity.spool_id(spool.identity.next_id)))
        self._conditions = {server: Condition() for server in self._ring.order}
        self._link: Link[Flight] | None = None
        self._opened_at = 0.0
        self._completed_here = 0
        self._wanting: deque[Track] = deque()
        self._takes = 0
        #: (monotonic, serial, track): when a track's next deferred cast is due
        self._due: list[tuple[float, int, Track]] = []
        self._serial = 0
        self._buffered = 0
        #: lanes that are left alone for a while
        self._resting: set[Lane] = set()
        self._unstored = 0
        self._in_flight_ready = 0
        self._in_flight_deferred = 0
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    # -- the agent's side ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Read the backlog's heads, connect, and go on until `stop`."""
        self._loop = asyncio.get_running_loop()
        for name, counts in self._spool.counts.items():
            track = self._track(name)
            track.more = counts.ready > 0
            track.due_more = counts.deferred > 0
            if track.more or track.due_more:
                self._want(track)
        self._tick()

    async def stop(self, timeout_s: float) -> None:
        """Send nothing more; wait at most `timeout_s` for what is in flight in lanes that move; then let go."""
        self._stopping = True
        deadline = self._clock.monotonic() + timeout_s
        while self._schedule.window.moving and self._clock.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if self._timer is not None:
            self._timer.cancel()
        if self._link is not None:
            self._link.close()

    def configure(self, limits: Limits, upstream: Upstream) -> None:
        """Put other settings in force; the link stays if its server does."""
        self._limits = self._schedule.limits = limits
        self._backoff = Backoff(limits.backoff_initial, limits.backoff_max)
        self._upstream = upstream
        used = self._ring.current
        self._ring = Ring(preference(upstream.servers, self._spool.identity.spool_id(self._spool.identity.next_id)))
        self._ring.stay_with(used)
        self._conditions = {server: self._conditions.get(server, Condition()) for server in self._ring.order}
        if self._link is not None and self._link.server not in self._conditions:
            self._link.close()
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
        lanes = {
            lane.function: LaneFacts(lane.window.casts, lane.window.stalled, lane.last_error)
            for lane in self._lanes.values()
            if lane.window.casts or lane.last_error
        }
        return Facts(upstreams, lanes, self._in_flight_ready, self._in_flight_deferred)

    def expedite(self) -> None:
        """Deferred casts on disk were made due: look at them now."""
        for name, counts in self._spool.counts.items():
            if counts.deferred:
                track = self._track(name)
                track.due_more = True
                self._want(track)
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
            self._due_in(self._track(self._spool.name(number)), (due_at - wall) / 1e6)
        for number, fresh in changes.fresh.items():
            self._offer(self._track(self._spool.name(number)), fresh, now)
        self._pump()

    # -- casts into memory -----------------------------------------------------------------------------------------

    def _track(self, name: LaneName) -> Track:
        track = self._tracks.get(name.number)
        if track is None:
            lane = self._lanes.get(name.function)
            if lane is None:
                lane = self._lanes[name.function] = Lane(name.function)
            track = self._tracks[name.number] = lane.track(name)
        return track

    def _offer(self, track: Track, fresh: list[Waiting], now: float) -> None:
        room = self._room(track.lane)
        if track.lane.window.moving:
            # what is fresh need not be read back: as much as the memory for all lanes holds
            room = max(room, (BUFFER_BYTES - self._buffered) // (OVERHEAD + len(fresh[0][2])))
        kept = track.offer(fresh, room)
        if kept:
            self._buffered += OVERHEAD * kept + sum([len(cast[2]) for cast in fresh[:kept]])
            self._schedule.enter(track.lane, now)
        elif not track.waiting:
            self._want(track)

    def _room(self, lane: Lane) -> int:
        """Casts that may still come into memory for a lane: what its window could hold, twice while it moves."""
        if self._buffered >= BUFFER_BYTES:
            return 0 if lane.waiting else 1
        window = lane.window
        if window.moving:
            return max(0, 2 * window.limit - lane.waiting)
        return max(0, window.limit - window.casts - lane.waiting)

    def _want(self, track: Track) -> None:
        """Have a track read more from disk, when it is its turn."""
        if track.wanted or not self._needs(track):
            return
        track.wanted = True
        self._wanting.append(track)

    def _needs(self, track: Track) -> bool:
        reads = (track.more and not track.taking) or (track.due_more and not track.taking_due)
        return reads and self._room(track.lane) > 0

    def _read(self) -> None:
        """Ask the spool for what is wanted, a bounded number of takes at a time."""
        while self._wanting and self._takes < TAKES:
            track = self._wanting.popleft()
            track.wanted = False
            room = self._room(track.lane)
            if room <= 0:
                continue
            number = track.name.number
            if track.more and not track.taking:
                track.taking = True
                self._takes += 1
                self._spool.take(number, track.cursor, room, TAKE_BYTES, partial(self._took, track))
            if track.due_more and not track.taking_due:
                track.taking_due = True
                self._takes += 1
                now = self._clock.wall()
                far = now + round(self._backoff.most * 1e6)
                self._spool.take_due(number, now, far, room, TAKE_BYTES, partial(self._took_due, track))

    def _took(self, track: Track, took: Took) -> None:
        """The spool read new casts of a track."""
        self._takes -= 1
        track.taking = False
        if took.failed:
            self._due_in(track, 1.0)
        else:
            track.cursor = max(track.cursor, took.last_id)
            track.more = not took.exhausted
            track.fresh.extend([taken.cast for taken in took.casts])
        self._enter(track, took)

    def _took_due(self, track: Track, took: Took) -> None:
        """The spool read deferred casts of a track."""
        self._takes -= 1
        track.taking_due = False
        if took.failed:
            self._due_in(track, 1.0)
        else:
            track.due_more = not took.exhausted
            track.due.extend(took.casts)
            if took.next_due is not None:
                self._due_in(track, max(0.0, (took.next_due - self._clock.wall()) / 1e6))
        self._enter(track, took)

    def _enter(self, track: Track, took: Took) -> None:
        self._buffered += sum([OVERHEAD + len(taken.cast[2]) for taken in took.casts])
        self._schedule.enter(track.lane, self._clock.monotonic())
        self._pump()

    def _due_in(self, track: Track, wait_s: float) -> None:
        """Look at a track's deferred casts in so many seconds, never later than any backoff."""
        self._serial += 1
        due_at = self._clock.monotonic() + min(wait_s, self._backoff.most)
        if track.due_at <= due_at:
            return
        track.due_at = due_at
        heapq.heappush(self._due, (due_at, self._serial, track))

    # -- casts out -------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Send whatever may go, and read ahead for lanes that run low."""
        link = self._link
        if link is not None and link.is_open and not self._blocked():
            now = self._clock.monotonic()
            flights = self._schedule.pick(now)
            if flights:
                self._send(link, flights, now)
        self._read()

    def _blocked(self) -> bool:
        return self._stopping or self._unstored >= VERDICTS_LIMIT or self._spool.failing is not None

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
            if flight.buffered:
                flight.buffered = False
                self._buffered -= OVERHEAD + flight.size
        self._sends = number
        link.submit(jobs)
        for track in {flight.track for flight in flights}:
            self._flying.add(track.lane)
            if track.waiting * 2 < track.lane.window.limit:
                self._want(track)

    # -- the link's side -------------------------------------------------------------------------------------------

    def opened(self, link: Link[Flight]) -> None:
        """The upstream is there: every lane starts anew on it."""
        condition = self._conditions[link.server]
        away = condition.losses
        condition.happened(Event.OPENED, self._clock.monotonic(), self._rng)
        self._opened_at = self._clock.monotonic()
        self._completed_here = 0
        log.info("upstream %s is in use%s", link.server, f" (reached after {away} tries)" if away else "")
        for lane in self._lanes.values():
            self._schedule.enter(lane, self._opened_at)
        self._pump()

    def told(self, link: Link[Flight], news: News[Flight]) -> None:
        """Verdicts came in."""
        now = self._clock.monotonic()
        done = self._complete(news.done, now) if news.done else []
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
        self._schedule.clear()
        for lane in self._lanes.values():
            lane.window.reset()
        self._flying.clear()
        if not self._stopping:
            self._connect(now)

    def _log_loss(self, link: Link[Flight], condition: Condition, reason: str, doubtful: int, now: float) -> None:
        """One line when a state changes; tries that fail in a row are only counted."""
        if condition.state is Health.HEALTHY:
            log.warning(
                "upstream %s is lost: %s; %d casts in doubt go out again, %d were completed there in %s",
                link.server,
                reason,
                doubtful,
                self._completed_here,
                spell(now - self._opened_at),
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

    def _complete(self, flights: Sequence[Flight], now: float) -> list[Done]:
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
        self._completed_here += len(done)
        return done

    def _after(self, lane: Lane, now: float) -> None:
        """A lane has room again."""
        if not lane.window.casts:
            self._flying.discard(lane)
        self._schedule.enter(lane, now)
        for track in lane.tracks:
            if track.waiting * 2 < lane.window.limit:
                self._want(track)

    def _setback(self, link: Link[Flight], flight: Flight, what: Verdict, now: float) -> Setback | None:
        """What to store of an attempt that was not done; None when nothing is."""
        lane = flight.track.lane
        lane.last_error = what.text
        self._schedule.failed(lane, flight.size, now)
        if what.outcome is Outcome.DEFERRED and not what.counts:
            self._leave_alone(flight, now)
            self._log_failure(link, flight, what, f"{lane.function.decode()} waits", now)
            return None
        attempts = flight.attempts + flight.doubts + 1
        failures = flight.failures + what.counts
        due_at = None
        if what.outcome is Outcome.DEFERRED and (failures < self._limits.max_attempts or self._spool.draining):
            wait_s = self._backoff.wait(failures, self._rng)
            due_at = self._clock.wall() + round(wait_s * 1e6)
            next_step = f"again in {spell(wait_s)}"
        else:
            next_step = "dead"
        self._log_failure(link, flight, what, next_step, now)
        self._after(lane, now)
        took = round((now - flight.began_at) * 1e6)
        log_entry = Attempt(attempts, flight.began_us, took, str(link.server), what.reason, what.text)
        return Setback(
            flight.cast[0],
            flight.track.name.number,
            flight.deferred,
            due_at,
            attempts,
            failures,
            what.counts,
            flight.doubts,
            what.reason,
            what.text,
            (log_entry,),
        )

    def _leave_alone(self, flight: Flight, now: float) -> None:
        """The server has trouble with this function: the cast is ready again, the function waits a little."""
        lane = flight.track.lane
        flight.track.again.append(flight)
        flight.buffered = True
        self._buffered += OVERHEAD + flight.size
        self._landed(flight)
        self._resting.add(lane)
        if now >= lane.not_before:
            lane.troubles += 1
            lane.not_before = now + self._backoff.wait(lane.troubles, self._rng)
        self._after(lane, now)

    def _log_failure(self, link: Link[Flight], flight: Flight, what: Verdict, next_step: str, now: float) -> None:
        """One line an attempt, at most one a second and function; the others are counted."""
        lane = flight.track.lane
        if now - lane.log_at < LOG_S:
            lane.unlogged += 1
            return
        log.warning(
            "cast %d of %s: attempt %d at %s came to %s (%s) after %s; %s%s",
            flight.cast[0],
            lane.function.decode(),
            flight.attempts + flight.doubts + 1,
            link.server,
            what.reason,
            what.text[:200],
            spell(now - flight.began_at),
            next_step,
            f"; {lane.unlogged} more like this" if lane.unlogged else "",
        )
        lane.log_at, lane.unlogged = now, 0

    # -- time ------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Look at what only time changes: stalled lanes, casts that are due, servers to be tried again."""
        now = self._clock.monotonic()
        for lane in self._flying:
            self._schedule.check(lane, now)
        while self._due and self._due[0][0] <= now:
            _, _, track = heapq.heappop(self._due)
            track.due_at = float("inf")
            track.due_more = True
            self._want(track)
        for lane in [lane for lane in self._resting if now >= lane.not_before]:
            self._resting.discard(lane)
            self._schedule.enter(lane, now)
        self._connect(now)
        self._pump()
        self._timer = self._loop.call_later(TICK_S, self._tick)
