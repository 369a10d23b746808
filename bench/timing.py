"""One stream of casts at one peer: warmed up, timed, counted, and what it cost the peer.

Every stream is bounded in time, by the load generator itself: what a peer is measured with is what it answered within
the plan's seconds, and a slow one costs no more of them than a fast one.  Raises `Broken` where a count is wrong.
"""

import json
import math
import os
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from bench import costs
from bench.load import QUANTILES
from bench.peers import Broken, Peer, Relay, closed_port
from bench.plan import Contender, Figures, Load, Plan

WARM_PART = 0.2  # of the seconds of a stream, at most
FILL_WINDOW = 1000
BESIDE_S = 600  # what goes on beside, if nobody ends it


def command(kind: str, address: str, count: int, how: Load, window: int, seconds: float) -> list[str]:
    numbers = [str(number) for number in (count, window, how.callers, how.payload, seconds)]
    return [sys.executable, "-m", "bench.load", kind, address, *numbers]


def told(process: "subprocess.Popen[str]", kind: str) -> Figures:
    out, errors = process.communicate()
    if process.returncode:
        raise Broken(f"the load generator for {kind} fails: {errors[-1000:]}")
    figures: Figures = json.loads(out)
    return figures


def started(arguments: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def load(kind: str, address: str, count: int, how: Load, plan: Plan, seconds: float | None = None) -> Figures:
    """At most `count` requests in at most the plan's seconds; what the load generator tells."""
    os.sync()  # what others left for the disk to do is not this peer's
    seconds = plan.seconds if seconds is None else seconds
    return told(started(command(kind, address, count, how, how.window or plan.window, seconds)), kind)


def warm(kind: str, address: str, how: Load, plan: Plan) -> int:
    """How many were answered before the clock starts."""
    return int(load(kind, address, max(how.callers, plan.warm), how, plan, plan.seconds * WARM_PART)["answered"])


def filled(relay: Relay, casts: int, kind: str = "relay") -> float:
    """Exactly so many casts, as long as it takes; the rate at which they were accepted."""
    figures = told(started(command(kind, relay.address, casts, Load(), FILL_WINDOW, math.inf)), kind)
    return casts / (figures["ended"] - figures["started"])


def rates(figures: Figures) -> Figures:
    """What a stream of its own is called in a row."""
    seconds = figures["ended"] - figures["started"]
    found = {"rate": figures["answered"] / seconds, "seconds": seconds, "load_cpu_s": figures["cpu_s"]}
    return found | {"casts": figures["answered"]} | {f"{name}_us": figures[f"{name}_us"] for name in QUANTILES}


def timed(peer: Peer, kind: str, plan: Plan, how: Load) -> Figures:
    """A warm-up and a stream; the rate, the latencies, and what it costs the peer."""
    before_it = warm(kind, peer.address, how, plan)
    before = costs.of(peer.process.pid)
    stream = load(kind, peer.address, plan.casts, how, plan)
    casts = int(stream["answered"])
    found = rates(stream) | costs.each(before, costs.of(peer.process.pid), casts)
    kept = getattr(peer, "kept", None)
    if kept is not None and (count := kept()) != before_it + casts:
        raise Broken(f"{peer.name} holds {count} of {before_it + casts}")
    return found


def accept_relay(kind: str, how: Load, *, quick: bool = True) -> Contender:
    def measure(plan: Plan) -> Figures:
        with closed_port() as port, Relay(plan.disk, f"127.0.0.1:{port}") as relay:
            return timed(relay, kind, plan, how)

    return Contender(measure, Relay.worth, quick)


class Beside:
    """Casts that go on while it is entered, by a generator that ends at SIGTERM; `end` says what it tells then.

    Entered, some are accepted.  `Broken` where it has ended before it was told to.
    """

    def __init__(self, relay: Relay, arguments: list[str]) -> None:
        before = relay.status()["accepted"]
        self._process = started(arguments)
        end = time.monotonic() + 30
        while relay.status()["accepted"] <= before:
            if self._process.poll() is not None or time.monotonic() > end:
                self._process.kill()
                raise Broken("what is to be cast beside does not begin")
            time.sleep(0.01)

    def __enter__(self) -> Self:
        return self

    def end(self) -> Figures:
        if self._process.poll() is None:
            self._process.terminate()
            return told(self._process, "relay")
        told(self._process, "relay")
        raise Broken("what is cast beside has ended before it was told to")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def flood(relay: Relay, plan: Plan) -> Beside:
    """As fast as they are accepted, a window unanswered."""
    return Beside(relay, command("relay", relay.address, 1 << 40, Load(), plan.window, BESIDE_S))


def paced(address: str, rate: int, seconds: float, payload: int = 100) -> list[str]:
    """The command of a rhythm: so many casts a second."""
    return [sys.executable, "-m", "bench.paced", "relay", address, str(rate), str(seconds), str(payload)]
