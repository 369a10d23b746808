"""What one caller is owed: its answers, and what will have one, in the order of its requests.

Promises: nothing goes out before what was asked earlier; at a time WRITE_BYTES go out, and one answer at most beyond
them.  Each item stands here with what it costs as memory, which is given back with the bytes that end it.

Pure: never writes, never waits.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from relay.cast import Arrival
from relay.intake.inquiry import Inquiry
from relay.protocol.caller import Answers
from relay.protocol.framing import LINE

#: bytes of answers after which it is looked at whether the caller reads them; a longer one goes out in parts, because
#: the transport would copy what the caller does not take
WRITE_BYTES = 256 * 1024

#: an answer, the rest of a long one, or what will have one
Owed: TypeAlias = bytes | memoryview | Arrival | Inquiry
#: the answers to text commands: each looks at every lane there is, so one is made for all that stand in a row
Said: TypeAlias = dict[bytes, bytes | None]


class Owing:
    """See the module."""

    def __init__(self, answers: Answers) -> None:
        """`answers` spells what the spool said of an arrival."""
        self._answers = answers
        self._owed: deque[tuple[Owed, int]] = deque()

    def __bool__(self) -> bool:
        """True while anything is owed."""
        return bool(self._owed)

    def add(self, item: Owed, cost: int) -> None:
        """Owe this behind all that is owed."""
        self._owed.append((item, cost))

    def next(self, said: Said) -> tuple[bytes, int]:
        """(what is to be written next, what it gives back); no bytes where the first has no answer yet."""
        owed = self._owed
        out: list[bytes | memoryview] = []
        size = cost = 0
        while owed and size < WRITE_BYTES:
            answer = self._answer_to(owed[0][0], said)
            if answer is None:
                break
            if len(answer) > WRITE_BYTES:
                answer = self._divide(answer)
            out.append(answer)
            size += len(answer)
            cost += owed.popleft()[1]
        return b"".join(out), cost

    def forget(self) -> dict[Arrival | Inquiry, int]:
        """Owe nothing more; what the spool has not answered for, with what it costs until it is."""
        waiting = {item: cost for item, cost in self._owed if isinstance(item, Arrival | Inquiry) and not item.answered}
        self._owed.clear()
        return waiting

    def _answer_to(self, first: Owed, said: Said) -> bytes | memoryview | None:
        if isinstance(first, bytes | memoryview):
            return first
        if isinstance(first, Inquiry):
            if first.question.kind != LINE:
                return first.answer
            command = first.question.about
            if command not in said:
                said[command] = first.answer
            return said[command]
        return self._answers.to(first.outcome) if first.answered else None

    def _divide(self, answer: bytes | memoryview) -> memoryview:
        """The first part of a long answer, put before the rest of it."""
        view = memoryview(answer)
        cost = self._owed.popleft()[1]
        first = min(cost, WRITE_BYTES)
        self._owed.appendleft((view[WRITE_BYTES:], cost - first))
        self._owed.appendleft((view[:WRITE_BYTES], first))
        return view[:WRITE_BYTES]
