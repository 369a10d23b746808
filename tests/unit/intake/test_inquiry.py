"""What callers may ask: answered from a fake spool and a fake forwarder, that say what a test gives them to say."""

from collections.abc import Callable

import pytest

from relay.cast import LaneName
from relay.facts import Facts, LaneFacts
from relay.intake.inquiry import Desk, Inquiry
from relay.protocol import admin
from relay.protocol.caller import Answers, Question
from relay.protocol.framing import LINE
from relay.protocol.packets import RES, Kind, encode
from relay.spool.changes import Counts


class FakeSpool:
    """Casts by id and by unique; it answers when `look` is called."""

    def __init__(self) -> None:
        self.ids = {7, 8}
        self.uniques = {b"u": 8}
        self.counts: dict[LaneName, Counts] = {}
        self.looks: list[Callable[[], None]] = []

    def find(self, id_: int, found: Callable[[int | None], None]) -> None:
        self.looks.append(lambda: found(id_ if id_ in self.ids else None))

    def find_unique(self, unique: bytes, found: Callable[[int | None], None]) -> None:
        self.looks.append(lambda: found(self.uniques.get(unique)))


class FakeForwarder:
    """Casts in flight, and the facts."""

    def __init__(self) -> None:
        self.flying = {8}
        self.lanes: dict[bytes, LaneFacts] = {}

    def facts(self) -> Facts:
        return Facts(lanes=self.lanes)

    def is_in_flight(self, cast_id: int) -> bool:
        return cast_id in self.flying


class Asked:
    """A desk between its fakes."""

    def __init__(self) -> None:
        self.spool = FakeSpool()
        self.forwarder = FakeForwarder()
        self.settled = 0
        self.desk = Desk(self.spool, self.forwarder, Answers(b"H:vm:"), "1.2.3")  # type: ignore[arg-type]

    def settle(self, _: Inquiry) -> None:
        """An answer has come."""
        self.settled += 1

    def ask(self, kind: int, about: bytes) -> Inquiry:
        """Put a question."""
        return self.desk.ask(Question(kind, about), self.settle)


@pytest.mark.parametrize(
    ("handle", "known", "running"),
    [
        (b"H:vm:7", b"1", b"0"),
        (b"H:vm:8", b"1", b"1"),
        (b"H:vm:9", b"0", b"0"),
        (b"H:other:7", b"0", b"0"),
        (b"H:vm:", b"0", b"0"),
        (b"", b"0", b"0"),
        (b"H:vm:7x", b"0", b"0"),
    ],
)
def test_a_handle_is_known_while_its_cast_is_here(handle: bytes, known: bytes, running: bytes) -> None:
    """GET_STATUS: here or not, in flight or not, with the handle as it was asked; another's handle is not known."""
    asked = Asked()
    inquiry = asked.ask(Kind.GET_STATUS, handle)
    assert inquiry.answer is None
    asked.spool.looks[0]()
    assert inquiry.answer == encode(RES, Kind.STATUS_RES, handle, known, running, b"0", b"0")
    assert asked.settled == 1


@pytest.mark.parametrize(("unique", "known", "running"), [(b"u", b"1", b"1"), (b"v", b"0", b"0"), (b"", b"0", b"0")])
def test_a_unique_is_known_while_its_cast_is_here(unique: bytes, known: bytes, running: bytes) -> None:
    """GET_STATUS_UNIQUE: the same by unique, with the count of clients that gearmand sends, 0."""
    asked = Asked()
    inquiry = asked.ask(Kind.GET_STATUS_UNIQUE, unique)
    asked.spool.looks[0]()
    assert inquiry.answer == encode(RES, Kind.STATUS_RES_UNIQUE, unique, known, running, b"0", b"0", b"0")


def counts(**values: int) -> Counts:
    """The counts of a lane."""
    made = Counts()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_text_commands_tell_what_waits_by_function() -> None:
    """status sums priorities and shows flights and workers; prioritystatus tells them apart; dead and done are out."""
    asked = Asked()
    asked.spool.counts = {
        LaneName(1, b"f", 1): counts(accepted=10, completed=2, deferred=3, dead=1, held=1),
        LaneName(2, b"f", 0): counts(accepted=5),
        LaneName(3, b"f", 2): counts(accepted=1),
        LaneName(4, b"all.done", 1): counts(accepted=4, completed=3, dead=1),
        LaneName(5, b"g", 1): counts(accepted=1),
    }
    asked.forwarder.lanes = {b"f": LaneFacts(4, False, "", 6), b"g": LaneFacts(0, True, "why", None)}
    assert asked.desk.text(b"status") == b"f\t13\t4\t6\ng\t1\t0\t0\n.\n"
    assert asked.desk.text(b"prioritystatus") == b"f\t5\t7\t1\t6\ng\t0\t1\t0\t0\n.\n"
    assert asked.desk.text(b"workers") == b".\n"
    assert asked.desk.text(b"version") == b"OK 1.2.3\n"


def test_an_empty_spool_has_nothing_to_tell() -> None:
    """No function, just the dot."""
    asked = Asked()
    assert {command: asked.desk.text(command) for command in (b"status", b"prioritystatus")} == {
        b"status": b".\n",
        b"prioritystatus": b".\n",
    }


def test_a_text_command_is_answered_when_its_turn_has_come() -> None:
    """The counts are those of the moment the answer is written, not of the question; the spool is not asked."""
    asked = Asked()
    inquiry = asked.ask(LINE, b"status")
    asked.spool.counts[LaneName(1, b"f", 1)] = counts(accepted=2)
    assert inquiry.answer == b"f\t2\t0\t0\n.\n"
    assert asked.spool.looks == []
    assert asked.settled == 0


@pytest.mark.parametrize("command", sorted(admin.COMMANDS))
def test_every_command_ends_in_a_line(command: bytes) -> None:
    """Tools read lines: each answer ends one, and the lists end with a dot."""
    answer = Asked().desk.text(command)
    assert answer.endswith(b"\n")
    assert answer == b"OK 1.2.3\n" or answer.endswith(b".\n")
