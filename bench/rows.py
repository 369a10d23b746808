"""What each row measures, once: a row is a name and its contenders, the first of them the reference of the
ratios.

A contender is a function of a Plan that starts its peers fresh, warms them up, measures, checks every count
exactly, stops them, and returns its figures by name (those in the row's `metrics` are for the table, the costs for the
table of costs, the rest for the JSON). It raises peers.Absent where a program is not installed, and anything else
where a count is wrong.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import costs, libraries
from bench.brokers import Beanstalkd, GearmandSqlite, Mosquitto, Nats, Rabbit
from bench.peers import Broken, Gearmand, Peer, Redis, Relay, Worker, closed_port
from bench.plan import Contender, Figures, Load, Plan, Row


def load(kind: str, address: str, count: int, window: int, callers: int = 1, payload: int = 100) -> Figures:
    os.sync()  # what others left for the disk to do is not this peer's
    numbers = [str(number) for number in (count, window, callers, payload)]
    command = [sys.executable, "-m", "bench.load", kind, address, *numbers]
    told = subprocess.run(command, check=False, capture_output=True, text=True)
    if told.returncode:
        raise Broken(f"the load generator for {kind} fails: {told.stderr[-1000:]}")
    figures: Figures = json.loads(told.stdout)
    return figures


def timed(peer: Peer, kind: str, plan: Plan, how: Load) -> Figures:
    """A warm-up and a stream; the rate, the latencies, and what it costs the peer."""
    window, casts = how.window or plan.window, how.casts(plan)
    warm = min(casts, max(how.callers, plan.warm * casts // max(1, plan.casts)))
    load(kind, peer.address, warm, window, how.callers, how.payload)
    before = costs.of(peer.process.pid)
    told = load(kind, peer.address, casts, window, how.callers, how.payload)
    seconds = told["ended"] - told["started"]
    figures = {"rate": casts / seconds, "seconds": seconds, "load_cpu_s": told["cpu_s"]}
    figures |= {name: told[name] for name in ("p50_us", "p99_us", "p999_us")}
    figures |= costs.each(before, costs.of(peer.process.pid), casts)
    kept = getattr(peer, "kept", None)
    if kept is not None and (found := kept()) != warm + casts:
        raise Broken(f"{peer.name} holds {found} of {warm + casts}")
    return figures


def accept_relay(kind: str, how: Load) -> Contender:
    def measure(plan: Plan) -> Figures:
        with closed_port() as port, Relay(plan.disk, f"127.0.0.1:{port}") as relay:
            return timed(relay, kind, plan, how)

    return Contender(measure, Relay.worth)


def accept(kind: str, make: Callable[[Path], Peer], worth: str, how: Load, *, slow: bool = False) -> Contender:
    def measure(plan: Plan) -> Figures:
        with make(plan.disk) as peer:
            return timed(peer, kind, plan, how)

    return Contender(measure, worth, slow)


def others(how: Load) -> dict[str, Contender]:
    """The brokers; those that would take minutes get fewer casts."""

    def part(share: float) -> Load:
        return Load(how.share * share, how.callers, how.window, how.payload)

    return {
        "beanstalkd -f0": accept("beanstalkd", Beanstalkd, Beanstalkd.worth, part(1 / 20)),
        "gearmand, libsqlite3": accept("gearmand-background", GearmandSqlite, GearmandSqlite.worth, part(1 / 100)),
        "RabbitMQ, quorum queue": accept("rabbitmq", Rabbit, Rabbit.worth, part(1 / 5), slow=True),
        "RabbitMQ, classic queue": accept(
            "rabbitmq", lambda disk: Rabbit(disk, b"classic"), Rabbit.worth, part(1 / 5), slow=True
        ),
        "NATS JetStream": accept("nats", Nats, Nats.worth, part(1 / 2)),
        "mosquitto, QoS 1": accept("mosquitto", Mosquitto, Mosquitto.worth, part(1 / 5)),
    }


def redis(how: Load) -> dict[str, Contender]:
    return {"redis": accept("redis", Redis, Redis.worth, how)}


def executed(worker: Worker, told: Figures, casts: int, warm: int) -> Figures:
    """From the first request to the last execution; exactly as many executions as requests."""
    last = worker.executed(warm + casts)
    if last["executed"] != warm + casts:
        raise Broken(f"{last['executed']} executions of {warm + casts}")
    seconds = last["at"] - told["started"]
    figures = {"rate": casts / seconds, "seconds": seconds, "load_cpu_s": told["cpu_s"]}
    return figures | {"answered_s": told["ended"] - told["started"]}


def through_server(kind: str, make: Callable[[Path], Peer], worth: str, share: float) -> Contender:
    def measure(plan: Plan) -> Figures:
        casts, warm = Load(share).casts(plan), max(1, int(plan.warm * share))
        with make(plan.disk) as server, Worker(server.address, plan.grabs) as worker:
            load(kind, server.address, warm, plan.window)
            worker.executed(warm)
            before = costs.of(server.process.pid)
            told = load(kind, server.address, casts, plan.window)
            figures = executed(worker, told, casts, warm)
            return figures | costs.each(before, costs.of(server.process.pid), casts)

    return Contender(measure, worth)


def through_relay(upstreams: int) -> Contender:
    """Before one server, or several in turn with a worker each."""

    def measure(plan: Plan) -> Figures:
        total = plan.warm + plan.casts
        with ExitStack() as stack:
            servers = [stack.enter_context(Gearmand(plan.disk)) for _ in range(upstreams)]
            workers = [stack.enter_context(Worker(server.address, plan.grabs)) for server in servers]
            more = "[forwarder]\nrotation = round_robin\n" if upstreams > 1 else ""
            addresses = ",".join(server.address for server in servers)
            relay = stack.enter_context(Relay(plan.disk, addresses, more))
            load("relay", relay.address, plan.warm, plan.window)
            relay.wait_for("completed", plan.warm)
            before = costs.of(relay.process.pid)
            told = load("relay", relay.address, plan.casts, plan.window)
            if upstreams == 1:
                last = workers[0].executed(total)
            relay.wait_for("completed", total, 120)
            each = [worker.executed(0) for worker in workers]
            if sum(one["executed"] for one in each) != total:
                raise Broken(f"{[one['executed'] for one in each]} executions of {total} casts")
            if upstreams > 1:
                last = max(each, key=lambda one: one["at"])
            seconds = last["at"] - told["started"]
            figures = {"rate": plan.casts / seconds, "seconds": seconds, "load_cpu_s": told["cpu_s"]}
            figures |= {"answered_s": told["ended"] - told["started"]}
            return figures | costs.each(before, costs.of(relay.process.pid), plan.casts)

    return Contender(measure, Relay.worth)


RATE = {"rate": "casts/s, more is better"}
WAITS = {
    "p50_us": "p50 us, less is better",
    "p99_us": "p99 us, less is better",
    "p999_us": "p99.9 us, less is better",
}


def callers(count: int, window: int, *, full: bool) -> Row:
    """So many callers with so many casts unanswered each."""
    how = Load(1 / 3 if window > 1 else 1 / 10, count, window)
    return Row(
        f"{count} x {window}",
        f"{count} callers with {window} unanswered each; durable as in accept",
        RATE | WAITS,
        redis(how) | {"relay": accept_relay("relay", how)} | (others(how) if full else {}),
        full=full,
    )


def payload(name: str, size: int) -> Row:
    how = Load(1, 1, max(1, min(1000, (64 << 20) // size)), size)
    return Row(
        f"payload {name}",
        f"payloads of {name}, one caller, {how.window} unanswered; durable as in accept",
        RATE,
        redis(how) | {"relay": accept_relay("relay", how)},
        full=True,
    )


ROWS = (
    Row(
        "accept",
        "one caller, a window unanswered, no upstream; what each answer is worth stands in the table of costs",
        RATE,
        redis(Load())
        | {
            "relay": accept_relay("relay", Load()),
            "relay, UUIDv7 uniques": accept_relay("relay-uuid7", Load()),
            "relay, random uniques": accept_relay("relay-random", Load()),
        }
        | others(Load()),
    ),
    Row(
        "through",
        "from the first request to the last execution, by the worker's clock. relay before gearmand: all found\n"
        "    retired in its status afterwards. gearmand: foreground jobs straight to it, a window outstanding,\n"
        "    empty uniques, nothing on disk; with libsqlite3: background jobs with uniques",
        {"rate": "jobs/s, more is better"},
        {
            "gearmand": through_server("gearmand", Gearmand, Gearmand.worth, 1),
            "relay before gearmand": through_relay(1),
            "relay before 3 of them": through_relay(3),
            "gearmand, libsqlite3": through_server(
                "gearmand-background", GearmandSqlite, GearmandSqlite.worth, 1 / 100
            ),
        },
    ),
    Row(
        "waiting",
        "one caller that casts, waits for the answer, casts again; durable as in accept",
        WAITS,
        redis(Load(1 / 100, 1, 1)) | {"relay": accept_relay("relay", Load(1 / 100, 1, 1))},
    ),
    callers(64, 1, full=False),
    *(
        callers(count, window, full=True)
        for count in (1, 16, 64, 256)
        for window in (1, 10)
        if (count, window) not in ((1, 1), (64, 1))
    ),
    callers(16, 1000, full=True),
    Row(
        "python",
        "what a Python service would call, in one thread, each call waited for; costs are those of all processes",
        RATE | WAITS,
        libraries.CONTENDERS,
        full=True,
    ),
    payload("1 KiB", 1 << 10),
    payload("64 KiB", 1 << 16),
    payload("1 MiB", 1 << 20),
    payload("16 MiB", 16 << 20),
)
