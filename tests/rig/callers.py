"""Callers: what a service on the host does to relay, over its unix socket.

`cast_all` pipelines submissions with a bounded number unanswered and keeps, in order, what became of each; an agent
that dies in the middle ends it, and is no error: what was acknowledged until then is what counts. `Casting` does it in
a thread, chunk by chunk. A test that wants to see single answers takes a `packets.Stream`.
Promises: a payload stands in `acknowledged` only after its own JOB_CREATED was read.
Failure: an answer that is neither JOB_CREATED nor ERROR raises AssertionError.
"""

import itertools
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from . import packets
from .packets import Stream, submission

CHUNK = 500
PAUSE_S = 0.02


class Refusal(NamedTuple):
    """An ERROR: its payload, its code, its sentence."""

    payload: bytes
    code: str
    text: str


@dataclass
class Record:
    """What became of a caller's submissions."""

    acknowledged: list[bytes] = field(default_factory=list)
    handles: list[bytes] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    unanswered: list[bytes] = field(default_factory=list)
    """Sent, or partly sent, when the connection ended; they may be on disk or not."""

    @property
    def count(self) -> int:
        """How many were tried."""
        return len(self.acknowledged) + len(self.refused) + len(self.unanswered)

    def __iadd__(self, other: Self) -> Self:
        """What became of more of them."""
        self.acknowledged += other.acknowledged
        self.handles += other.handles
        self.refused += other.refused
        self.unanswered += other.unanswered
        return self


def id_of(handle: bytes) -> int:
    """The cast's id in a handle, which must look as relay's do."""
    matched = re.fullmatch(rb"H:([^:\0]{1,40}):([0-9]+)", handle)
    assert matched, f"no handle of relay's: {handle!r}"
    return int(matched[2])


def cast_all(
    socket_path: str,
    function: bytes,
    payloads: Sequence[bytes],
    window: int = 200,
    uniques: Iterable[bytes] | None = None,
    priority: str = "normal",
) -> Record:
    """Cast the payloads with at most window of them unanswered, and what became of them."""
    record = Record()
    requests = [
        submission(function, payload, unique, priority)
        for payload, unique in zip(payloads, itertools.repeat(b"") if uniques is None else uniques, strict=False)
    ]
    assert len(requests) == len(payloads), "fewer uniques than payloads"
    sent = answered = 0
    try:
        with Stream(socket_path) as stream:
            while answered < len(requests):
                until = min(len(requests), answered + window)
                batch, sent = requests[sent:until], until
                stream.send(b"".join(batch))
                # half the window is read before the next write, so that a write carries many
                while answered < len(requests) and sent - answered > (0 if sent == len(requests) else window // 2):
                    _note(record, payloads[answered], stream.read())
                    answered += 1
    except OSError:
        pass
    record.unanswered += payloads[answered:sent]
    return record


def _note(record: Record, payload: bytes, answer: packets.Packet) -> None:
    if answer.type == packets.JOB_CREATED:
        record.handles.append(answer.body)
        record.acknowledged.append(payload)
    else:
        assert answer.type == packets.ERROR, f"an answer of type {answer.type} to a submission"
        code, _, text = answer.body.partition(b"\0")
        record.refused.append(Refusal(payload, code.decode(), text.decode()))


class Casting(threading.Thread):
    """A caller in a thread: casts payloads (which may be endless) until it is stopped or the agent goes away.

    A stubborn one comes back after a crash and goes on with the first payload that it has not tried. While `held_back`,
    which is given the record, says so it pauses between two chunks.
    """

    def __init__(
        self,
        socket_path: str,
        function: bytes,
        payloads: Iterable[bytes],
        window: int = 200,
        stubborn: bool = False,
        held_back: Callable[[Record], bool] | None = None,
    ) -> None:
        """Start casting."""
        super().__init__(name="caller", daemon=True)
        self.socket_path, self.function, self.payloads = socket_path, function, payloads
        self.window, self.stubborn, self.held_back = window, stubborn, held_back
        self.record = Record()
        self._stopping = threading.Event()
        self.start()

    def run(self) -> None:
        """Chunk after chunk, each over a connection of its own."""
        source = iter(self.payloads)
        while chunk := list(itertools.islice(source, CHUNK)):
            while not self._stopping.is_set() and self.held_back and self.held_back(self.record):
                self._stopping.wait(PAUSE_S)
            while chunk and not self._stopping.is_set():
                tried = cast_all(self.socket_path, self.function, chunk, self.window)
                self.record += tried
                chunk = chunk[tried.count :]
                if chunk and not self.stubborn:
                    return
                if not tried.count:
                    self._stopping.wait(PAUSE_S)
            if self._stopping.is_set():
                return

    def finish(self) -> Record:
        """The record, once all is tried."""
        self.join()
        return self.record

    def stop(self) -> Record:
        """Begin no other chunk; the record, once the one that is under way has ended."""
        self._stopping.set()
        return self.finish()
