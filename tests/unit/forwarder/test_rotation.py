"""Which upstreams are in use, and with which there are links: between fake outlets, and time that a test moves on."""

from __future__ import annotations

from random import Random

import pytest

from relay.clock import Clock
from relay.forwarder import rotation
from relay.forwarder.heads import Heads
from relay.forwarder.rotation import RETURN_S, Rotation
from relay.forwarder.routing import Routing
from relay.forwarder.schedule import Schedule
from relay.settings import Server
from tests.unit.forwarder.flying import LIMITS

A, B, C = (Server(name, 4730) for name in "abc")


class FakeOutlet:
    """An outlet whose link does what a test says."""

    def __init__(self, server: Server, bench: Bench) -> None:
        self.server, self.bench = server, bench
        self.link: object | None = None
        self.is_open = self.sends = self.busy = False
        self.fit = self.up = True
        self.failed = False
        self.opened_at = 0.0
        self.schedule = Schedule(LIMITS)
        self.said = 0

    def may_be_tried(self, now: float) -> bool:
        """An upstream that is up."""
        return self.fit and self.up

    def connect(self) -> None:
        """It takes a moment."""
        assert self.link is None
        self.link = object()
        self.bench.connecting.append(self)

    def close(self) -> None:
        """On purpose."""
        if self.link is not None:
            self.lose()

    def lose(self) -> None:
        """The link is gone."""
        self.link, self.is_open, self.sends = None, False, False
        self.bench.rotation.lost(self, self.bench.now)  # type: ignore[arg-type]

    def say_in_use(self) -> None:
        """The log's line."""
        self.said += 1


class Bench:
    """A rotation of three upstreams, a, b, c in the order of preference."""

    def __init__(self, how: str = "sticky", seed: int = 1) -> None:
        self.now = 100.0
        heads = Heads(None, Clock(), LIMITS, lambda _: None, lambda _, __: None, lambda: None)  # type: ignore[arg-type]
        self.routing = Routing(heads)
        self.rotation = Rotation(self.routing, Random(seed))
        self.connecting: list[FakeOutlet] = []
        self.outlets = {server: FakeOutlet(server, self) for server in (A, B, C)}
        self.a, self.b, self.c = self.outlets.values()
        self.line_up(how, A, B, C)
        self.wait(0)

    def line_up(self, how: str, *servers: Server) -> None:
        """These are configured."""
        self.rotation.line_up({server: self.outlets[server] for server in servers}, how, self.now)  # type: ignore[misc]

    def wait(self, seconds: float) -> None:
        """Time passes, links open, the rotation looks each second."""
        for _ in range(max(1, round(seconds))):
            self.now += min(seconds, 1)
            self.rotation.tick(self.now)
            while self.connecting:
                outlet = self.connecting.pop()
                outlet.is_open = outlet.sends = True
                outlet.opened_at = self.now
                self.rotation.opened(outlet, self.now)  # type: ignore[arg-type]

    @property
    def used(self) -> list[FakeOutlet]:
        """Those in use."""
        return list(self.rotation.used)  # type: ignore[arg-type]

    @property
    def linked(self) -> list[FakeOutlet]:
        """Those with a link."""
        return [outlet for outlet in self.outlets.values() if outlet.link is not None]


def test_the_preferred_one_is_in_use_and_no_other_has_a_link() -> None:
    """A host is no burden to servers that it does not use."""
    bench = Bench()
    bench.wait(60)
    assert bench.used == bench.linked == [bench.a]
    assert bench.a.said == 1


def test_after_a_loss_the_next_one_is_in_use() -> None:
    """Round the ring, past those that may not be tried."""
    bench = Bench()
    bench.a.up = bench.b.up = False
    bench.a.lose()
    bench.wait(1)
    assert bench.used == bench.linked == [bench.c]


def test_one_that_failed_is_tried_again_though_it_is_not_its_turn() -> None:
    """So that nobody is told for hours that it is down; once it was reached, and is for nothing, it is left."""
    bench = Bench()
    bench.c.up, bench.c.failed = False, True
    bench.wait(60)
    assert bench.linked == [bench.a]
    bench.c.up = True
    bench.wait(1)
    assert bench.linked == [bench.a, bench.c]
    assert bench.used == [bench.a]
    bench.c.failed = False
    bench.wait(rotation.KEEP_S + rotation.PART_S + 1)
    assert bench.linked == [bench.a]


@pytest.mark.parametrize("seed", range(5))
def test_new_casts_come_back_to_the_preferred_one_once_it_has_been_well_for_a_while(seed: int) -> None:
    """Within RETURN_S, not before; the other one's link goes when nothing is in flight there."""
    bench = Bench(seed=seed)
    bench.a.up = False
    bench.a.lose()
    bench.wait(1000)
    assert bench.used == [bench.b]
    bench.a.up = True
    bench.b.busy = True
    bench.wait(RETURN_S[0] - 2)
    assert bench.used == [bench.b]
    assert bench.linked == [bench.a, bench.b]
    bench.wait(RETURN_S[1] - RETURN_S[0] + 4)
    assert bench.used == [bench.a]
    assert bench.linked == [bench.a, bench.b]
    bench.b.busy = False
    bench.wait(5)
    assert bench.linked == [bench.a]


def test_hosts_do_not_come_back_at_one_moment() -> None:
    """By chance: a fleet comes back over the whole time."""
    waits = set()
    for seed in range(8):
        bench = Bench(seed=seed)
        bench.a.lose()
        bench.b.link or bench.wait(1)
        began = bench.now
        while bench.used != [bench.a]:
            bench.wait(10)
        waits.add(round((bench.now - began) / 60))
    assert len(waits) > 4


def test_a_preferred_one_that_is_lost_again_begins_its_time_anew() -> None:
    """Well for a while means without a loss."""
    bench = Bench()
    bench.a.lose()
    bench.wait(1)
    for _ in range(10):
        bench.wait(RETURN_S[0] - 10)
        bench.a.lose()
    assert bench.used == [bench.b]


@pytest.mark.parametrize("busy", [True, False])
def test_one_that_is_to_be_left_keeps_its_link_while_casts_are_in_flight(busy: bool) -> None:
    """Paused or asking for grace: the next one is in use at once; the link stays for what is in flight."""
    bench = Bench()
    bench.a.fit, bench.a.busy = False, busy
    bench.rotation.changed(bench.now)
    bench.wait(rotation.KEEP_S + 2)
    assert bench.used == [bench.b]
    assert (bench.a in bench.linked) == busy
    bench.a.busy = False
    bench.wait(2)
    assert bench.linked == [bench.b]
    bench.wait(2 * RETURN_S[1])
    assert bench.used == bench.linked == [bench.b]


def test_with_all_to_be_left_none_is_in_use() -> None:
    """Until one may be used again."""
    bench = Bench()
    for outlet in bench.outlets.values():
        outlet.fit = False
    bench.rotation.changed(bench.now)
    bench.wait(60)
    assert bench.used == bench.linked == []
    bench.c.fit = True
    bench.wait(1)
    assert bench.used == [bench.c]


def test_round_robin_uses_all_that_are_well() -> None:
    """And those that come back, at once."""
    bench = Bench("round_robin")
    assert bench.used == [bench.a, bench.b, bench.c]
    bench.b.up = False
    bench.b.lose()
    bench.wait(5)
    assert bench.used == [bench.a, bench.c]
    bench.b.up = True
    bench.wait(1)
    assert bench.used == [bench.a, bench.b, bench.c]


def test_one_that_is_wanted_gets_a_link_and_keeps_it_while_it_is_for_something() -> None:
    """An upstream that alone has workers for some function is connected, beside the one in use, and only so long."""
    bench = Bench()
    bench.routing.wanted.add(bench.c)  # type: ignore[arg-type]
    bench.wait(10)
    assert bench.used == [bench.a]
    assert bench.linked == [bench.a, bench.c]
    bench.routing.wanted.clear()
    bench.wait(2)
    assert bench.linked == [bench.a]


def test_another_configuration_keeps_the_one_in_use() -> None:
    """If it is still listed; one that is not is left, and the first one's turn comes."""
    bench = Bench()
    bench.a.lose()
    bench.wait(1)
    bench.line_up("sticky", A, B)
    bench.wait(1)
    assert bench.used == [bench.b]
    bench.line_up("sticky", A, C)
    bench.wait(1)
    assert bench.used == [bench.a]
    assert bench.b.link is None
