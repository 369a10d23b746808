"""Much at a time: a backlog that is drained while casts arrive, many functions, large payloads for long.

Each row stands for an hour that a host will have: what had piled up goes while its services go on casting; thousands of
functions wait that nobody works on, and one does not; images pass.  Counts are exact: what was accepted is executed
once, and retired.
"""

from contextlib import ExitStack

from bench import costs
from bench.peers import Broken, Gearmand, Relay, Worker, free_port
from bench.plan import Contender, Figures, Load, Plan, Row
from bench.through import RETIRED_S, chain, streamed
from bench.timing import Beside, filled, paced, rates, started, told, warm

ARRIVE = 1000  # casts a second, while a backlog drains
QUIET = 50_000  # casts that nobody works on
IMAGE, IMAGES = 1 << 20, 50  # bytes, and so many a second


def drained(arrive: int) -> Contender:
    """The rate at which what waited is executed, and what those see that arrive meanwhile."""

    def measure(plan: Plan) -> Figures:
        port, casts = free_port(), plan.backlog
        with ExitStack() as stack:
            relay = stack.enter_context(Relay(plan.disk, f"127.0.0.1:{port}"))
            found = {"filled": filled(relay, casts)}
            before, arrived = costs.of(relay.process.pid), 0
            arriving = stack.enter_context(Beside(relay, paced(relay.address, arrive, RETIRED_S))) if arrive else None
            server = stack.enter_context(Gearmand(plan.disk, port))
            worker = stack.enter_context(Worker(server.address, plan.grabs))
            last = worker.executed(casts)
            found |= costs.each(before, costs.of(relay.process.pid), casts)
            if arriving is not None:
                seen = arriving.end()
                arrived = int(seen["answered"])
                found |= {name: seen[name] for name in ("p50_us", "p99_us", "p999_us", "late")}
            worker.executed(casts + arrived)
            relay.wait_for("completed", casts + arrived, RETIRED_S)
            rate = last["executed"] / (last["at"] - last["began"])
            return found | {"rate": rate, "beside": arrived, "peak_mib": costs.peak_mib(relay.process.pid)}

    return Contender(measure, Relay.worth, quick=arrive > 0)


def functions(*, quiet: bool) -> Contender:
    """One function is executed as fast as it goes, with or without others that wait for a worker."""

    def measure(plan: Plan) -> Figures:
        with chain(plan) as chained:
            relay, waiting = chained.relay, min(QUIET, plan.casts) if quiet else 0
            if quiet:
                filled(relay, waiting, "relay-quiet")
            before_it = warm("relay", relay.address, Load(), plan)
            chained.retired(before_it)
            found = streamed(chained, plan, before_it, Load())
            if (kept := relay.kept()) != waiting:
                raise Broken(f"relay holds {kept} of {waiting}")
            return found | {"beside": waiting, "peak_mib": costs.peak_mib(relay.process.pid)}

    return Contender(measure, Relay.worth, quick=quiet)


def images(plan: Plan) -> Figures:
    """They pass in their rhythm: accepted, executed, retired."""
    with chain(plan) as chained:
        relay = chained.relay
        before = costs.of(relay.process.pid)
        stream = told(started(paced(relay.address, IMAGES, plan.long_s, IMAGE)), "relay")
        chained.retired(int(stream["answered"]))
        found = rates(stream) | costs.each(before, costs.of(relay.process.pid), int(stream["answered"]))
        return found | {"late": stream["late"], "peak_mib": costs.peak_mib(relay.process.pid)}


PEAK = {"peak_mib": "most resident MiB, less is better"}
EXECUTED = {"rate": "executed/s, more is better"}

ROWS = (
    Row(
        "backlog",
        "many casts wait, and are executed once a server appears; p99 is what a caller sees whose casts arrive\n"
        f"    meanwhile, {ARRIVE:,} a second, from the moment that each was due",
        EXECUTED | {"p99_us": "p99 us, less is better"} | PEAK,
        {"nothing arrives": drained(0), f"{ARRIVE:,} casts a second arrive": drained(ARRIVE)},
        full=True,
        rounds=1,
    ),
    Row(
        "functions",
        "one function is executed, alone or beside 10,000 others whose casts wait for a worker",
        EXECUTED | {"cpu_us": "cpu us a cast, less is better"} | PEAK,
        {"one function": functions(quiet=False), "10,000 functions, one busy": functions(quiet=True)},
        full=True,
        rounds=3,
    ),
    Row(
        "1 MiB at 50/s",
        "payloads of 1 MiB pass, 50 a second, for minutes: accepted, executed, retired",
        {"rate": "casts/s, 50 are due", "p99_us": "p99 us, less is better"} | PEAK,
        {"relay before gearmand": Contender(images, Relay.worth)},
        full=True,
        rounds=1,
    ),
)
