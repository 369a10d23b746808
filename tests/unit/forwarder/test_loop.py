"""The forwarder between a fake spool and fake links: no disk, no network, and time that a test moves on.

The fakes keep what they were given and do what a test tells them to; what the real ones do is proved beside them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from random import Random

import pytest

from relay.cast import LaneName, Waiting
from relay.clock import Clock
from relay.forwarder import loop, outlet, trials
from relay.forwarder.heads import TAKE_CASTS
from relay.forwarder.lanes import Flight, Lane
from relay.forwarder.window import START
from relay.protocol.packets import Kind
from relay.protocol.upstream import Job, News
from relay.settings import Server, Upstream
from relay.spool.changes import Changes, Counts, Done, Kept, Setback, Took
from relay.spool.committer import Committed
from relay.spool.opening import Identity
from relay.spool.pulse import Pulse
from relay.upstream import census
from relay.upstream.census import Census
from tests.unit.forwarder.flying import LIMITS, due

SERVERS = (Server("one", 4730), Server("two", 4730))
UPSTREAM = Upstream(servers=SERVERS, connect_timeout=1, heartbeat_interval=1, heartbeat_timeout=3)
MESSAGE_ID = b"0123456789abcdef" * 2
WALL = 1_700_000_000_000_000
#: lanes of the fake spool
F, G = 1, 2
NAMES = {F: LaneName(F, b"f", 1), G: LaneName(G, b"g", 1)}


class FakeSpool:
    """A spool that stores nothing: it keeps the verdicts and the takes."""

    def __init__(self) -> None:
        self.counts = {name: Counts() for name in NAMES.values()}
        self.identity = Identity(((1, b"0123456789ab"),), 1000)
        self.failing: str | None = None
        self.draining = False
        self.paused: dict[str, int] = {}
        self.done: list[Done] = []
        self.setbacks: list[Setback] = []
        self.late: list[int] = []
        self.keeps_done = False
        self.kept: list[Kept] = []
        self.sweeps: list[tuple[int, int | None]] = []
        self.steps: str | None = None
        self.next_id = 1000
        self.takes: list[tuple[int, Callable[[Took], None]]] = []
        self.due_takes: list[tuple[int, Callable[[Took], None]]] = []
        #: how many casts the takes were for
        self.asked: list[int] = []
        self.pulse = Pulse()

    def name(self, lane: int) -> LaneName:
        return NAMES[lane]

    def store(self, done: Sequence[Done], setbacks: Sequence[Setback], kept: Sequence[Kept] = ()) -> None:
        self.done += done
        self.setbacks += setbacks
        self.kept += kept

    def expire(
        self, lane: int, after_id: int | None, after_due: int, casts: int, swept: Callable[[Took], None], limit: object
    ) -> None:
        self.sweeps.append((lane, after_id))

    def remember_steps(self, text: str) -> None:
        self.steps = text

    def retire_late(self, ids: Sequence[int], kept: Sequence[Kept] = ()) -> None:
        self.late += ids
        self.kept += kept

    def take(
        self, lane: int, last_id: int, casts: int, size: int, taken: Callable[[Took], None], limit: object = None
    ) -> None:
        self.asked.append(casts)
        self.takes.append((lane, taken))

    def take_due(
        self,
        lane: int,
        now: int,
        far: int,
        casts: int,
        size: int,
        taken: Callable[[Took], None],
        limit: object = None,
    ) -> None:
        self.asked.append(casts)
        self.due_takes.append((lane, taken))


class FakeLink:
    """A link that opens, answers and breaks when a test says so."""

    def __init__(self, server: Server, settings: Upstream, listener: outlet.Outlet) -> None:
        self.server = server
        self.listener = listener
        self.is_open = False
        self.trusted = True
        self.audited: list[list[int]] = []
        self.sent: list[Job[Flight]] = []
        self.flying: list[Flight] = []
        self.refused: set[int] = set()

    def start(self) -> None:
        pass

    def submit(self, jobs: Iterable[Job[Flight]]) -> None:
        new = list(jobs)
        self.sent += new
        self.flying += [job[0] for job in new]

    def outstanding(self) -> list[Flight]:
        return list(self.flying)

    def let_go(self, flights: Iterable[Flight]) -> list[Flight]:
        gone = list(flights)
        self.flying = [flight for flight in self.flying if flight not in gone]
        return gone

    def configure(self, settings: Upstream) -> None:
        pass

    def audit(self, old: Callable[[Flight], bool], most: int) -> None:
        self.audited.append([flight.cast[0] for flight in self.flying if old(flight)][:most])

    def close(self) -> None:
        self.break_("closed by relay")

    def break_(self, reason: str = "reset") -> None:
        """The connection is gone."""
        self.is_open = False
        doubtful, self.flying = self.flying, []
        self.listener.lost(self, reason, doubtful)  # type: ignore[arg-type]


class Bench:
    """A forwarder between its fakes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, servers: tuple[Server, ...], **limits: float) -> None:
        self.now, self.wall = 100.0, WALL
        self.spool = FakeSpool()
        self.links: list[FakeLink] = []

        def link(server: Server, settings: Upstream, listener: outlet.Outlet) -> FakeLink:
            self.links.append(FakeLink(server, settings, listener))
            return self.links[-1]

        async def unknown(server: Server) -> Census:
            """No census: every function finds out by itself."""
            return Census(None)

        monkeypatch.setattr(outlet, "Link", link)
        monkeypatch.setattr(trials, "Link", link)
        monkeypatch.setattr(census, "ask", unknown)
        monkeypatch.setattr(census, "knock", unknown)
        self.forwarder = loop.Forwarder(
            replace(LIMITS, **limits),
            replace(UPSTREAM, servers=servers),
            self.spool,  # type: ignore[arg-type]
            Clock(lambda: self.wall, lambda: self.now),
            Random(1),
        )
        self.forwarder.start()

    @property
    def link(self) -> FakeLink:
        """The newest link."""
        return self.links[-1]

    async def open(self) -> FakeLink:
        """The newest link opens, and is surveyed."""
        self.link.is_open = True
        self.link.listener.opened(self.link)  # type: ignore[arg-type]
        for _ in range(5):
            await asyncio.sleep(0)
        return self.link

    def accept(self, *ids: int, lane: int = F, unique: bytes | None = None) -> None:
        """A COMMIT with these casts."""
        changes = Changes()
        fresh: list[Waiting] = [(id_, unique, b"payload", self.wall) for id_ in ids]
        changes.fresh[lane] = fresh
        self.spool.counts[NAMES[lane]].accepted += len(ids)
        self.forwarder.committed(Committed((), changes, None))

    def tell(self, done: Iterable[int] = (), troubles: Iterable[tuple[int, int, bytes]] = ()) -> None:
        """The server says what came of casts."""
        by_id = {flight.cast[0]: flight for flight in self.link.flying}
        news = News([by_id[id_] for id_ in done], [(by_id[id_], kind, text) for id_, kind, text in troubles])
        gone = {*news.done, *(flight for flight, _, _ in news.troubles)}
        self.link.flying = [flight for flight in self.link.flying if flight not in gone]
        self.link.listener.told(self.link, news)  # type: ignore[arg-type]

    def stored(self) -> None:
        """A COMMIT with every verdict handed in so far."""
        changes = Changes()
        ended = [(one[1], one[3]) for one in self.spool.done] + [
            (one.lane, one.deferred) for one in self.spool.setbacks
        ]
        for lane, deferred in ended:
            ready, late = changes.ended.get(lane, (0, 0))
            changes.ended[lane] = (ready + (not deferred), late + deferred)
        self.spool.done, self.spool.setbacks = [], []
        self.forwarder.committed(Committed((), changes, None))

    def sent(self) -> list[int]:
        """The casts sent on the newest link, in order."""
        return [job[0].cast[0] for job in self.link.sent]

    def later(self, seconds: float) -> None:
        """Time passes, and the forwarder looks."""
        self.now += seconds
        self.wall += round(seconds * 1e6)
        self.forwarder._tick()


def run(
    monkeypatch: pytest.MonkeyPatch,
    scenario: Callable[[Bench], object],
    servers: tuple[Server, ...] = SERVERS,
    **limits: float,
) -> None:
    """A scenario with a forwarder that was started and is stopped."""

    async def whole() -> None:
        bench = Bench(monkeypatch, servers, **limits)
        await scenario(bench)  # type: ignore[misc]
        await bench.forwarder.stop(0)

    asyncio.run(whole())


@pytest.mark.parametrize("unique", [None, b"caller's", MESSAGE_ID])
def test_what_is_in_doubt_goes_out_again_first(monkeypatch: pytest.MonkeyPatch, unique: bytes | None) -> None:
    """After a lost link: oldest first, before newer casts, under the same key and a wire unique never used before."""

    async def scenario(bench: Bench) -> None:
        first = await bench.open()
        bench.accept(5, 6, 7, unique=unique)
        assert bench.sent() == [5, 6, 7]
        first.flying.reverse()
        first.break_()
        bench.accept(8)
        second = await bench.open()
        assert second is not first
        assert bench.sent() == [5, 6, 7, 8]
        wires = [[job[2] for job in link.sent] for link in (first, second)]
        keys = [[wire.rpartition(b".")[0] for wire in some] for some in wires]
        assert keys[1][:3] == keys[0]
        assert len({*wires[0], *wires[1]}) == 7
        assert keys[0] == (
            [MESSAGE_ID] * 3 if unique == MESSAGE_ID else [b"0123456789ab-%d" % id_ for id_ in (5, 6, 7)]
        )
        assert all(len(wire) <= 64 for some in wires for wire in some)
        bench.tell(done=[5])
        assert bench.spool.done == [(5, F, 7, False, 1)]
        assert bench.spool.setbacks == []

    run(monkeypatch, scenario)


def test_what_is_in_doubt_once_more_goes_before_what_has_not_gone_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two links are lost in a row, the second with a part of what the first one had: the order of ids holds."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(1, 2, 3, 4)
        bench.link.break_()
        bench.forwarder.configure(replace(LIMITS, function_window=2), replace(UPSTREAM, servers=SERVERS[:1]))
        bench.later(60)
        await bench.open()
        assert bench.sent() == [1, 2]
        bench.link.break_()
        bench.forwarder.configure(LIMITS, replace(UPSTREAM, servers=SERVERS[:1]))
        bench.later(60)
        await bench.open()
        assert bench.sent() == [1, 2, 3, 4]

    run(monkeypatch, scenario, servers=SERVERS[:1])


def test_a_lost_link_is_the_next_servers_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring rotates with each loss, and a server that just failed is left alone for a while."""

    async def scenario(bench: Bench) -> None:
        first = await bench.open()
        first.break_()
        second = await bench.open()
        assert {first.server, second.server} == set(SERVERS)
        states = {one.server: one.state for one in bench.forwarder.facts().upstreams}
        assert states == {str(first.server): "throttled", str(second.server): "healthy"}
        bench.later(60)
        assert second.is_open
        bench.accept(1)
        assert [job[0].cast[0] for job in second.sent] == [1]

    run(monkeypatch, scenario)


def test_nothing_is_dealt_out_to_links_that_may_not_send_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Round robin, two links just opened and nobody knows yet where workers are: casts wait for that."""

    async def scenario(bench: Bench) -> None:
        for link in bench.links:
            link.is_open = True
            link.listener.opened(link)  # type: ignore[arg-type]
        assert len(bench.forwarder._rotation.used) == 2
        bench.accept(1)
        bench.later(0)
        assert [link.sent for link in bench.links] == [[], []]
        for _ in range(5):
            await asyncio.sleep(0)
        assert sum(len(link.sent) for link in bench.links) == 1

    run(monkeypatch, scenario, rotation="round_robin")


def test_after_a_stop_there_is_no_link_and_none_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the loss of those that a stop lets go of, nor by what an operator says until the agent has ended."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        made = len(bench.links)
        await bench.forwarder.stop(0)
        bench.forwarder.pause(str(SERVERS[0]), True)
        bench.forwarder.pause(str(SERVERS[0]), False)
        assert len(bench.links) == made
        assert not any(link.is_open for link in bench.links)

    run(monkeypatch, scenario)


def test_a_cast_is_dead_with_its_last_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures short of max_attempts defer, the last one buries; a server's trouble in between counts nothing."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.later(0)
        for failures, expected in ((0, "deferred"), (1, "deferred"), (2, "dead")):
            bench.spool.due_takes.clear()
            bench.spool.counts[NAMES[F]].deferred = 1
            bench.forwarder.expedite()
            ((lane, taken),) = bench.spool.due_takes
            taken(Took([due(9, failures)], 0, True, None))
            bench.tell(troubles=[(9, Kind.WORK_FAIL, b"")])
            (setback,) = bench.spool.setbacks
            assert lane == F
            assert ("dead" if setback.due_at is None else "deferred") == expected
            assert (setback.failures, setback.deferred) == (failures + 1, True)
            bench.stored()

    run(monkeypatch, scenario, max_attempts=3)


def test_nothing_is_buried_for_failures_while_draining(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every attempt used up a cast still waits, as long as the spool drains."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.spool.draining = True
        bench.accept(1)
        bench.tell(troubles=[(1, Kind.WORK_EXCEPTION, b"no")])
        assert bench.spool.setbacks[0].due_at is not None
        bench.spool.draining = False
        bench.accept(2)
        bench.tell(troubles=[(2, Kind.WORK_EXCEPTION, b"no")])
        assert bench.spool.setbacks[1].due_at is None

    run(monkeypatch, scenario, max_attempts=1)


def test_a_servers_trouble_rests_the_function_and_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """queue_full: nothing is stored, the function waits, another one goes on; then the same casts go out again."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(1, 2)
        bench.tell(troubles=[(1, Kind.ERROR, b"queue_full\0x"), (2, Kind.ERROR, b"queue_full\0x")])
        assert (bench.spool.done, bench.spool.setbacks) == ([], [])
        bench.accept(3)
        bench.accept(4, lane=G)
        assert bench.sent() == [1, 2, 4]
        assert bench.forwarder.facts().lanes[b"f"].last_error == "queue_full: x"
        assert bench.forwarder.facts().in_flight_ready == 1
        bench.later(LIMITS.backoff_max)
        assert bench.sent() == [1, 2, 4, 1, 2, 3]
        bench.tell(troubles=[(1, Kind.WORK_FAIL, b"")])
        (setback,) = bench.spool.setbacks
        assert (setback.attempts, setback.failures) == (2, 1)

    run(monkeypatch, scenario)


def test_verdicts_that_are_not_stored_stop_the_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound nothing more goes out; once they are stored it goes on by itself."""
    monkeypatch.setattr(loop, "VERDICTS_LIMIT", 3)

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(1, 2, 3, 4)
        bench.tell(done=[1, 2], troubles=[(3, Kind.WORK_FAIL, b"")])
        bench.accept(5)
        assert bench.sent() == [1, 2, 3, 4]
        bench.stored()
        assert bench.sent() == [1, 2, 3, 4, 5]

    run(monkeypatch, scenario)


def test_while_the_disk_fails_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be retired would be done for nothing."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.spool.failing = "disk I/O error"
        bench.accept(1)
        assert bench.sent() == []
        bench.spool.failing = None
        bench.later(0.1)
        assert bench.sent() == [1]

    run(monkeypatch, scenario)


def test_a_cast_is_in_flight_from_its_send_to_its_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """is_in_flight is asked by callers; a cast on disk, done or in doubt is not in flight."""

    async def scenario(bench: Bench) -> None:
        bench.accept(1, 2)
        assert not bench.forwarder.is_in_flight(1)
        await bench.open()
        assert bench.forwarder.is_in_flight(1)
        bench.tell(done=[1])
        assert [bench.forwarder.is_in_flight(id_) for id_ in (1, 2, 3)] == [False, True, False]
        bench.link.break_()
        assert not bench.forwarder.is_in_flight(2)

    run(monkeypatch, scenario)


def test_in_flight_counts_until_the_verdict_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The facts hold a cast until its COMMIT, so that it is never in no count; a lost link gives it back at once."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(1, 2, 3)
        bench.tell(done=[1], troubles=[(2, Kind.WORK_FAIL, b"")])
        assert bench.forwarder.facts().in_flight_ready == 3
        bench.stored()
        assert bench.forwarder.facts().in_flight_ready == 1
        bench.link.break_()
        facts = bench.forwarder.facts()
        assert (facts.in_flight_ready, facts.in_flight_deferred) == (0, 0)
        assert sum(one.in_flight for one in facts.upstreams) == 0

    run(monkeypatch, scenario)


def test_a_function_begins_with_a_few_and_its_casts_stay_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """START at first, more with each that is done, always in the order of ids."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(*range(1, 1 + 2 * START))
        assert bench.sent() == list(range(1, 1 + START))
        bench.tell(done=[1])
        taken = bench.spool.takes
        assert bench.sent() == list(range(1, 1 + len(bench.sent())))
        assert len(bench.sent()) > START or taken

    run(monkeypatch, scenario)


@pytest.mark.parametrize(("commit_s", "casts"), [(0.0, TAKE_CASTS), (0.004, TAKE_CASTS), (0.05, 2_500), (30.0, 9_000)])
def test_a_take_is_short_beside_a_commit(monkeypatch: pytest.MonkeyPatch, commit_s: float, casts: int) -> None:
    """Callers wait for the writer while it reads; where they wait for the disk anyway, a drain need not be slow too."""

    async def scenario(bench: Bench) -> None:
        monkeypatch.setattr(Lane, "limit", 9_000)
        bench.spool.pulse.commit_s = commit_s
        bench.spool.counts[NAMES[F]].accepted = 100_000
        bench.forwarder._heads.load()
        bench.forwarder._heads.read()
        assert (len(bench.spool.takes), len(bench.spool.due_takes)) == (1, 1)
        assert bench.spool.asked == [casts] * 2

    run(monkeypatch, scenario)


def test_a_take_that_found_only_damage_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Casts behind rotten ones are read on by themselves: a take that gave none, but is not the last, goes on."""

    async def scenario(bench: Bench) -> None:
        bench.spool.counts[NAMES[F]].accepted = 9
        bench.forwarder._heads.load()
        bench.forwarder._heads.read()
        ((_, taken),) = bench.spool.takes
        bench.spool.takes.clear()
        taken(Took([], 8, False, None))
        assert [lane for lane, _ in bench.spool.takes] == [F]

    run(monkeypatch, scenario)


def test_a_lane_that_is_counted_and_never_comes_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the disk says that there is no more, and nothing is in memory, in flight, or not yet stored."""

    async def scenario(bench: Bench) -> None:
        counts, forwarder = bench.spool.counts[NAMES[F]], bench.forwarder
        counts.accepted = 2
        forwarder._heads.load()
        assert forwarder.missed() is None
        forwarder._heads.read()
        for _, taken in (*bench.spool.takes, *bench.spool.due_takes):
            taken(Took([], 0, True, None))
        assert forwarder.missed() == NAMES[F]
        await bench.open()
        bench.accept(8)
        assert forwarder.missed() is None
        bench.tell(done=[8])
        assert forwarder.missed() is None
        bench.stored()
        counts.completed += 1
        assert forwarder.missed() == NAMES[F]
        counts.completed += 2
        assert counts.ready == 0
        assert forwarder.missed() is None
        counts.completed += 1
        assert forwarder.missed() == NAMES[F]

    run(monkeypatch, scenario)


def test_a_deferred_cast_that_is_never_due_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk names a moment it is not."""

    async def scenario(bench: Bench) -> None:
        counts, forwarder = bench.spool.counts[NAMES[F]], bench.forwarder
        counts.accepted = counts.deferred = 1
        for next_due, missed in ((bench.wall + 1_000_000, None), (None, NAMES[F])):
            forwarder._heads.load()
            forwarder._heads.read()
            for _, taken in (*bench.spool.takes, *bench.spool.due_takes):
                taken(Took([], 0, True, next_due))
            bench.spool.takes.clear()
            bench.spool.due_takes.clear()
            assert forwarder.missed() == missed
            bench.later(2)

    run(monkeypatch, scenario)


def test_a_stop_sends_nothing_more_and_closes_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in flight when the time is up is let go; nobody connects again."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(1)
        stopping = asyncio.create_task(bench.forwarder.stop(0))
        await asyncio.sleep(0)
        bench.accept(2)
        await stopping
        assert bench.sent() == [1]
        assert not bench.link.is_open
        assert len(bench.links) == 1

    run(monkeypatch, scenario)


def test_casts_that_are_out_for_long_are_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once they are older than AUDITED_AGE_S, once in AUDIT_S; younger ones are not."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(1)
        bench.later(outlet.PROBE_S)
        assert bench.link.audited == [[]]
        bench.later(outlet.AUDIT_S)
        bench.accept(2)
        for _ in range(10):
            bench.later(1)
        assert bench.link.audited == [[], [1]]
        bench.later(outlet.AUDIT_S)
        assert bench.link.audited[2] == [1, 2]

    run(monkeypatch, scenario)


def test_what_a_server_knows_nothing_of_goes_out_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a fresh unique, before newer casts; nothing is stored, and the windows have it once."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(1, 2)
        (gone,) = [flight for flight in bench.link.flying if flight.cast[0] == 1]
        bench.link.flying.remove(gone)
        bench.link.listener.told(bench.link, News(vanished=[gone]))  # type: ignore[arg-type]
        assert bench.sent() == [1, 2, 1]
        assert len({job[2] for job in bench.link.sent}) == 3
        assert (bench.spool.done, bench.spool.setbacks) == ([], [])
        facts = bench.forwarder.facts()
        assert (facts.in_flight_ready, sum(one.in_flight for one in facts.upstreams)) == (2, 2)
        bench.tell(done=[1])
        assert bench.spool.done == [(1, F, 7, False, 1)]

    run(monkeypatch, scenario)


def test_a_vanished_send_of_a_done_cast_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes nowhere again, and what waits behind it is sent."""

    async def scenario(bench: Bench) -> None:
        await bench.open()
        bench.accept(1, 2)
        (flight,) = bench.link.flying
        flight.over = True
        bench.link.flying = []
        bench.link.listener.told(bench.link, News(vanished=[flight]))  # type: ignore[arg-type]
        assert bench.sent() == [1, 2]

    run(monkeypatch, scenario, function_window=1)
