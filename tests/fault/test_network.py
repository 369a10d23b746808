"""The network between relay and its servers: lost packets, slow lines, and connections cut at any byte."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.rig import counts
from tests.rig.callers import cast_all
from tests.rig.network import Network, own_network
from tests.rig.proxy import Cut, Proxy
from tests.rig.rig import Rig
from tests.rig.wait import until

__all__ = ["own_network"]

FUNCTION = b"work"
WINDOW = 50
QUICK = {
    "forwarder": {"window": WINDOW, "backoff_initial": 0.05, "backoff_max": 0.1},
    "upstream": {"heartbeat_interval": 0.3, "heartbeat_timeout": 2},
}


@pytest.fixture
def through() -> Iterator[Callable[..., Proxy]]:
    """Makes proxies, which are gone when the test ends."""
    made: list[Proxy] = []

    def make(port: int, delay_s: float = 0.0) -> Proxy:
        made.append(Proxy(port, delay_s))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


def test_a_server_whose_packets_are_lost_is_left_for_the_next(own_network: Network, rig: Rig) -> None:
    """All of them, in mid-load: within the heartbeat the other does everything; repeats are at most a window."""
    rig.serve("gearmand", count=2)
    rig.work(FUNCTION, each=2, delay=0.002)
    agent = rig.agent(QUICK)
    payloads = [b"%d" % number for number in range(3000)]
    casting = rig.cast_in_background(agent, FUNCTION, payloads)
    until(lambda: len(rig.ledger.executions) > 300, "there is load")
    busy = until(lambda: [s for s in rig.servers if s.status(FUNCTION).total], "a server is in use")
    own_network.drop(busy[0].port)
    assert casting.finish().acknowledged == payloads
    rig.ledger.await_done(payloads)
    agent.await_empty()
    own_network.heal()
    executed = Counter(rig.ledger.done(FUNCTION))
    assert executed.total() - len(executed) <= WINDOW
    assert agent.status()["dead"] == agent.status()["failures"] == 0


@pytest.mark.parametrize("trouble", ["20 % lost", "1 Mbit/s"])
def test_a_bad_line_is_slower_only(own_network: Network, rig: Rig, trouble: str) -> None:
    """Every cast is executed, and the agent never loses its patience with the server: none is executed twice."""
    (server,) = rig.serve("gearmand")
    rig.work(FUNCTION)
    agent = rig.agent(QUICK | {"upstream": {"heartbeat_interval": 1, "heartbeat_timeout": 60}})
    if trouble == "20 % lost":
        own_network.drop(server.port, 0.1)  # of each direction twice: as it comes, and as it is answered
    else:
        own_network.slow("1mbit")
    payloads = [b"%d" % number + b"x" * 200 for number in range(300)]
    assert cast_all(agent.socket, FUNCTION, payloads).acknowledged == payloads
    rig.ledger.await_done(payloads)
    agent.await_empty()
    assert Counter(rig.ledger.done(FUNCTION)) == Counter(payloads)
    assert "is lost" not in agent.log


def test_a_line_of_500_ms_is_slower_only(rig: Rig, through: Callable[..., Proxy]) -> None:
    """Half a second each way: all are executed, once each, in far less than a round trip for each of them."""
    (server,) = rig.serve("gearmand")
    rig.work(FUNCTION)
    proxy = through(server.port, 0.5)
    agent = rig.agent(QUICK | {"upstream": {"heartbeat_timeout": 30}}, servers=[proxy])
    payloads = [b"%d" % number for number in range(300)]
    cast_all(agent.socket, FUNCTION, payloads)
    rig.ledger.await_done(payloads)
    agent.await_empty()
    assert Counter(rig.ledger.done(FUNCTION)) == Counter(payloads)
    assert "is lost" not in agent.log


def test_a_connection_may_be_cut_after_any_byte(rig: Rig, through: Callable[..., Proxy]) -> None:
    """Of opening, submission and answer, in either direction: the cast is executed, and once more at most.

    The short form takes every RELAY_CUT_STEP-th byte, beginning with another one each time; the long form all of them.
    """
    (server,) = rig.serve("gearmand")
    rig.work(FUNCTION)
    proxy = through(server.port)
    agent = rig.agent(QUICK, servers=[proxy])
    numbers = itertools.count()

    def cast() -> bytes:
        payload = b"%d" % next(numbers)
        assert cast_all(agent.socket, FUNCTION, [payload]).acknowledged == [payload]
        rig.ledger.await_done([payload])
        return payload

    proxy.drop()
    cast()
    agent.await_empty()
    step = counts.count("CUT_STEP", 25, 1)
    first = counts.seeded().randrange(step)
    cuts = [Cut(up, n) for up in (True, False) for n in range(first, proxy.carried[up] + 1, step)]
    assert len(cuts) > 4
    for cut in cuts:
        before = proxy.cuts
        proxy.next_cut = cut
        proxy.drop()
        payload = cast()
        assert Counter(rig.ledger.done(FUNCTION))[payload] <= 2, cut
        assert proxy.cuts <= before + 1
    agent.await_empty()
    assert proxy.cuts >= len(cuts) // 2, "the cuts were made"
    status = agent.status()
    assert (status["completed"], status["dead"], status["failures"]) == (next(numbers), 0, 0)
