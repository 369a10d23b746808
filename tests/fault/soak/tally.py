"""What became of each cast of a soak, in two bytes a cast: what its caller was answered, how often it was executed.

A cast is a number, and its payload begins with it. Written from many threads.
Promises: what is acknowledged while the power is being cut is *late*, and no promise (`tests.fault.test_file_systems`).
"""

import threading

from tests.rig.workers import Execution, Ledger

ACKNOWLEDGED, REFUSED, IN_DOUBT, LATE = 1, 2, 4, 8
"""What a caller was told; more than one where it tried again. In doubt: no answer, or an error that leaves it open."""
BLOCK = 1 << 16


def number_of(payload: bytes) -> int:
    """The cast's number."""
    return int(payload.partition(b".")[0])


class Tally(Ledger):
    """The ledger of a soak's workers, and the callers' too."""

    def __init__(self) -> None:
        """No casts yet."""
        super().__init__()
        self._answers, self._done, self._tried = bytearray(), bytearray(), bytearray()
        self._next = 0
        self._guard = threading.Lock()
        self.being_cut = False
        self.acknowledged = self.finished = 0
        """How many, each cast once; what is late is not among them."""
        self.refusals: dict[str, int] = {}

    def draw(self) -> int:
        """The number of a new cast."""
        with self._guard:
            if self._next == len(self._answers):
                for column in (self._answers, self._done, self._tried):
                    column.extend(bytes(BLOCK))
            self._next += 1
            return self._next - 1

    def answered(self, number: int, answer: int, code: str = "") -> None:
        """A caller was told."""
        with self._guard:
            if answer == ACKNOWLEDGED and self.being_cut:
                answer = LATE
            self.acknowledged += answer == ACKNOWLEDGED and not self._answers[number] & ACKNOWLEDGED
            self._answers[number] |= answer
            if code:
                self.refusals[code] = self.refusals.get(code, 0) + 1

    def count_try(self, payload: bytes) -> int:
        """Which try of this cast this is; 1 is the first."""
        with self._guard:
            number = number_of(payload)
            self._tried[number] = min(255, self._tried[number] + 1)
            return self._tried[number]

    def note(self, execution: Execution) -> None:
        """A worker has done this."""
        if execution.succeeded:
            with self._guard:
                number = number_of(execution.payload)
                self.finished += not self._done[number]
                self._done[number] = min(255, self._done[number] + 1)

    def accounts(self) -> dict[str, int]:
        """What the soak came to, in casts."""
        with self._guard:
            casts = list(zip(self._answers[: self._next], self._done, strict=False))
        return {
            "casts": len(casts),
            "acknowledged": sum(bool(answer & ACKNOWLEDGED) for answer, _ in casts),
            "lost": sum(bool(answer & ACKNOWLEDGED) and not done for answer, done in casts),
            "repeated": sum(done - 1 for _, done in casts if done),
            "executed_never_acknowledged": sum(bool(done) and not answer & ACKNOWLEDGED for answer, done in casts),
            "executed_though_refused": sum(bool(done) and answer == REFUSED for answer, done in casts),
            "acknowledged_while_it_was_cut": sum(bool(answer & LATE) for answer, _ in casts),
        }

    def some_lost(self) -> list[int]:
        """The first numbers of what is lost."""
        casts = enumerate(zip(self._answers[: self._next], self._done, strict=False))
        return [number for number, (answer, done) in casts if answer & ACKNOWLEDGED and not done][:20]
