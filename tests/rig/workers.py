"""Workers: threads that execute jobs at one job server and write down what they did.

A worker grabs with GRAB_JOB_UNIQ (the only grab that is answered with the unique; at Perl's server, which knows no
such grab, with GRAB_JOB), sleeps when there is nothing, and comes back for ever when its server dies. What it answers
to a job is decided by its `act`, a function of the payload and the number of the try: `done`, `always_fail`, or what
one of the makers below makes.
Promises: an execution stands in the ledger before its answer is sent, so nothing done is ever missing there.
Never does: outlive `stop`, or end by itself while its server misbehaves.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from . import packets
from .packets import Packet, Stream, request
from .servers import HOST, JobServer
from .wait import until

REGRAB_S = 1.0
RECONNECT_S = 0.05


class Answer(NamedTuple):
    """What a worker answers: the packet's type (None: it goes away without a word), and its text."""

    type: int | None
    text: bytes | None = None


COMPLETE = Answer(packets.WORK_COMPLETE, b"")
FAIL = Answer(packets.WORK_FAIL)
VANISH = Answer(None)


class Execution(NamedTuple):
    """One job as a worker had it, and what it answered; `at` is the wall clock when the job came."""

    function: bytes
    payload: bytes
    unique: bytes
    port: int
    at: float
    answer: Answer

    @property
    def succeeded(self) -> bool:
        """Whether it was done."""
        return self.answer.type == packets.WORK_COMPLETE

    @property
    def key(self) -> bytes:
        """The idempotency key: what stands before the unique's last dot."""
        return self.unique.rpartition(b".")[0]


class Ledger:
    """What all workers of a test executed, in the order of their appends."""

    def __init__(self) -> None:
        """Empty."""
        self.executions: list[Execution] = []
        self._payloads: set[bytes] = set()
        self._tries: Counter[bytes] = Counter()
        self._lock = threading.Lock()

    def count_try(self, payload: bytes) -> int:
        """Which try of this payload this is; 1 is the first."""
        with self._lock:
            self._tries[payload] += 1
            return self._tries[payload]

    def note(self, execution: Execution) -> None:
        """A worker has done this, and will say so."""
        self.executions.append(execution)
        self._payloads.add(execution.payload)

    @property
    def distinct(self) -> int:
        """How many payloads were executed, repeats left out."""
        return len(self._payloads)

    def tries(self, function: bytes | None = None) -> list[Execution]:
        """All executions (of a function), whatever came of them."""
        return [e for e in self.executions[:] if function is None or e.function == function]

    def done(self, function: bytes | None = None) -> list[bytes]:
        """Payloads that were executed with success, repeats included."""
        return [e.payload for e in self.tries(function) if e.succeeded]

    def await_done(self, payloads: Iterable[bytes], seconds: float = 120.0) -> None:
        """Returns when each of the payloads was executed with success at least once."""
        wanted = set(payloads)
        until(
            lambda: wanted <= set(self.done()),
            lambda: f"{len(wanted)} casts executed; missing: {sorted(wanted - set(self.done()))[:10]}",
            seconds,
        )


Act = Callable[[bytes, int], Answer]


def done(_payload: bytes, _try: int) -> Answer:
    """The job succeeds."""
    return COMPLETE


def fail_first(count: int) -> Act:
    """Each payload fails (WORK_FAIL) for its first count tries."""
    return lambda _payload, this: FAIL if this <= count else COMPLETE


def always_fail(_payload: bytes, _try: int) -> Answer:
    """The job fails (WORK_FAIL)."""
    return FAIL


def raising(text: bytes) -> Act:
    """The job ends with WORK_EXCEPTION and a text."""
    return lambda _payload, _try: Answer(packets.WORK_EXCEPTION, text)


def vanish_first(count: int) -> Act:
    """The worker's connection dies in the middle of the first count tries of each payload."""
    return lambda _payload, this: VANISH if this <= count else COMPLETE


class Worker(threading.Thread):
    """One worker at one server."""

    def __init__(
        self, server: JobServer, functions: Iterable[bytes], ledger: Ledger, act: Act = done, delay: float = 0.0
    ) -> None:
        """Not started yet. `delay` is how long a job takes, in seconds."""
        super().__init__(name=f"worker-{server.port}", daemon=True)
        self.port, self.functions, self.ledger = server.port, list(functions), ledger
        self.shown_uniques = server.shows_uniques
        self._grab = request(packets.GRAB_JOB_UNIQ if self.shown_uniques else packets.GRAB_JOB)
        self.act, self.delay = act, delay
        self.gate = threading.Event()
        self.gate.set()
        self.holding = threading.Event()
        self._stopping = threading.Event()
        self._stream: Stream | None = None

    def hold(self) -> None:
        """Keep the next job (`holding` is set once it is there) until `let_go`."""
        self.gate.clear()

    def let_go(self) -> None:
        """Go on with the job that was held, and with all after it."""
        self.gate.set()

    def stop(self) -> None:
        """End it; returns when the thread is gone."""
        self._stopping.set()
        self.gate.set()
        if stream := self._stream:
            stream.close()
        self.join()

    def run(self) -> None:
        """Connect, work, and connect again, until stopped."""
        while not self._stopping.is_set():
            try:
                with Stream((HOST, self.port), timeout=REGRAB_S) as stream:
                    self._stream = stream
                    self._work(stream)
            except OSError:
                self._stopping.wait(RECONNECT_S)

    def _work(self, stream: Stream) -> None:
        stream.send(b"".join(request(packets.CAN_DO, function) for function in self.functions))
        stream.send(self._grab)
        while not self._stopping.is_set():
            try:
                packet = stream.read()
            except TimeoutError:  # asleep, and not woken: ask again
                stream.send(self._grab)
                continue
            if packet.type in (packets.JOB_ASSIGN_UNIQ, packets.JOB_ASSIGN):
                answer = self._execute(packet)
                if answer is None:
                    return
                stream.send(answer + self._grab)
            elif packet.type == packets.NO_JOB:
                stream.send(request(packets.PRE_SLEEP))
            elif packet.type == packets.NOOP:
                stream.send(self._grab)

    def _execute(self, packet: Packet) -> bytes | None:
        """The bytes of the answer to this job; None if the worker goes away without one."""
        at = time.time()
        if packet.type == packets.JOB_ASSIGN_UNIQ:
            handle, function, unique, payload = packet.arguments(4)
        else:
            (handle, function, payload), unique = packet.arguments(3), b""
        if not self.gate.is_set():
            self.holding.set()
            self.gate.wait()
        if self.delay:
            self._stopping.wait(self.delay)
        if self._stopping.is_set():
            return None
        answer = self.act(payload, self.ledger.count_try(payload))
        self.ledger.note(Execution(function, payload, unique, self.port, at, answer))
        if answer.type is None:
            return None
        said = request(answer.type, *(part for part in (handle, answer.text) if part is not None))
        # as Perl's own worker: to its server an exception is only news, and the job goes on
        fails_too = answer.type == packets.WORK_EXCEPTION and not self.shown_uniques
        return said + request(packets.WORK_FAIL, handle) if fails_too else said
