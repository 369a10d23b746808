"""Rotation: each host has its own order, and stays where it is until that fails."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.settings import Server
from relay.upstream.ring import Ring, preference

SERVERS = st.lists(st.builds(Server, st.sampled_from(["a", "b", "c", "10.0.0.1", "::1"]), st.integers(1, 9)))
SPOOLS = st.binary(min_size=12, max_size=12)
THREE = [Server(name, 4730) for name in ("a", "b", "c")]


@given(SERVERS, SPOOLS)
def test_every_server_is_in_the_order_once(servers: list[Server], spool: bytes) -> None:
    """The order holds the servers that are configured, one that is listed twice once, however they are listed."""
    order = preference(servers, spool)
    assert sorted(order, key=str) == sorted(set(servers), key=str)
    assert preference(servers[::-1], spool) == order


@given(SERVERS, SPOOLS, st.data())
def test_a_server_that_goes_moves_no_other(servers: list[Server], spool: bytes, data: st.DataObject) -> None:
    """Without one server the others stand in the order they had: only the hosts that were its own move."""
    order = preference(servers, spool)
    if order:
        gone = data.draw(st.sampled_from(order))
        kept = [server for server in servers if server != gone]
        assert preference(kept, spool) == tuple(server for server in order if server != gone)


def test_hosts_prefer_different_servers() -> None:
    """Over many hosts each of three servers is the first for about a third of them."""
    first = Counter(preference(THREE, b"%012x" % host)[0].host for host in range(3000))
    assert all(800 < count < 1200 for count in first.values())
    assert len(first) == 3


def test_the_one_in_use_stays_in_use() -> None:
    """As long as it is usable the current server is the answer, whoever else is well."""
    ring = Ring(THREE)
    assert [ring.turn(lambda server: True) for _ in range(5)] == [THREE[0]] * 5
    assert ring.current == THREE[0]


def test_after_a_failure_it_is_the_next_ones_turn() -> None:
    """Rotation goes round, and comes back to the first."""
    ring = Ring(THREE)
    seen = []
    for _ in range(4):
        seen.append(ring.turn(lambda server: True))
        ring.rotate()
    assert seen == [*THREE, THREE[0]]


@given(st.integers(0, 2), st.sets(st.integers(0, 2)))
def test_a_turn_skips_those_that_are_not_usable(at: int, usable: set[int]) -> None:
    """The first usable one from the current one on becomes current; with none the current one stays."""
    ring = Ring(THREE)
    for _ in range(at):
        ring.rotate()
    expected = next((THREE[(at + step) % 3] for step in range(3) if (at + step) % 3 in usable), None)
    assert ring.turn(lambda server: THREE.index(server) in usable) == expected
    assert ring.current == (expected or THREE[at])


@pytest.mark.parametrize("server", [*THREE, Server("gone", 1)])
def test_it_stays_with_a_server_that_is_still_there(server: Server) -> None:
    """After a reload the one in use is kept if the ring still has it; else the first one's turn."""
    ring = Ring(THREE)
    ring.stay_with(server)
    assert ring.current == (server if server in THREE else THREE[0])
