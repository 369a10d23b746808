"""The floors, each a process of its own: what SQLite, the disk and a socket can do without relay.

    python -m bench.raw sqlite DIRECTORY BATCH PAYLOAD SECONDS    rows as relay's, BATCH of them a COMMIT
    python -m bench.raw disk DIRECTORY BATCH PAYLOAD SECONDS      BATCH payloads at the end of a file, then fdatasync
    python -m bench.raw echo SOCKET                               a server that answers each submission, and keeps none

The first two print one JSON object as `load` does; a latency is that of a whole COMMIT, or of a whole write.  The
database has relay's own tables, pragmas and statements, for many rows each; what is missing is all that relay does
beside: counts, checksums, callers.  The third goes on until SIGTERM.
"""

import json
import os
import select
import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.load import READ, payloads, quantiles
from bench.wire import JOB_CREATED, Answers
from relay.cast import SHORT_COLUMNS
from relay.spool import schema
from relay.spool import statements as sql
from relay.spool.opening import INCREMENTAL, PRAGMAS

ROWS = 10_000  # that are made before the clock starts, and stored again and again under other ids
ANSWER = JOB_CREATED + b"\0\0\0\x0fH:raw:000000001"


def timed(batch: int, seconds: float, store: Callable[[int], None]) -> dict[str, float]:
    """Batches one after the other, the first of them not counted."""
    store(0)
    waits, cpu, started = list[float](), time.process_time(), time.monotonic()
    ended = began = started
    while began < started + seconds:
        store(batch * (len(waits) + 1))
        ended = time.monotonic()
        waits.append(ended - began)
        began = ended
    spent = time.process_time() - cpu
    figures = {"answered": batch * len(waits), "started": started, "ended": ended, "cpu_s": spent}
    return figures | quantiles(waits)


def sqlite(directory: Path, batch: int, payload: int, seconds: float) -> dict[str, float]:
    conn = sqlite3.connect(directory / "raw.db", isolation_level=None, cached_statements=256)
    conn.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
    for pragma, value, _ in PRAGMAS:
        conn.execute(f"PRAGMA {pragma} = {value}")
    schema.migrate(conn)
    bodies = payloads(payload)
    made = [next(bodies) for _ in range(min(ROWS, max(batch, (1 << 26) // payload)))]
    now = time.time_ns() // 1000
    assert SHORT_COLUMNS == ("id", "lane", "accepted_at", "uid", "crc", "payload"), SHORT_COLUMNS

    def store(first: int) -> None:
        conn.execute("BEGIN IMMEDIATE")
        for start, count in sql.pieces(batch):
            values: list[object] = []
            for id_ in range(first + start, first + start + count):
                values += (id_ + 1, 1, now, 0, 1 << 31, made[id_ % len(made)])
            conn.execute(sql.INSERT_SHORT[count], values)
        conn.execute("COMMIT")

    figures = timed(batch, seconds, store)
    kept = conn.execute("SELECT count(*) FROM casts").fetchone()[0]
    if kept != figures["answered"] + batch:
        raise AssertionError(f"{kept} rows, not {figures['answered'] + batch}")
    return figures


def disk(directory: Path, batch: int, payload: int, seconds: float) -> dict[str, float]:
    data = os.urandom(batch * payload)
    with (directory / "raw").open("wb", buffering=0) as file:

        def store(_first: int) -> None:
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
            os.fdatasync(file.fileno())

        return timed(batch, seconds, store)


def echo(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(100)
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        callers: dict[int, tuple[socket.socket, Answers]] = {}
        while True:
            for fd, _ in poller.poll():
                if fd == listener.fileno():
                    sock = listener.accept()[0]
                    callers[sock.fileno()] = sock, Answers(b"\0REQ")
                    poller.register(sock, select.POLLIN)
                    continue
                sock, requests = callers[fd]
                before = requests.count
                data = sock.recv(READ)
                requests.feed(data)
                if data:
                    sock.sendall(ANSWER * (requests.count - before))
                else:
                    poller.unregister(fd)
                    callers.pop(fd)[0].close()


def main() -> None:
    what, where, *numbers = sys.argv[1:]
    if what == "echo":
        echo(where)
    batch, payload, seconds = int(numbers[0]), int(numbers[1]), float(numbers[2])
    print(json.dumps({"sqlite": sqlite, "disk": disk}[what](Path(where), batch, payload, seconds)))


if __name__ == "__main__":
    main()
