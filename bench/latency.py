"""What a waiting caller sees, alone and while something else goes on: the row `latency`.

One caller casts, waits for the answer and casts again, for the plan's seconds.  What goes on beside it has begun before
its first cast and has not ended before its last, or the run is `Broken`; afterwards every cast of both is counted: kept
where there is no upstream, else executed once and retired.
"""

import signal
import subprocess
import threading
from collections.abc import Callable

from bench.peers import Broken, Gearmand, Relay, Worker, closed_port, free_port
from bench.plan import WAITS, Contender, Figures, Load, Plan, Row
from bench.through import chain
from bench.timing import filled, flood, load, rates, warm

ONE = Load(1, 1)
CHUNK = 65536
LONG_S = 1  # a run that is shorter shows that everything works, and no more


def waited(relay: Relay, plan: Plan) -> Figures:
    return rates(load("relay", relay.address, plan.casts, ONE, plan))


def kept(relay: Relay, casts: int) -> None:
    if (count := relay.kept()) != casts:
        raise Broken(f"relay holds {count} of {casts}")


# -- no upstream -----------------------------------------------------------------------------------------------------


def alone(plan: Plan) -> Figures:
    with closed_port() as port, Relay(plan.disk, f"127.0.0.1:{port}") as relay:
        before_it = warm("relay", relay.address, Load(), plan)
        found = waited(relay, plan)
        kept(relay, before_it + int(found["casts"]))
        return found


def flooded(plan: Plan) -> Figures:
    with closed_port() as port, Relay(plan.disk, f"127.0.0.1:{port}") as relay:
        before_it = warm("relay", relay.address, Load(), plan)
        with flood(relay, plan) as going:
            found = waited(relay, plan)
            beside = int(going.end()["answered"])
        kept(relay, before_it + beside + int(found["casts"]))
        return found | {"beside": beside}


class Listing:
    """relay-cli lists all there is, and again when it has, while it is entered; `bytes` it has written so far."""

    def __init__(self, relay: Relay) -> None:
        self.bytes = self.lists = 0
        self.failed = ""
        self._command = [relay.cli, "--config-file", str(relay.conf), "backlog", "-f", "json"]
        self._begun, self._ended = threading.Event(), threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._list)

    def __enter__(self) -> "Listing":
        self._thread.start()
        if not self._begun.wait(60):
            raise Broken("relay-cli lists nothing")
        return self

    def _list(self) -> None:
        while not self._ended.is_set():
            with subprocess.Popen(self._command, stdout=subprocess.PIPE) as self._process:
                assert self._process.stdout is not None
                while data := self._process.stdout.read(CHUNK):
                    self.bytes += len(data)
                    self._begun.set()
            self.lists += not self._process.returncode
            if self._process.returncode and not self._ended.is_set():
                self.failed = f"relay-cli exits {self._process.returncode}"
                return

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join()


def listed(plan: Plan) -> Figures:
    with closed_port() as port, Relay(plan.disk, f"127.0.0.1:{port}") as relay:
        filled(relay, plan.casts)
        with Listing(relay) as listing:
            found = waited(relay, plan)
        if listing.failed:
            raise Broken(listing.failed)
        kept(relay, plan.casts + int(found["casts"]))
        return found | {"beside": listing.bytes}


# -- an upstream -----------------------------------------------------------------------------------------------------


def at_work(plan: Plan) -> Figures:
    """What the caller casts is executed meanwhile."""
    with chain(plan) as chained:
        before_it = warm("relay", chained.relay.address, Load(), plan)
        chained.retired(before_it)
        found = waited(chained.relay, plan)
        chained.retired(before_it + int(found["casts"]))
        return found


def flooded_at_work(plan: Plan) -> Figures:
    with chain(plan) as chained:
        before_it = warm("relay", chained.relay.address, Load(), plan)
        chained.retired(before_it)
        with flood(chained.relay, plan) as going:
            found = waited(chained.relay, plan)
            beside = int(going.end()["answered"])
        chained.retired(before_it + beside + int(found["casts"]))
        return found | {"beside": beside}


def stalled(plan: Plan) -> Figures:
    """The server stops while casts are in flight at it, and goes on afterwards."""
    with chain(plan) as chained:
        before_it = warm("relay", chained.relay.address, Load(), plan)
        chained.retired(before_it)
        server = chained.servers[0].process
        server.send_signal(signal.SIGSTOP)
        try:
            beside = int(load("relay", chained.relay.address, plan.warm, Load(), plan)["answered"])
            found = waited(chained.relay, plan)
            if (flying := chained.relay.status()["in_flight"]) == 0:
                raise Broken("nothing was in flight at the server that stalls")
        finally:
            server.send_signal(signal.SIGCONT)
        chained.retired(before_it + beside + int(found["casts"]))
        return found | {"beside": flying}


def draining(plan: Plan) -> Figures:
    """A server appears where casts wait for it."""
    port = free_port()
    with Relay(plan.disk, f"127.0.0.1:{port}") as relay:
        filled(relay, plan.casts)
        with Gearmand(plan.disk, port) as server, Worker(server.address, plan.grabs) as worker:
            worker.executed(1)
            found = waited(relay, plan)
            beside = relay.status()["completed"]
            if beside >= plan.casts and plan.seconds >= LONG_S:
                raise Broken("the backlog was drained before the caller had ended")
            casts = plan.casts + int(found["casts"])
            worker.executed(casts)
            relay.wait_for("completed", casts)
            return found | {"beside": beside}


def contender(measure: Callable[[Plan], Figures], *, quick: bool = True) -> Contender:
    return Contender(measure, Relay.worth, quick)


ROWS = (
    Row(
        "latency",
        "one waiting caller, alone or while something else goes on, with no upstream, or one at work",
        {name: WAITS[name] for name in ("p99_us", "p50_us", "p999_us")},
        {
            "alone": contender(alone, quick=False),
            "another floods": contender(flooded),
            "relay-cli lists everything": contender(listed),
            "a backlog drains": contender(draining),
            "an upstream stalls": contender(stalled),
            "alone, upstream at work": contender(at_work, quick=False),
            "another floods, upstream at work": contender(flooded_at_work, quick=False),
        },
        full=True,
    ),
)
