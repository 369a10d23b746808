"""One caller with a rhythm, in a process of its own: `python -m bench.paced KIND ADDRESS RATE SECONDS PAYLOAD`.

Each 1 / RATE seconds one request is due, and is sent whether or not those before have their answers.  Latencies are
from the moment that a request was due: one that is late because the peer did not read counts as slow, too.  The rhythm
ends after SECONDS, and at SIGTERM; then the answers are waited for.  Prints one JSON object as `load` does, with `late`
beside: the requests that were sent more than one beat after they were due.
"""

import json
import select
import signal
import sys
import time

from bench.load import READ, STALL_S, Deadline, build, connect, quantiles
from bench.wire import REQUESTS


def due(elapsed: float, rate: float) -> int:
    """How many requests are due after so many seconds; the first at once."""
    return int(elapsed * rate) + 1


def measure(kind: str, address: str, rate: float, seconds: float, payload: int) -> dict[str, float]:
    request = REQUESTS[kind]
    data, _ = build(request, 1, 1, payload)
    answers, waits, sent, late = request.answers(), list[float](), 0, 0
    with connect(address) as sock:
        request.greet(sock, 0)
        cpu, started = time.process_time(), time.monotonic()
        deadline = Deadline(seconds)
        signal.signal(signal.SIGTERM, deadline.now)
        now = ended = heard = started
        while now < deadline.at or len(waits) < sent:
            if now < deadline.at and (wanted := due(now - started, rate)) > sent:
                late += max(0, due(now - started - 1 / rate, rate) - sent)
                sock.sendall(data * (wanted - sent))
                sent = wanted
            until = min(started + sent / rate, deadline.at) if now < deadline.at else now + 1
            if select.select([sock], [], [], max(0.0, until - time.monotonic()))[0]:
                read = sock.recv(READ)
                if not read:
                    raise ConnectionError(f"closed after {answers.count} answers; last bytes {answers.last[-200:]!r}")
                answers.feed(read)
                ended = heard = time.monotonic()
                waits += [ended - (started + number / rate) for number in range(len(waits), answers.count)]
            now = time.monotonic()
            if len(waits) < sent and now > heard + STALL_S:
                raise TimeoutError(f"no answer in {STALL_S} s after {answers.count}")
    spent = time.process_time() - cpu
    figures = {"answered": answers.count, "late": late, "started": started, "ended": ended, "cpu_s": spent}
    return figures | quantiles(waits)


def main() -> None:
    kind, address, *numbers = sys.argv[1:]
    rate, seconds, payload = numbers
    print(json.dumps(measure(kind, address, float(rate), float(seconds), int(payload))))


if __name__ == "__main__":
    main()
