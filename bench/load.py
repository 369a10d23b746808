"""The caller, in a process of its own: `python -m bench.load KIND MODE ADDRESS COUNT WINDOW`.

KIND is one of the REQUESTS below. ADDRESS is the path of a unix socket, or host:port. MODE is `stream` (at
most WINDOW unanswered; whenever answers arrive, as many requests are sent as were answered) or `wait` (one
request, its answer, the next). Prints one JSON object. `started` and `ended` are CLOCK_MONOTONIC, which
processes of one host share.

It has to be light, for it shares the cores with what it measures: all requests are built before the clock
starts, are of equal size and lie in one buffer, so that sending is a slice of it; answers are counted by a
mark that each good answer holds exactly once. An answer of another kind is never counted: the run then ends
in an error after STALL_S, with the bytes that came last.
"""

import contextlib
import json
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

PAYLOAD = 100
FUNCTION = b"bench"
STALL_S = 30
READ = 1 << 18

SUBMIT_JOB, SUBMIT_JOB_BG = 7, 18
JOB_CREATED = b"RES\0\0\0\x08"
WORK_COMPLETE = b"RES\0\0\0\x0d"


class Request(NamedTuple):
    build: Callable[[bytes, bytes], bytes]  # unique, payload -> bytes
    uniques: Callable[[], Iterator[bytes]]
    mark: bytes  # in each good answer exactly once, in a bad one never


def payloads() -> Iterator[bytes]:
    number = 0
    while True:
        yield b"%012d" % number + b"x" * (PAYLOAD - 12)
        number += 1


def no_uniques() -> Iterator[bytes]:
    while True:
        yield b""


def uuid7_uniques(per_ms: int = 300) -> Iterator[bytes]:
    """UUIDv7 in hex as one caller makes them at some 300,000 a second: the time grows, the rest is chance."""
    now, number = time.time_ns() // 1_000_000, 0
    while True:
        high = (now + number // per_ms) << 16 | 0x7000 | random.getrandbits(12)
        yield b"%016x%016x" % (high, 1 << 63 | random.getrandbits(62))
        number += 1


def random_uniques() -> Iterator[bytes]:
    while True:
        yield b"%032x" % random.getrandbits(128)


def gearman(kind: int, *args: bytes) -> bytes:
    body = b"\0".join(args)
    return struct.pack(">4sII", b"\0REQ", kind, len(body)) + body


def background(unique: bytes, payload: bytes) -> bytes:
    return gearman(SUBMIT_JOB_BG, FUNCTION, unique, payload)


def foreground(unique: bytes, payload: bytes) -> bytes:
    return gearman(SUBMIT_JOB, FUNCTION, unique, payload)


def xadd(_unique: bytes, payload: bytes) -> bytes:
    words = (b"XADD", b"casts", b"*", b"p", payload)
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


REQUESTS = {
    "relay": Request(background, no_uniques, JOB_CREATED),
    "relay-uuid7": Request(background, uuid7_uniques, JOB_CREATED),
    "relay-random": Request(background, random_uniques, JOB_CREATED),
    "redis": Request(xadd, no_uniques, b"$"),  # `$15\r\n<time>-<sequence>\r\n`; an error starts with `-`
    "gearmand": Request(foreground, no_uniques, WORK_COMPLETE),
}


def build(request: Request, count: int) -> list[bytes]:
    built = [request.build(u, p) for u, p, _ in zip(request.uniques(), payloads(), range(count), strict=False)]
    if len({len(one) for one in built}) != 1:
        raise AssertionError("requests of one run are of one size")
    return built


def connect(address: str) -> socket.socket:
    if address.startswith("/"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address)
        return sock
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Answers:
    """Counts the marks in what was read; a mark cut in two by a read is counted once."""

    def __init__(self, mark: bytes) -> None:
        self.mark, self.count, self.last = mark, 0, b""
        self._carry = b""

    def feed(self, data: bytes) -> None:
        self.last = data
        if len(self.mark) > 1:
            data = self._carry + data
            self._carry = data[1 - len(self.mark) :]
        self.count += data.count(self.mark)


def receive(sock: socket.socket, answers: Answers) -> None:
    data = sock.recv(READ)
    if not data:
        raise ConnectionError(f"closed after {answers.count} answers; the last bytes were {answers.last[-200:]!r}")
    answers.feed(data)


def stalled(answers: Answers) -> TimeoutError:
    return TimeoutError(f"no answer in {STALL_S} s after {answers.count}; last bytes {answers.last[-200:]!r}")


def stream(sock: socket.socket, requests: list[bytes], mark: bytes, window: int) -> dict[str, float]:
    """Every request, at most `window` of them unanswered."""
    view, size, count = memoryview(b"".join(requests)), len(requests[0]), len(requests)
    answers = Answers(mark)
    sock.setblocking(False)
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    sent, waits_to_write = 0, False
    cpu, started = time.process_time(), time.monotonic()
    while answers.count < count:
        limit = min(count, answers.count + window) * size
        if sent < limit:
            with contextlib.suppress(BlockingIOError):
                sent += sock.send(view[sent:limit])
        if waits_to_write != (sent < limit):
            waits_to_write = sent < limit
            poller.modify(sock, select.POLLIN | (select.POLLOUT if waits_to_write else 0))
        events = poller.poll(STALL_S * 1000)
        if not events:
            raise stalled(answers)
        if events[0][1] & ~select.POLLOUT:
            receive(sock, answers)
    ended = time.monotonic()
    if answers.count != count:
        raise AssertionError(f"{answers.count} answers to {count} requests")
    return {"started": started, "ended": ended, "cpu_s": time.process_time() - cpu}


def wait(sock: socket.socket, requests: list[bytes], mark: bytes) -> dict[str, float]:
    """One request at a time; the waits in microseconds."""
    answers, waits = Answers(mark), []
    sock.settimeout(STALL_S)
    started = time.monotonic()
    for number, request in enumerate(requests, 1):
        before = time.perf_counter_ns()
        sock.sendall(request)
        while answers.count < number:
            try:
                receive(sock, answers)
            except TimeoutError:
                raise stalled(answers) from None
        waits.append(time.perf_counter_ns() - before)
    ended = time.monotonic()
    waits.sort()
    return {
        "started": started,
        "ended": ended,
        "p50_us": waits[len(waits) // 2] / 1000,
        "p99_us": waits[len(waits) * 99 // 100] / 1000,
    }


def main() -> None:
    kind, mode, address, count, window = sys.argv[1:]
    request = REQUESTS[kind]
    requests = build(request, int(count))
    with connect(address) as sock:
        if mode == "stream":
            figures = stream(sock, requests, request.mark, int(window))
        else:
            figures = wait(sock, requests, request.mark)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
