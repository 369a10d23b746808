"""The callers, in a process of their own: `python -m bench.load KIND ADDRESS COUNT WINDOW CALLERS PAYLOAD`.

KIND is one of wire.REQUESTS.  ADDRESS is the path of a unix socket, or host:port.  CALLERS connections in one poll loop
share COUNT requests with PAYLOAD bytes each; each has at most WINDOW unanswered, and whenever answers arrive, sends as
many as were answered.  Prints one JSON object.  `started` and `ended` are CLOCK_MONOTONIC, which processes of one host
share.

Latencies, in microseconds, are those of the last request of each write, from before the write to after the read that
brought its answer; with a window of 1 that is every request.

It has to be light, for it shares the cores with what it measures: all requests are built before the clock starts, are
of equal size and lie in one buffer, so that sending is a slice of it.  An answer of another kind than the good one is
never counted: the run then ends in an error after STALL_S, with the bytes that came last.
"""

import contextlib
import json
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator

from bench.wire import REQUESTS, Request

PAYLOAD = 100
STALL_S = 30
READ = 1 << 18


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


class Caller:
    """One connection with its part of the requests."""

    def __init__(self, sock: socket.socket, request: Request, part: memoryview, size: int, window: int) -> None:
        self.sock, self.answers = sock, request.answers()
        self.waits: list[float] = []
        self._part, self._size, self._window = part, size, window
        self._sent = 0
        self._pending: deque[tuple[int, float]] = deque()  # (answers by which a write is answered, when it began)

    @property
    def done(self) -> bool:
        return self.answers.count * self._size >= len(self._part)

    def push(self) -> bool:
        """Send what the window lets out; True if the kernel would not take all of it."""
        limit = min(len(self._part), (self.answers.count + self._window) * self._size)
        if self._sent >= limit:
            return False
        began = time.perf_counter()
        with contextlib.suppress(BlockingIOError):
            self._sent += self.sock.send(self._part[self._sent : limit])
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


def run(callers: list[Caller]) -> None:
    """Until every request has its answer."""
    by_fd = {caller.sock.fileno(): caller for caller in callers}
    poller, blocked = select.poll(), set()
    for fd, caller in by_fd.items():
        poller.register(fd, select.POLLIN)
        if caller.push():
            blocked.add(fd)
            poller.modify(fd, select.POLLIN | select.POLLOUT)
    left = len(callers)
    while left:
        events = poller.poll(STALL_S * 1000)
        if not events:
            caller = next(caller for caller in callers if not caller.done)
            last = caller.answers.last[-200:]
            raise TimeoutError(f"no answer in {STALL_S} s after {caller.answers.count}; last bytes {last!r}")
        for fd, event in events:
            caller = by_fd[fd]
            if event & ~select.POLLOUT:
                caller.pull()
            if caller.push() != (fd in blocked):
                blocked ^= {fd}
                poller.modify(fd, select.POLLIN | (select.POLLOUT if fd in blocked else 0))
            if caller.done:
                poller.unregister(fd)
                left -= 1


def quantile(waits: list[float], part: float) -> float:
    return waits[min(len(waits) - 1, int(len(waits) * part))] * 1e6


def measure(kind: str, address: str, count: int, window: int, callers: int, payload: int) -> dict[str, float]:
    request = REQUESTS[kind]
    each = -(-count // callers)
    data, size = build(request, count, each, payload)
    view = memoryview(data)
    with contextlib.ExitStack() as stack:
        made = []
        for first in range(0, count, each):
            sock = stack.enter_context(connect(address))
            request.greet(sock, first // each)
            sock.setblocking(False)
            made.append(Caller(sock, request, view[first * size : (first + each) * size], size, window))
        cpu, started = time.process_time(), time.monotonic()
        run(made)
        ended, spent = time.monotonic(), time.process_time() - cpu
    answered = sum(caller.answers.count for caller in made)
    if answered != count:
        raise AssertionError(f"{answered} answers to {count} requests")
    waits = sorted(wait for caller in made for wait in caller.waits)
    quantiles = {f"{name}_us": quantile(waits, part) for name, part in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}
    return {"started": started, "ended": ended, "cpu_s": spent} | quantiles


def main() -> None:
    kind, address, *numbers = sys.argv[1:]
    count, window, callers, payload = map(int, numbers)
    print(json.dumps(measure(kind, address, count, window, callers, payload)))


if __name__ == "__main__":
    main()
