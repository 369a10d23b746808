"""Libraries that a Python service calls, each in a process: `python -m bench.inprocess WHO WHERE COUNT SECONDS`.

WHO is one of LIBRARIES; WHERE is the address of its server, or the directory in which it keeps its file.  One thread
casts COUNT times, or for SECONDS if that is less, each time waiting for the call to return.  Prints one JSON object, as
`load` does, with the costs of this process: with persist-queue and huey it is all there is, with a client it is beside
its server's.
"""

import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from bench import costs
from bench.load import payloads, quantiles
from bench.wire import FUNCTION

Put = Callable[[bytes], Any]


def relay_client(address: str) -> Put:
    client = importlib.import_module("relay.client").Client(address)
    return lambda payload: client.cast(FUNCTION, payload)


def gear_client(address: str) -> Put:
    gear = importlib.import_module("gear")
    logging.disable(logging.CRITICAL)  # it logs each packet at INFO
    host, _, port = address.rpartition(":")
    client = gear.Client()
    client.addServer(host, int(port))
    client.waitForServer()
    return lambda payload: client.submitJob(gear.Job(FUNCTION, payload), background=True)


def persist_queue(directory: str) -> Put:
    put: Put = importlib.import_module("persistqueue").SQLiteQueue(directory, auto_commit=True).put
    return put


def sqlite_huey(directory: str) -> Put:
    huey = importlib.import_module("huey").SqliteHuey(filename=f"{directory}/huey.db", fsync=True)
    put: Put = huey.storage.enqueue
    return put


LIBRARIES: dict[str, tuple[str, Callable[[str], Put]]] = {
    "relay.client": ("relay", relay_client),
    "gear.Client": ("gear", gear_client),
    "persist-queue": ("persistqueue", persist_queue),
    "huey": ("huey", sqlite_huey),
}


def measure(who: str, where: str, count: int, seconds: float) -> dict[str, float]:
    put, bodies = LIBRARIES[who][1](where), payloads(100)
    put(next(bodies))
    waits, before = list[float](), costs.of(os.getpid())
    started = time.monotonic()
    while len(waits) < count and time.monotonic() < started + seconds:
        body, began = next(bodies), time.perf_counter()
        put(body)
        waits.append(time.perf_counter() - began)
    ended = time.monotonic()
    casts = len(waits)
    found = costs.each(before, costs.of(os.getpid()), casts) | quantiles(waits)
    return {"rate": casts / (ended - started), "casts": casts, "started": started, "ended": ended} | found


def main() -> None:
    who, where, count, seconds = sys.argv[1:]
    print(json.dumps(measure(who, where, int(count), float(seconds))), flush=True)
    os._exit(0)  # some keep threads that would not end


if __name__ == "__main__":
    main()
