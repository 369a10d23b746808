"""What a caller is owed: in order, in bounded parts, and given back to the last byte."""

from collections.abc import Callable

from relay.cast import Arrival
from relay.intake.inquiry import Inquiry
from relay.intake.owed import WRITE_BYTES, Owing
from relay.protocol.caller import Answers, Question
from relay.protocol.framing import LINE

ANSWERS = Answers(b"H:here:")


def arrival(casts: int) -> Arrival:
    """Casts that the spool has not answered for."""
    return Arrival([(b"work", b"", b"payload", 1)] * casts, None, lambda _: None)


def answered(item: Arrival, outcome: range) -> Arrival:
    """The same once it has."""
    item.outcome, item.answered = outcome, True
    return item


class Line(Inquiry):
    """A text command; counts how often its answer is made."""

    made = 0

    def __init__(self, command: bytes, settled: Callable[[Inquiry], None] = lambda _: None) -> None:
        self.question = Question(LINE, command)
        self._settled = settled

    @property
    def answer(self) -> bytes:
        Line.made += 1
        return self.question.about + b"!\n"


def test_nothing_passes_by_what_was_asked_earlier() -> None:
    """An answer that is known waits for the one before it."""
    owing, early = Owing(ANSWERS), arrival(1)
    owing.add(b"first", 10)
    owing.add(early, 20)
    owing.add(b"last", 30)
    assert owing.next({}) == (b"first", 10)
    assert owing.next({}) == (b"", 0)
    answered(early, range(7, 8))
    assert owing.next({}) == (ANSWERS.to(range(7, 8)) + b"last", 50)
    assert not owing


def test_so_much_goes_out_at_a_time() -> None:
    """WRITE_BYTES, and the one answer that fills them."""
    owing = Owing(ANSWERS)
    for _ in range(4):
        owing.add(bytes(WRITE_BYTES // 2 + 1), 1)
    assert [len(owing.next({})[0]) for _ in range(2)] == [2 * (WRITE_BYTES // 2 + 1)] * 2


def test_a_long_answer_goes_out_in_parts_and_gives_back_what_it_cost() -> None:
    """Each part at most WRITE_BYTES; nothing of it is lost, and its whole cost comes back."""
    owing, text = Owing(ANSWERS), bytes(range(256)) * (3 * WRITE_BYTES // 256) + b"end"
    owing.add(text, len(text) + 100)
    parts, costs = [], 0
    while owing:
        part, cost = owing.next({})
        assert 0 < len(part) <= WRITE_BYTES
        parts.append(part)
        costs += cost
    assert b"".join(parts) == text
    assert costs == len(text) + 100


def test_one_answer_is_made_for_equal_commands() -> None:
    """Also where they go out at different times of the same writing."""
    owing, said, before = Owing(ANSWERS), dict[bytes, bytes | None](), Line.made
    for command in (b"status", b"status", b"workers", b"status"):
        owing.add(Line(command), 1)
    assert owing.next(said) == (b"status!\nstatus!\nworkers!\nstatus!\n", 4)
    owing.add(Line(b"status"), 1)
    assert owing.next(said)[0] == b"status!\n"
    assert Line.made - before == 2


def test_what_waits_for_the_writer_is_told_when_the_caller_goes() -> None:
    """With its cost: it is memory until it is settled.  What is answered already is not."""
    owing, waiting, known = Owing(ANSWERS), arrival(2), answered(arrival(1), range(7, 8))
    owing.add(b"text", 10)
    owing.add(known, 20)
    owing.add(waiting, 30)
    assert owing.forget() == {waiting: 30}
    assert not owing
