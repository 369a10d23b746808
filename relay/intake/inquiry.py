"""What callers may ask beside casting: is my cast here, and the text commands of a job server.

An `Inquiry` stands among a connection's answers in the order of the requests.  One about a cast is put to the spool
when it is read, behind everything handed in before it, so that it sees those casts; a text command is answered when
its turn to be written has come, from the counts and the forwarder's facts of that moment.

Never writes, never waits, never fails: what the spool cannot read is answered as not known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from relay.cast import Priority
from relay.facts import Facts
from relay.protocol import admin
from relay.protocol.caller import Answers, Question, status
from relay.protocol.framing import LINE
from relay.protocol.packets import Kind
from relay.spool.spool import Spool


class InFlight(Protocol):
    """What is asked of whoever forwards."""

    def facts(self) -> Facts:
        """What is so at this moment."""

    def is_in_flight(self, cast_id: int) -> bool:
        """True while that cast is at an upstream."""


class Inquiry:
    """One question of one caller; `answer` is None until it is known."""

    __slots__ = ("_desk", "_settled", "_text", "question")

    def __init__(self, question: Question, desk: Desk, settled: Callable[[Inquiry], None]) -> None:
        self.question = question
        self._desk = desk
        self._settled = settled
        self._text: bytes | None = None

    @property
    def answered(self) -> bool:
        """True when nothing is waited for."""
        return self._text is not None or self.question.kind == LINE

    @property
    def answer(self) -> bytes | None:
        """The answer's bytes, once they are known."""
        if self.question.kind == LINE:
            return self._desk.text(self.question.about)
        return self._text

    def found(self, cast_id: int | None) -> None:
        """The spool has looked."""
        running = cast_id is not None and self._desk.forwarder.is_in_flight(cast_id)
        self._text = status(self.question, cast_id is not None, running)
        self._settled(self)


class Desk:
    """Answers questions for all connections of an intake."""

    def __init__(self, spool: Spool, forwarder: InFlight, answers: Answers, version: str) -> None:
        self._spool = spool
        self.forwarder = forwarder
        self._answers = answers
        self._version = version

    def ask(self, question: Question, settled: Callable[[Inquiry], None]) -> Inquiry:
        """Put a question; `settled` is called with it if its answer comes later."""
        inquiry = Inquiry(question, self, settled)
        if question.kind == Kind.GET_STATUS:
            # 0 is no cast's id: a handle of another server is known to nobody here
            self._spool.find(self._answers.cast_id(question.about) or 0, inquiry.found)
        elif question.kind == Kind.GET_STATUS_UNIQUE:
            self._spool.find_unique(question.about, inquiry.found)
        return inquiry

    def text(self, command: bytes) -> bytes:
        """The answer to a text command."""
        lanes = self.forwarder.facts().lanes
        waiting: dict[bytes, list[int]] = {}
        for name, counts in self._spool.counts.items():
            waiting.setdefault(name.function, [0] * len(Priority))[name.priority] = (
                counts.ready + counts.deferred + counts.held
            )
        lines = []
        for function, (high, normal, low) in waiting.items():
            known = lanes.get(function)
            if high or normal or low or known is not None:
                in_flight, workers = (known.in_flight, known.workers or 0) if known is not None else (0, 0)
                lines.append(admin.FunctionLine(function, high, normal, low, in_flight, workers))
        return admin.answer(command, lines, self._version)
