"""The callers, in a process of their own: `python -m bench.load KIND ADDRESS COUNT WINDOW CALLERS PAYLOAD [SECONDS]`.

KIND is one of wire.REQUESTS.  ADDRESS is the path of a unix socket, or host:port.  CALLERS connections in one poll loop
share COUNT requests with PAYLOAD bytes each; each has at most WINDOW unanswered, and whenever answers arrive, sends as
many as were answered.  After SECONDS, and at SIGTERM, no request is begun any more, and the unanswered ones are waited
for: so a peer that is slow takes as long as one that is fast.  Prints one JSON object.  `answered` is how many were;
`started` and `ended` are CLOCK_MONOTONIC, which processes of one host share.

Latencies, in microseconds, are those of the last request of each write, from before the write to after the read that
brought its answer; with a window of 1 that is every request.

It has to be light, for it shares the cores with what it measures: requests are built before the clock starts, are
of equal size and lie in one buffer, so that sending is a slice of it.  Requests without a unique are built BUILT at
most, and sent again and again.  An answer of another kind than the good one is never counted: the run then ends in an
error after STALL_S, with the bytes that came last.
"""

import contextlib
import json
import math
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from bench.wire import REQUESTS, Request, no_uniques

PAYLOAD = 100
STALL_S = 30
READ = 1 << 18
BUILT = 50_000
BUILT_BYTES = 1 << 27
#: part of the casts that were answered sooner, by the name of the figure
QUANTILES = {
    "p10": 0.1,
    "p25": 0.25,
    "p50": 0.5,
    "p75": 0.75,
    "p90": 0.9,
    "p95": 0.95,
    "p99": 0.99,
    "p995": 0.995,
    "p999": 0.999,
    "p9999": 0.9999,
}


def payloads(size: int) -> Iterator[bytes]:
    number = 0
    while True:
        yield b"%012d" % number + b"x" * (size - 12)
        number += 1


def build(request: Request, count: int, each: int, payload: int) -> tuple[bytes, int]:
    """All requests in one buffer, `each` of them for one caller after the other, and the size of one."""
    uniques, bodies = request.uniques(), payloads(payload)
    built = [request.build(number // each, number, next(uniques), next(bodies)) for number in range(count)]
    if len({len(one) for one in built}) != 1:
        raise AssertionError("requests of one run are of one size")
    return b"".join(built), len(built[0])


def connect(address: str) -> socket.socket:
    if address.startswith("/"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address)
        return sock
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Deadline:
    """The moment after which no request is begun; SIGTERM makes it now."""

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds

    def now(self, *_signal: Any) -> None:
        self.at = 0.0


class Caller:
    """One connection with its requests: `total` of them, from a buffer that is gone through again and again."""

    def __init__(
        self, sock: socket.socket, request: Request, part: memoryview, size: int, window: int, total: int
    ) -> None:
        self.sock, self.answers = sock, request.answers()
        self.waits: list[float] = []
        self.total = total
        self._part, self._size, self._window = part, size, window
        self._sent = 0
        self._pending: deque[tuple[int, float]] = deque()  # (answers by which a write is answered, when it began)

    @property
    def done(self) -> bool:
        return self.answers.count >= self.total

    def end(self) -> None:
        """Begin no other request."""
        self.total = min(self.total, -(-self._sent // self._size))

    def push(self) -> bool:
        """Send what the window lets out; True if there is more that could be sent."""
        limit = min(self.total, self.answers.count + self._window) * self._size
        if self._sent >= limit:
            return False
        began, at = time.perf_counter(), self._sent % len(self._part)
        with contextlib.suppress(BlockingIOError):
            self._sent += self.sock.send(self._part[at : at + limit - self._sent])
            self._pending.append((self._sent // self._size, began))
        return self._sent < limit

    def pull(self) -> None:
        """Read, and see how long what was answered took."""
        data = self.sock.recv(READ)
        if not data:
            raise ConnectionError(f"closed after {self.answers.count} answers; last bytes {self.answers.last[-200:]!r}")
        self.answers.feed(data)
        pending, now = self._pending, time.perf_counter()
        while pending and pending[0][0] <= self.answers.count:
            self.waits.append(now - pending.popleft()[1])


def run(callers: list[Caller], deadline: Deadline) -> None:
    """Until every request that was begun has its answer."""
    left = {caller.sock.fileno(): caller for caller in callers}
    poller, blocked, ended = select.poll(), set(), False
    for fd, caller in left.items():
        poller.register(fd, select.POLLIN)
        if caller.push():
            blocked.add(fd)
            poller.modify(fd, select.POLLIN | select.POLLOUT)
    heard = time.monotonic()
    while left:
        until = heard + STALL_S if ended else min(heard + STALL_S, deadline.at)
        events = poller.poll(max(0.0, until - time.monotonic()) * 1000)
        now = time.monotonic()
        for fd, event in events:
            caller = left[fd]
            if event & ~select.POLLOUT:
                caller.pull()
                heard = now
            if caller.push() != (fd in blocked):
                blocked ^= {fd}
                poller.modify(fd, select.POLLIN | (select.POLLOUT if fd in blocked else 0))
            if caller.done:
                poller.unregister(fd)
                del left[fd]
        if not ended and now >= deadline.at:
            ended = True
            for fd, caller in list(left.items()):
                caller.end()
                if caller.done:
                    poller.unregister(fd)
                    del left[fd]
        if left and now - heard >= STALL_S:
            caller = next(iter(left.values()))
            last = caller.answers.last[-200:]
            raise TimeoutError(f"no answer in {STALL_S} s after {caller.answers.count}; last bytes {last!r}")


def quantiles(waits: list[float]) -> dict[str, float]:
    """In microseconds, of seconds."""
    waits = sorted(waits)
    return {f"{name}_us": waits[min(len(waits) - 1, int(len(waits) * part))] * 1e6 for name, part in QUANTILES.items()}


def built(request: Request, each: int, window: int, callers: int, payload: int) -> int:
    """How many of the `each` requests of a caller are built."""
    if request.uniques is not no_uniques:
        return each
    return min(each, max(window, min(BUILT, BUILT_BYTES // payload) // callers))


def measure(
    kind: str, address: str, count: int, window: int, callers: int, payload: int, seconds: float = math.inf
) -> dict[str, float]:
    request = REQUESTS[kind]
    each = -(-count // callers)
    part = built(request, each, window, callers, payload)
    shares = [min(each, count - first) for first in range(0, count, each)]
    data, size = build(request, part * len(shares), part, payload)
    view = memoryview(data)
    with contextlib.ExitStack() as stack:
        made = []
        for number, share in enumerate(shares):
            sock = stack.enter_context(connect(address))
            request.greet(sock, number)
            sock.setblocking(False)
            mine = view[number * part * size : (number + 1) * part * size]
            made.append(Caller(sock, request, mine, size, window, share))
        cpu, started = time.process_time(), time.monotonic()
        deadline = Deadline(seconds)
        signal.signal(signal.SIGTERM, deadline.now)
        run(made, deadline)
        ended, spent = time.monotonic(), time.process_time() - cpu
    answered = sum(caller.answers.count for caller in made)
    if answered != sum(caller.total for caller in made):
        raise AssertionError(f"{answered} answers to {sum(caller.total for caller in made)} requests")
    figures = {"answered": answered, "started": started, "ended": ended, "cpu_s": spent}
    return figures | quantiles([wait for caller in made for wait in caller.waits])


def main() -> None:
    kind, address, *numbers = sys.argv[1:]
    count, window, callers, payload = map(int, numbers[:4])
    print(json.dumps(measure(kind, address, count, window, callers, payload, *map(float, numbers[4:]))))


if __name__ == "__main__":
    main()
