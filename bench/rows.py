"""What each row measures, once: a row is a name and its contenders, the first of them the reference of the
ratios.

A contender is a function of a Plan that starts its peers fresh, warms them up, measures, checks every count
exactly, stops them, and returns its figures by name (those in the row's `metrics` are for the table, the costs for the
table of costs, the rest for the JSON). It raises peers.Absent where a program is not installed, and anything else
where a count is wrong.
"""

from collections.abc import Callable
from pathlib import Path

from bench import crowds, floors, idle, latency, libraries, through
from bench.brokers import Beanstalkd, GearmandSqlite, Mosquitto, Nats, Rabbit
from bench.peers import Gearmand, Peer, Redis
from bench.plan import RATE, WAITS, Contender, Figures, Load, Plan, Row
from bench.timing import accept_relay, timed


def accept(
    kind: str, make: Callable[[Path], Peer], worth: str, how: Load, *, slow: bool = False, core: bool = True
) -> Contender:
    def measure(plan: Plan) -> Figures:
        with make(plan.disk) as peer:
            return timed(peer, kind, plan, how)

    return Contender(measure, worth, not slow, full=not core, rounds=None if core else 1)


def others(how: Load, *, core: bool = False) -> dict[str, Contender]:
    """The brokers; where they are no part of the core, they are measured once."""

    def one(kind: str, make: Callable[[Path], Peer], worth: str, *, slow: bool = False) -> Contender:
        return accept(kind, make, worth, how, slow=slow, core=core)

    return {
        "beanstalkd -f0": one("beanstalkd", Beanstalkd, Beanstalkd.worth),
        "gearmand, libsqlite3": one("gearmand-background", GearmandSqlite, GearmandSqlite.worth),
        "RabbitMQ, quorum queue": one("rabbitmq", Rabbit, Rabbit.worth, slow=True),
        "RabbitMQ, classic queue": one("rabbitmq", lambda disk: Rabbit(disk, b"classic"), Rabbit.worth, slow=True),
        "NATS JetStream": one("nats", Nats, Nats.worth),
        "mosquitto, QoS 1": one("mosquitto", Mosquitto, Mosquitto.worth),
    }


def redis(how: Load) -> dict[str, Contender]:
    return {"redis": accept("redis", Redis, Redis.worth, how)}


def callers(count: int, window: int, *, full: bool = True, beside: bool = True) -> Row:
    """So many callers with so many casts unanswered each; beside all peers, or beside Redis alone."""
    how = Load(count, window)
    return Row(
        f"{count} x {window}",
        "callers x casts that each of them has unanswered; durable as in accept",
        RATE | WAITS,
        redis(how) | {"relay": accept_relay("relay", how)} | (others(how) if beside else {}),
        full=full,
        quick=False,
    )


def payloads(size: int) -> Load:
    """One caller with 64 MiB unanswered, or as many casts as the window usually has."""
    return Load(1, max(1, min(1000, (64 << 20) // size)), size)


def payload(name: str, size: int) -> Row:
    how = payloads(size)
    return Row(
        f"payload {name}",
        f"payloads of {name}, one caller, {how.window} unanswered; durable as in accept",
        RATE,
        redis(how) | {"relay": accept_relay("relay", how)},
        full=True,
        quick=False,
    )


def through_payload(name: str, size: int) -> Row:
    how = payloads(size)
    return Row(
        f"through {name}",
        f"as through, payloads of {name}, {how.window} unanswered",
        JOBS,
        {
            "gearmand": through.server("gearmand", Gearmand, Gearmand.worth, how),
            "relay before gearmand": through.relay(1, how),
        },
        full=True,
        quick=False,
        rounds=2,
    )


JOBS = {"rate": "jobs/s, more is better"}
SIZES = {"1 KiB": 1 << 10, "64 KiB": 1 << 16, "1 MiB": 1 << 20, "16 MiB": 16 << 20}

ROWS = (
    Row(
        "accept",
        "one caller, a window unanswered, no upstream; what each answer is worth is told below",
        RATE,
        redis(Load())
        | {
            "relay": accept_relay("relay", Load()),
            "relay, UUIDv7 uniques": accept_relay("relay-uuid7", Load(), quick=False),
            "relay, random uniques": accept_relay("relay-random", Load(), quick=False),
        }
        | others(Load(), core=True),
    ),
    Row(
        "through",
        "from the first request to the last execution, by the worker's clock. relay before gearmand: all found\n"
        "    retired in its status afterwards. gearmand: foreground jobs straight to it, a window outstanding,\n"
        "    empty uniques, nothing on disk; with libsqlite3: background jobs with uniques",
        JOBS,
        {
            "gearmand": through.server("gearmand", Gearmand, Gearmand.worth),
            "relay before gearmand": through.relay(1),
            "relay before 3 of them": through.relay(3, quick=False),
            "gearmand, libsqlite3": through.server(
                "gearmand-background", GearmandSqlite, GearmandSqlite.worth, quick=False
            ),
        },
    ),
    Row(
        "waiting",
        "one caller that casts, waits for the answer, casts again; durable as in accept",
        WAITS,
        redis(Load(1, 1)) | {"relay": accept_relay("relay", Load(1, 1))} | others(Load(1, 1)),
        quick=False,
    ),
    callers(64, 1, full=False),
    callers(1000, 1, beside=False),
    callers(1, 10),
    callers(16, 1),
    callers(16, 10),
    callers(16, 1000),
    callers(64, 10),
    callers(256, 1),
    callers(256, 10),
    callers(64, 1000, beside=False),
    callers(256, 1000, beside=False),
    Row(
        "python",
        "what a Python service would call, in one thread, each call waited for; costs are those of all processes",
        RATE | WAITS,
        libraries.CONTENDERS,
        full=True,
    ),
    *(payload(name, size) for name, size in SIZES.items()),
    *(through_payload(name, size) for name, size in SIZES.items()),
    *latency.ROWS,
    *floors.ROWS,
    *crowds.ROWS,
    *idle.ROWS,
)
