"""One caller with a rhythm, in a process of its own: `python -m bench.paced KIND ADDRESS RATE SECONDS PAYLOAD`.

Each 1 / RATE seconds one request is due; it is sent then, or as soon as the one before has its answer.  Latencies are
from the moment that a request was due: one that is late because another was slow counts as slow, too.  The rhythm ends
after SECONDS, and at SIGTERM.  Prints one JSON object as `load` does, with `late` beside: the requests that were sent
more than one beat after they were due.
"""

import json
import signal
import sys
import time

from bench.load import READ, STALL_S, Deadline, build, connect, quantiles
from bench.wire import REQUESTS


def measure(kind: str, address: str, rate: float, seconds: float, payload: int) -> dict[str, float]:
    request = REQUESTS[kind]
    data, _ = build(request, 1, 1, payload)
    answers, waits, late = request.answers(), list[float](), 0
    with connect(address) as sock:
        request.greet(sock, 0)
        sock.settimeout(STALL_S)
        cpu, started = time.process_time(), time.monotonic()
        deadline = Deadline(seconds)
        signal.signal(signal.SIGTERM, deadline.now)
        due = ended = started
        while due < deadline.at:
            time.sleep(max(0.0, due - time.monotonic()))
            late += time.monotonic() > due + 1 / rate
            sock.sendall(data)
            while answers.count <= len(waits):
                read = sock.recv(READ)
                if not read:
                    raise ConnectionError(f"closed after {answers.count} answers; last bytes {answers.last[-200:]!r}")
                answers.feed(read)
            ended = time.monotonic()
            waits.append(ended - due)
            due = started + len(waits) / rate
    spent = time.process_time() - cpu
    figures = {"answered": answers.count, "late": late, "started": started, "ended": ended, "cpu_s": spent}
    return figures | quantiles(waits)


def main() -> None:
    kind, address, *numbers = sys.argv[1:]
    rate, seconds, payload = numbers
    print(json.dumps(measure(kind, address, float(rate), float(seconds), int(payload))))


if __name__ == "__main__":
    main()
