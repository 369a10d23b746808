"""Through: executed and retired, relay before gearmand, and jobs straight to a gearmand."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import costs
from bench.peers import Broken, Gearmand, Peer, Relay, Worker
from bench.plan import Contender, Figures, Load, Plan
from bench.timing import load, rates, warm

PLAIN = Load()
RETIRED_S = 300  # until what was accepted is retired


class Chain(NamedTuple):
    """relay before servers, each with a worker."""

    relay: Relay
    servers: list[Gearmand]
    workers: list[Worker]

    def retired(self, casts: int) -> float:
        """Waits until exactly so many are; the moment of the last execution. Each was executed exactly once."""
        if len(self.workers) == 1:
            self.workers[0].executed(casts)
        self.relay.wait_for("completed", casts, RETIRED_S)
        each = [worker.executed(0) for worker in self.workers]
        if sum(one["executed"] for one in each) != casts:
            raise Broken(f"{[one['executed'] for one in each]} executions of {casts} casts")
        return max(one["at"] for one in each)


@contextmanager
def chain(plan: Plan, upstreams: int = 1) -> Iterator[Chain]:
    with ExitStack() as stack:
        servers = [stack.enter_context(Gearmand(plan.disk)) for _ in range(upstreams)]
        workers = [stack.enter_context(Worker(server.address, plan.grabs)) for server in servers]
        more = "[forwarder]\nrotation = round_robin\n" if upstreams > 1 else ""
        relay = stack.enter_context(Relay(plan.disk, ",".join(server.address for server in servers), more))
        yield Chain(relay, servers, workers)


def streamed(chained: Chain, plan: Plan, before_it: int, how: Load) -> Figures:
    """A stream, from its first request to the last execution, when so many were retired before it."""
    pid = chained.relay.process.pid
    before = costs.of(pid)
    told = load("relay", chained.relay.address, plan.casts, how, plan)
    casts = int(told["answered"])
    seconds = chained.retired(before_it + casts) - told["started"]
    figures = rates(told) | {"rate": casts / seconds, "seconds": seconds, "answered_s": told["ended"] - told["started"]}
    return figures | costs.each(before, costs.of(pid), casts)


def relay(upstreams: int, how: Load = PLAIN, *, quick: bool = True) -> Contender:
    """Before one server, or several in turn with a worker each."""

    def measure(plan: Plan) -> Figures:
        with chain(plan, upstreams) as chained:
            before_it = warm("relay", chained.relay.address, how, plan)
            chained.retired(before_it)
            return streamed(chained, plan, before_it, how)

    return Contender(measure, Relay.worth, quick)


def server(kind: str, make: Callable[[Path], Peer], worth: str, how: Load = PLAIN, *, quick: bool = True) -> Contender:
    """Straight to it: exactly as many executions as requests."""

    def measure(plan: Plan) -> Figures:
        with make(plan.disk) as peer, Worker(peer.address, plan.grabs) as worker:
            before_it = warm(kind, peer.address, how, plan)
            worker.executed(before_it)
            before = costs.of(peer.process.pid)
            told = load(kind, peer.address, plan.casts, how, plan)
            casts = int(told["answered"])
            last = worker.executed(before_it + casts)
            if last["executed"] != before_it + casts:
                raise Broken(f"{last['executed']} executions of {before_it + casts}")
            seconds = last["at"] - told["started"]
            figures = rates(told) | {"rate": casts / seconds, "seconds": seconds}
            return figures | costs.each(before, costs.of(peer.process.pid), casts)

    return Contender(measure, worth, quick)
