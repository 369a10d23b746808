"""The worker of the through row, in a process of its own: `python -m bench.worker HOST:PORT GRABS`.

Executes jobs of the bench's function as fast as the server hands them out: several connections in one poll
loop, each with some GRABS under way, and for a read of jobs all WORK_COMPLETE and the next GRAB_JOBs in one
write. Executing is counting, so that the server and what stands before it are what is measured.

On stdin it reads a count a line, and once it has executed that many jobs since its start it answers with one
line of JSON, {"executed", "began", "at"}: how many it has executed, and the CLOCK_MONOTONIC from before the read that
brought the first of them to after the one that brought the last. At the end of stdin it exits. A job is executed when
its completion is handed to the kernel; what a worker's death does is not its subject.
"""

import json
import os
import re
import select
import sys
import time

from bench.load import READ, connect
from bench.wire import FUNCTION, gearman

# With 4 x 128 grabs a bare gearmand does 640,000 to 750,000 jobs/s on two cores, with 4 x 64 from 400,000 to 610,000,
# with 4 x 8 some 150,000 and with 16 x 1 28,000: enough of them that the worker is not what is measured.
CONNECTIONS = 4

CAN_DO, PRE_SLEEP, GRAB_JOB, WORK_COMPLETE = 1, 4, 9, 13
MAGIC = b"\0RES"
NOOP = MAGIC + b"\0\0\0\x06"
NO_JOB = MAGIC + b"\0\0\0\x0a"
JOB_ASSIGN = re.compile(re.escape(MAGIC + b"\0\0\0\x0b") + rb".{4}([^\0]+)\0", re.DOTALL)
GRAB = gearman(GRAB_JOB)
# The body of a WORK_COMPLETE is the handle, NUL, and nothing: the header by the length of the handle.
COMPLETE = [gearman(WORK_COMPLETE, b"x" * size, b"")[:12] for size in range(128)]


def whole(data: bytes | bytearray) -> int:
    """How much of `data` is whole packets."""
    last = data.rfind(MAGIC)
    if last < 0:
        return 0
    end = last + 12 + int.from_bytes(data[last + 8 : last + 12], "big")
    return end if len(data) - last >= 12 and end <= len(data) else last


class Link:
    """One connection to the server: bytes in, answers out."""

    def __init__(self, address: str, most: int) -> None:
        self.sock = connect(address)
        self.grabs = self.most = most
        self._rest = bytearray()
        self._missing = 0  # bytes of the half packet at the end of the rest, as far as is known
        self.sock.sendall(gearman(CAN_DO, FUNCTION) + GRAB * most)

    def work(self) -> int:
        """Executes what one read brought; how many jobs that was."""
        data = self.sock.recv(READ)
        if not data:
            raise ConnectionError("the server closed a worker's connection")
        self._rest += data
        self._missing -= len(data)
        if self._missing > 0:  # a large payload is not searched at each read
            return 0
        end = whole(self._rest)
        data = bytes(self._rest[:end])
        del self._rest[:end]
        if len(self._rest) >= 12:
            self._missing = 12 + int.from_bytes(self._rest[8:12], "big") - len(self._rest)
        handles = JOB_ASSIGN.findall(data)
        self.grabs -= len(handles) + data.count(NO_JOB)
        out = [COMPLETE[len(handle)] + handle + b"\0" for handle in handles]
        # Woken: as many grabs as there may be. Else two for each that found a job, none for one that did not.
        more = min(self.most if NOOP in data else 2 * len(handles), self.most - self.grabs)
        self.grabs += more
        out.append(GRAB * more if self.grabs else gearman(PRE_SLEEP))
        self.sock.sendall(b"".join(out))
        return len(handles)


def serve(address: str, grabs: int) -> None:
    links = {link.sock.fileno(): link for link in (Link(address, grabs) for _ in range(CONNECTIONS))}
    poller = select.poll()
    for fd in (0, *links):
        poller.register(fd, select.POLLIN)
    wanted: int | None = None
    executed, began = 0, time.monotonic()
    at = began
    print(json.dumps({"executed": 0, "began": began, "at": at}), flush=True)
    while True:
        events = poller.poll()
        if not executed:
            began = time.monotonic()
        for fd, _ in events:
            if fd == 0:
                line = os.read(0, 100)
                if not line:
                    return
                wanted = int(line)
                continue
            jobs = links[fd].work()
            if jobs:
                executed += jobs
                at = time.monotonic()
        if wanted is not None and executed >= wanted:
            print(json.dumps({"executed": executed, "began": began, "at": at}), flush=True)
            wanted = None


if __name__ == "__main__":
    try:
        serve(sys.argv[1], int(sys.argv[2]))
    except (ConnectionError, KeyboardInterrupt) as reason:
        sys.exit(f"bench worker: {reason!r}")
