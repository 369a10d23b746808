"""The conversation with a caller: what each of its packets asks for, and how we answer.

`feed` turns a read into a *turn*: a list of items in the order of the requests.  An item is either an answer that is
known at once (bytes), a run of submissions (a list of casts) or a single one for later, whose answers are due when the
spool has them on disk, or a question that only the agent can answer.  The shell writes the answers in just this order.

Valid submissions are what `SUBMISSIONS` maps to a priority; every other packet gets an ERROR packet, and the
connection stays usable.  What cannot be read at all ends the conversation: `closing` becomes True after the answer
that says so, and nothing that follows is read.

A function of bytes: no I/O, no clock; its one setting is the largest payload.  Never raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from relay.cast import Priority, Submission
from relay.protocol import admin
from relay.protocol.framing import LINE, OVERSIZE, BadFrame, Framer, Packet
from relay.protocol.packets import HEADER, REQ, RES, Kind, encode

#: longest function name and longest unique, in bytes
FUNCTION_LIMIT = 512
UNIQUE_LIMIT = 64
#: what a submission's body holds besides its payload, at most, with some bytes to spare, so that a unique that is a
#: little too long beside a full payload is still read, and refused for what it is
_ARGUMENTS_LIMIT = FUNCTION_LIMIT + UNIQUE_LIMIT + 16
#: digits of a moment in seconds that are read; more is no moment anybody means
EPOCH_DIGITS = 11
#: the greatest id that a spool can hold; a handle with a greater one must not reach SQLite, which cannot look for it
_LAST_ID = (1 << 63) - 1
_ID_DIGITS = len(str(_LAST_ID))
#: good function names remembered, so that a known one costs a look-up
_KNOWN_FUNCTIONS = 16_384


class Question(NamedTuple):
    """What the agent is asked: `kind` is GET_STATUS, GET_STATUS_UNIQUE or LINE, `about` the argument or command."""

    kind: int
    about: bytes


class Later(NamedTuple):
    """A cast that is not to be done before a moment (microseconds since the epoch)."""

    cast: Submission
    not_before: int


Item: TypeAlias = bytes | list[Submission] | Later | Question

#: (packet type) -> the priority of the cast that it submits
SUBMISSIONS: dict[int, int] = {
    Kind.SUBMIT_JOB_BG: Priority.NORMAL,
    Kind.SUBMIT_JOB_HIGH_BG: Priority.HIGH,
    Kind.SUBMIT_JOB_LOW_BG: Priority.LOW,
}
#: (packet type) -> the code that refuses it
REFUSALS: dict[int, str] = {
    Kind.SUBMIT_JOB: "foreground_not_supported",
    Kind.SUBMIT_JOB_HIGH: "foreground_not_supported",
    Kind.SUBMIT_JOB_LOW: "foreground_not_supported",
}
#: each code's one sentence
SENTENCES: dict[str, str] = {
    "bad_function": "A function is 1 to 512 bytes, each from 0x21 to 0x7e.",
    "bad_packet": "This is not the Gearman protocol; the connection is closed.",
    "disk_full": "The disk has too little free space for another cast.",
    "draining": "This relay is draining and takes no new casts.",
    "foreground_not_supported": "relay keeps casts, it runs no jobs that a caller waits for; submit in the background.",
    "payload_too_large": "The payload is over the limit.",
    "spool_error": "The cast could not be written to disk; it may be executed all the same.",
    "spool_full": "The spool has reached its limit.",
    "too_many_connections": "This relay has as many callers as it may; the connection is closed.",
    "unique_too_large": "A unique is at most 64 bytes.",
    "too_slow": "The rest of a packet did not come in time; the connection is closed.",
    "unknown_command": "relay does not know this command.",
    "unknown_option": "relay knows one option: exceptions.",
}


def refusal(code: str) -> bytes:
    """The ERROR packet for a code of SENTENCES."""
    return encode(RES, Kind.ERROR, code.encode(), SENTENCES[code].encode())


_REFUSED = {code: refusal(code) for code in SENTENCES}
_CODES = {packet: code for code, packet in _REFUSED.items()}
_LONGEST = max(map(len, _CODES))


def refused_code(answer: bytes) -> str | None:
    """The code that an answer refuses with, or None for one that refuses nothing."""
    return _CODES.get(answer) if len(answer) <= _LONGEST else None


def good_function(name: bytes) -> bool:
    """1 to 512 bytes, each printable ASCII but space: what every job server takes and no worker trips over."""
    return 0 < len(name) <= FUNCTION_LIMIT and min(name) > 0x20 and max(name) < 0x7F


def status(question: Question, known: bool, running: bool) -> bytes:
    """The answer to a GET_STATUS or GET_STATUS_UNIQUE: is the cast here, and is it in flight."""
    known_running = (b"1" if known else b"0", b"1" if running else b"0")
    if question.kind == Kind.GET_STATUS:
        return encode(RES, Kind.STATUS_RES, question.about, *known_running, b"0", b"0")
    return encode(RES, Kind.STATUS_RES_UNIQUE, question.about, *known_running, b"0", b"0", b"0")


class Answers:
    """Builds the answers to a run from what the spool said; `prefix` is a handle up to its id: `H:<host>:`."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix.decode("latin-1")
        self._digits = 0
        self._head = ""

    def _created(self, digits: int) -> str:
        """The packet JOB_CREATED up to the id, for ids of so many digits: the length stands in its header."""
        if digits != self._digits:
            head = HEADER.pack(RES, Kind.JOB_CREATED, len(self._prefix) + digits)
            self._digits, self._head = digits, head.decode("latin-1") + self._prefix
        return self._head

    def cast_id(self, handle: bytes) -> int | None:
        """The id in a handle of ours, None for another's."""
        prefix = self._prefix.encode("latin-1")
        number = handle[len(prefix) :]
        if not handle.startswith(prefix) or not number.isdigit() or len(number) > _ID_DIGITS:
            return None
        id_ = int(number)
        return id_ if id_ <= _LAST_ID else None

    def to(self, outcome: Sequence[int | str]) -> bytes:
        """The answers, joined: JOB_CREATED for an id, ERROR for a code."""
        if type(outcome) is range and outcome and len(str(outcome[0])) == len(str(outcome[-1])):
            head = self._created(len(str(outcome[0])))
            return (head + head.join(map(str, outcome))).encode("latin-1")
        return b"".join([self._answer(result) for result in outcome])

    def _answer(self, result: int | str) -> bytes:
        if isinstance(result, str):
            return _REFUSED[result]
        text = str(result)
        return (self._created(len(text)) + text).encode("latin-1")


class Conversation:
    """One caller's side of it; `max_payload` in bytes."""

    def __init__(self, max_payload: int) -> None:
        self._max_payload = max_payload
        self._framer = Framer(frozenset((REQ,)), max_payload + _ARGUMENTS_LIMIT, 0, lines=True)
        #: True when the connection is to be closed once everything before has been answered
        self.closing = False

    @property
    def midway(self) -> bool:
        """True while a packet has begun and not ended."""
        return self._framer.midway

    @property
    def expected(self) -> int:
        """The size in bytes of the packet that has begun and is kept, 0 when there is none."""
        return self._framer.expected

    def end(self) -> None:
        """Read nothing more; what has begun is forgotten."""
        self.closing = True
        self._framer.forget()

    def feed(self, data: bytes) -> list[Item]:
        """The turn that these bytes complete."""
        if self.closing:
            return []
        try:
            packets = self._framer.feed(data)
        except BadFrame as error:
            turn = self._turn(error.packets)
            if not self.closing:
                self.end()
                turn.append(_REFUSED["bad_packet"])
            return turn
        return self._turn(packets)

    def _turn(self, packets: list[Packet]) -> list[Item]:
        turn: list[Item] = []
        run: list[Submission] = []
        add, submissions, known, limit = run.append, SUBMISSIONS, _known, self._max_payload
        for kind, body in packets:
            priority = submissions.get(kind)
            if priority is not None:
                parts = body.split(b"\0", 2)
                if len(parts) == 3:
                    function, unique, payload = parts
                    if function in known and len(unique) <= UNIQUE_LIMIT and len(payload) <= limit:
                        add((function, unique, payload, priority))
                        continue
                    refused = self._check(function, unique, payload)
                    if refused is None:
                        add((function, unique, payload, priority))
                        continue
                    answer: bytes | Later | Question = refused
                else:
                    answer = _REFUSED["bad_packet"]
                    self.closing = True
            else:
                answer = self._other(kind, body)
            if run:
                turn.append(run)
                run = []
                add = run.append
            turn.append(answer)
            if self.closing:
                self.end()
                return turn
        if run:
            turn.append(run)
        return turn

    def _check(self, function: bytes, unique: bytes, payload: bytes) -> bytes | None:
        """The refusal of a submission, or None for a good one, whose function is known from now on."""
        if not good_function(function):
            return _REFUSED["bad_function"]
        if len(unique) > UNIQUE_LIMIT:
            return _REFUSED["unique_too_large"]
        if len(payload) > self._max_payload:
            return _REFUSED["payload_too_large"]
        if len(_known) >= _KNOWN_FUNCTIONS:
            _known.clear()
        _known.add(function)
        return None

    def _later(self, body: bytes) -> bytes | Later:
        """A SUBMIT_JOB_EPOCH: at normal priority, the moment in whole seconds since the epoch."""
        parts = body.split(b"\0", 3)
        if len(parts) < 4 or not parts[2].isdigit() or len(parts[2]) > EPOCH_DIGITS:
            self.closing = True
            return _REFUSED["bad_packet"]
        function, unique, epoch, payload = parts
        refused = self._check(function, unique, payload)
        return refused or Later((function, unique, payload, Priority.NORMAL), int(epoch) * 1_000_000)

    def _other(self, kind: int, body: bytes) -> bytes | Later | Question:
        """The answer to what is no plain submission, the question it asks, or a cast for later."""
        if kind == Kind.SUBMIT_JOB_EPOCH:
            return self._later(body)
        if kind == Kind.ECHO_REQ:
            return encode(RES, Kind.ECHO_RES, body)
        if kind == Kind.OPTION_REQ:
            return encode(RES, Kind.OPTION_RES, body) if body == b"exceptions" else _REFUSED["unknown_option"]
        if kind in (Kind.GET_STATUS, Kind.GET_STATUS_UNIQUE):
            return Question(kind, body)
        if kind == LINE:
            command = b" ".join(body.split()).lower()
            return Question(LINE, command) if command in admin.COMMANDS else admin.UNKNOWN
        if kind & OVERSIZE:
            return _REFUSED["payload_too_large"]
        return _REFUSED[REFUSALS.get(kind, "unknown_command")]


#: names that `good_function` found good
_known: set[bytes] = set()
