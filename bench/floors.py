"""The floors that relay stands on, beside it: raw SQLite, a raw socket, the disk.  (A bare gearmand is in `through`.)

How many casts one COMMIT of relay's has was counted once, by the fsyncs of a run (strace -c): some 500 with 1,000
unanswered casts of 100 bytes, and 4 with 8 callers of 1 MiB each.  SQLite and the disk get as many at a time.
"""

import sys
import tempfile

from bench.peers import Peer, Relay, closed_port
from bench.plan import RATE, WAITS, Contender, Figures, Load, Plan, Row
from bench.timing import accept_relay, load, rates, started, timed, told

BATCH = 500
IMAGE, IMAGE_BATCH = 1 << 20, 4
SUSTAINED_S = 10


class Echo(Peer):
    """A server that answers each submission as relay does, and keeps none."""

    name = "python3"

    def command(self) -> list[str]:
        self.address = str(self.run / "echo.sock")
        return [sys.executable, "-m", "bench.raw", "echo", self.address]


def raw(what: str, batch: int, payload: int, seconds: float, plan: Plan) -> Figures:
    with tempfile.TemporaryDirectory(dir=plan.disk) as directory:
        numbers = [str(number) for number in (batch, payload, seconds)]
        found = rates(told(started([sys.executable, "-m", "bench.raw", what, directory, *numbers]), what))
        cpu_us = found["load_cpu_s"] / found["casts"] * 1e6
        return found | {"mib_s": found["rate"] * payload / 2**20, "cpu_us": cpu_us}


def sqlite(batch: int) -> Contender:
    return Contender(lambda plan: raw("sqlite", batch, 100, plan.seconds, plan), "fsync at each COMMIT")


def echo(how: Load) -> Contender:
    def measure(plan: Plan) -> Figures:
        with Echo(plan.disk) as peer:
            return timed(peer, "relay", plan, how)

    return Contender(measure, "nothing")


def sustained(plan: Plan) -> float:
    return min(SUSTAINED_S, plan.long_s)


def images(what: str) -> Contender:
    return Contender(lambda plan: raw(what, IMAGE_BATCH, IMAGE, sustained(plan), plan), "fsync")


def relay_images(plan: Plan) -> Figures:
    with closed_port() as port, Relay(plan.disk, f"127.0.0.1:{port}") as relay:
        found = rates(load("relay", relay.address, 1 << 40, Load(8, 8, IMAGE), plan, sustained(plan)))
        return found | {"mib_s": found["rate"] * IMAGE / 2**20}


ROWS = (
    Row(
        "floor, many",
        "one caller with a window unanswered, beside rows as relay's in SQLite without relay, as many a COMMIT,\n"
        "    and a server in Python on a unix socket that keeps nothing",
        RATE,
        {
            f"SQLite, {BATCH} rows a COMMIT": sqlite(BATCH),
            "a socket": echo(Load()),
            "relay": accept_relay("relay", Load(), quick=False),
        },
        full=True,
    ),
    Row(
        "floor, one",
        "one waiting caller, beside one COMMIT after the other in SQLite without relay, and the same socket",
        WAITS,
        {
            "SQLite, one row a COMMIT": sqlite(1),
            "a socket": echo(Load(1, 1)),
            "relay": accept_relay("relay", Load(1, 1), quick=False),
        },
        full=True,
    ),
    Row(
        "1 MiB, sustained",
        f"8 callers with 8 unanswered payloads of 1 MiB each, for {SUSTAINED_S} s, beside {IMAGE_BATCH} of them\n"
        "    written to the end of a file and synced, and the same in SQLite without relay",
        {"mib_s": "MiB/s, more is better"},
        {
            "the disk": images("disk"),
            f"SQLite, {IMAGE_BATCH} rows a COMMIT": images("sqlite"),
            "relay": Contender(relay_images, Relay.worth, quick=False),
        },
        full=True,
    ),
)
