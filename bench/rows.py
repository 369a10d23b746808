"""What each row measures, once: a row is a name and its contenders, the first of them the reference of the
ratios.

A contender is a function of a Plan that starts its peers fresh, warms them up, measures, checks every count
exactly, stops them, and returns its figures by name (those in the row's `metrics` are for the table, the
rest for the JSON). It raises peers.Absent where a program is not installed, and anything else where a count
is wrong.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.peers import Broken, Gearmand, Redis, Relay, Worker, closed_port

Figures = dict[str, float]


@dataclass(frozen=True)
class Plan:
    disk: Path  # what peers keep lies below it
    casts: int  # of a timed stream
    waits: int  # of the waiting caller
    warm: int  # before the clock starts, in each run
    window: int  # unanswered at most
    grabs: int  # of the worker, under way on each of its connections


@dataclass(frozen=True)
class Row:
    name: str
    says: str
    metrics: dict[str, str]  # name -> unit, and which way is better
    contenders: dict[str, Callable[[Plan], Figures]]


def load(kind: str, mode: str, address: str, count: int, window: int = 1) -> Figures:
    os.sync()  # what others left for the disk to do is not this peer's
    command = [sys.executable, "-m", "bench.load", kind, mode, address, str(count), str(window)]
    told = subprocess.run(command, check=False, capture_output=True, text=True)
    if told.returncode:
        raise Broken(f"the load generator for {kind} fails: {told.stderr[-1000:]}")
    figures: Figures = json.loads(told.stdout)
    return figures


def streamed(kind: str, address: str, plan: Plan) -> Figures:
    load(kind, "stream", address, plan.warm, plan.window)
    told = load(kind, "stream", address, plan.casts, plan.window)
    seconds = told["ended"] - told["started"]
    return {"rate": plan.casts / seconds, "seconds": seconds, "load_cpu_s": told["cpu_s"]}


def accept_relay(kind: str) -> Callable[[Plan], Figures]:
    def measure(plan: Plan) -> Figures:
        with closed_port() as port, Relay(plan.disk, f"127.0.0.1:{port}") as relay:
            figures = streamed(kind, relay.address, plan)
            relay.wait_for("accepted", plan.warm + plan.casts)
            return figures

    return measure


def accept_redis(plan: Plan) -> Figures:
    with Redis(plan.disk) as redis:
        figures = streamed("redis", redis.address, plan)
        if redis.length() != plan.warm + plan.casts:
            raise Broken(f"redis holds {redis.length()} of {plan.warm + plan.casts}")
        return figures


def waiting_relay(plan: Plan) -> Figures:
    with closed_port() as port, Relay(plan.disk, f"127.0.0.1:{port}") as relay:
        load("relay", "wait", relay.address, plan.warm)
        figures = load("relay", "wait", relay.address, plan.waits)
        relay.wait_for("accepted", plan.warm + plan.waits)
        return figures


def waiting_redis(plan: Plan) -> Figures:
    with Redis(plan.disk) as redis:
        load("redis", "wait", redis.address, plan.warm)
        figures = load("redis", "wait", redis.address, plan.waits)
        if redis.length() != plan.warm + plan.waits:
            raise Broken(f"redis holds {redis.length()} of {plan.warm + plan.waits}")
        return figures


def executed(worker: Worker, told: Figures, plan: Plan) -> Figures:
    """From the first request to the last execution; exactly as many executions as requests."""
    last = worker.executed(plan.warm + plan.casts)
    if last["executed"] != plan.warm + plan.casts:
        raise Broken(f"{last['executed']} executions of {plan.warm + plan.casts}")
    seconds = last["at"] - told["started"]
    figures = {"rate": plan.casts / seconds, "seconds": seconds, "load_cpu_s": told["cpu_s"]}
    return figures | {"answered_s": told["ended"] - told["started"]}


def through_gearmand(plan: Plan) -> Figures:
    with Gearmand(plan.disk) as gearmand, Worker(gearmand.address, plan.grabs) as worker:
        load("gearmand", "stream", gearmand.address, plan.warm, plan.window)
        worker.executed(plan.warm)
        told = load("gearmand", "stream", gearmand.address, plan.casts, plan.window)
        return executed(worker, told, plan)


def through_relay(plan: Plan) -> Figures:
    with (
        Gearmand(plan.disk) as gearmand,
        Worker(gearmand.address, plan.grabs) as worker,
        Relay(plan.disk, gearmand.address) as relay,
    ):
        load("relay", "stream", relay.address, plan.warm, plan.window)
        relay.wait_for("completed", plan.warm)
        told = load("relay", "stream", relay.address, plan.casts, plan.window)
        figures = executed(worker, told, plan)
        relay.wait_for("completed", plan.warm + plan.casts)
        worker_total = worker.executed(0)["executed"]
        if worker_total != plan.warm + plan.casts:
            raise Broken(f"{worker_total} executions of {plan.warm + plan.casts} casts")
        return figures


ROWS = (
    Row(
        "accept",
        "durable accept, one caller, a window unanswered, no upstream; Redis: XADD, appendfsync always",
        {"rate": "casts/s, more is better"},
        {
            "redis": accept_redis,
            "relay": accept_relay("relay"),
            "relay, UUIDv7 uniques": accept_relay("relay-uuid7"),
            "relay, random uniques": accept_relay("relay-random"),
        },
    ),
    Row(
        "through",
        "from the first request to the last execution, by the worker's clock. relay before gearmand: all found\n"
        "    retired in its status afterwards. gearmand: foreground jobs straight to it, a window outstanding,\n"
        "    empty uniques, nothing on disk",
        {"rate": "jobs/s, more is better"},
        {"gearmand": through_gearmand, "relay before gearmand": through_relay},
    ),
    Row(
        "waiting",
        "one caller that casts, waits for the answer, casts again; durable as in accept",
        {"p50_us": "p50 us, less is better", "p99_us": "p99 us, less is better"},
        {"redis": waiting_redis, "relay": waiting_relay},
    ),
)
