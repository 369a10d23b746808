"""A caller's conversation against a model of it: a list of requests, each with the one answer that it must get.

Requests go onto a wire, and the wire is read in pieces of any size, as a socket gives them.  At each moment the answers
so far are those of the requests whose last byte was read, in their order.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.protocol import admin
from relay.protocol.caller import FUNCTION_LIMIT, UNIQUE_LIMIT, Conversation, Later, Question, refusal
from relay.protocol.framing import LENGTH_LIMIT, LINE, LINE_LIMIT
from relay.protocol.packets import HEADER, REQ, RES, Kind, encode
from tests.stateful.examples import examples
from tests.unit.spool.writing import cast

MAX_PAYLOAD = 200

PRIORITIES = {Kind.SUBMIT_JOB_BG: 1, Kind.SUBMIT_JOB_HIGH_BG: 0, Kind.SUBMIT_JOB_LOW_BG: 2}
GOOD_NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=10).map(str.encode)
BAD_NAMES = st.sampled_from([b"", b"a b", b"\x7f", b"\xff", b"f" * (FUNCTION_LIMIT + 1)])
UNIQUES = st.binary(max_size=UNIQUE_LIMIT).map(lambda raw: raw.replace(b"\0", b"-"))
PAYLOADS = st.binary(max_size=30) | st.just(b"x" * MAX_PAYLOAD)
COMMANDS = st.sampled_from(sorted(admin.COMMANDS))
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b" \n"])


class ConversationMachine(RuleBasedStateMachine):
    """See the module."""

    @initialize()
    def begin(self) -> None:
        """A caller connects."""
        self.conversation = Conversation(MAX_PAYLOAD)
        self.wire = b""
        #: (bytes on the wire up to its end, its answer)
        self.expected: list[tuple[int, object]] = []
        self.sent = 0
        self.read = 0
        self.got: list[object] = []
        #: where a request begins that cannot be read, None while there is none
        self.broken: int | None = None

    def ask(self, request: bytes, answer: object) -> None:
        """Put a request on the wire."""
        self.wire += request
        self.sent += len(request)
        if self.broken is None:
            self.expected.append((self.sent, answer))

    # -- requests ----------------------------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(list(PRIORITIES)), function=GOOD_NAMES, unique=UNIQUES, payload=PAYLOADS)
    def submit(self, kind: Kind, function: bytes, unique: bytes, payload: bytes) -> None:
        """A good submission is a cast, byte for byte."""
        expected = cast(function, payload, unique, PRIORITIES[kind])
        self.ask(encode(REQ, kind, function, unique, payload), expected)

    @rule(function=GOOD_NAMES, unique=UNIQUES, payload=PAYLOADS, seconds=st.integers(0, 10**11 - 1))
    def submit_for_later(self, function: bytes, unique: bytes, payload: bytes, seconds: int) -> None:
        """A submission with a moment is a cast for then."""
        request = encode(REQ, Kind.SUBMIT_JOB_EPOCH, function, unique, b"%d" % seconds, payload)
        self.ask(request, Later(cast(function, payload, unique), seconds * 1_000_000))

    @rule(kind=st.sampled_from(list(PRIORITIES)), function=BAD_NAMES, payload=PAYLOADS)
    def submit_to_nobody(self, kind: Kind, function: bytes, payload: bytes) -> None:
        """A function that no server would take is refused."""
        self.ask(encode(REQ, kind, function, b"", payload), refusal("bad_function"))

    @rule(function=GOOD_NAMES, beyond=st.integers(1, 3 * FUNCTION_LIMIT))
    def submit_too_much(self, function: bytes, beyond: int) -> None:
        """A payload over the limit is refused, whether it is read or skipped."""
        request = encode(REQ, Kind.SUBMIT_JOB_BG, function, b"u", b"x" * (MAX_PAYLOAD + beyond))
        self.ask(request, refusal("payload_too_large"))

    @rule(function=GOOD_NAMES, payload=PAYLOADS)
    def submit_with_a_long_unique(self, function: bytes, payload: bytes) -> None:
        """A unique over the limit is refused."""
        request = encode(REQ, Kind.SUBMIT_JOB_BG, function, b"u" * (UNIQUE_LIMIT + 1), payload)
        self.ask(request, refusal("unique_too_large"))

    @rule(kind=st.sampled_from([Kind.SUBMIT_JOB, Kind.SUBMIT_JOB_HIGH, Kind.SUBMIT_JOB_LOW]), function=GOOD_NAMES)
    def submit_in_the_foreground(self, kind: Kind, function: bytes) -> None:
        """Nobody waits for a job here."""
        self.ask(encode(REQ, kind, function, b"", b""), refusal("foreground_not_supported"))

    @rule(body=st.binary(max_size=40))
    def echo(self, body: bytes) -> None:
        """An echo comes back."""
        self.ask(encode(REQ, Kind.ECHO_REQ, body), encode(RES, Kind.ECHO_RES, body))

    @rule(option=st.sampled_from([b"exceptions", b"", b"Exceptions", b"other"]))
    def option(self, option: bytes) -> None:
        """One option is known."""
        known = option == b"exceptions"
        answer = encode(RES, Kind.OPTION_RES, option) if known else refusal("unknown_option")
        self.ask(encode(REQ, Kind.OPTION_REQ, option), answer)

    @rule(kind=st.sampled_from([Kind.GET_STATUS, Kind.GET_STATUS_UNIQUE]), about=st.binary(max_size=20))
    def question(self, kind: Kind, about: bytes) -> None:
        """A question is passed on."""
        self.ask(encode(REQ, kind, about), Question(kind, about))

    @rule(command=COMMANDS, end=LINE_ENDS)
    def text(self, command: bytes, end: bytes) -> None:
        """So is a text command."""
        self.ask(command + end, Question(LINE, command))

    @rule(line=st.sampled_from([b"", b"?", b"GET / HTTP/1.1", b"x" * 500]), end=LINE_ENDS)
    def other_text(self, line: bytes, end: bytes) -> None:
        """Any other line gets a line."""
        self.ask(line + end, admin.UNKNOWN)

    @rule(kind=st.sampled_from([0, 1, 9, 19, 77, 0x10063, 0x4000, 2**32 - 1]), body=st.binary(max_size=20))
    def unknown(self, kind: int, body: bytes) -> None:
        """A type of packet that is none of a caller's is refused."""
        self.ask(HEADER.pack(REQ, kind, len(body)) + body, refusal("unknown_command"))

    @precondition(lambda self: self.broken is None and self.sent > 200)
    @rule(
        garbage=st.sampled_from(
            [
                b"\0BAD" + b"?" * 20,
                encode(RES, Kind.ECHO_RES, b"the wrong way"),
                HEADER.pack(REQ, Kind.ECHO_REQ, LENGTH_LIMIT + 1),
                b"x" * LINE_LIMIT,
                encode(REQ, Kind.SUBMIT_JOB_BG, b"f"),
                encode(REQ, Kind.SUBMIT_JOB_EPOCH, b"f", b"u", b"soon", b"x"),
            ]
        )
    )
    def garbage(self, garbage: bytes) -> None:
        """What cannot be read is the last that is answered."""
        begin = self.sent
        self.ask(garbage, refusal("bad_packet"))
        self.broken = begin

    # -- reading -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.wire)
    @rule(size=st.integers(1, 60) | st.just(1 << 20))
    def read_on(self, size: int) -> None:
        """The next bytes of the wire, however many a read gives."""
        data, self.wire = self.wire[:size], self.wire[size:]
        self.read += len(data)
        for item in self.conversation.feed(data):
            self.got += item if isinstance(item, list) else [item]

    @invariant()
    def every_request_has_its_answer_in_its_place(self) -> None:
        """The answers are those of the requests that were read whole; garbage may be known before its end."""
        due = [answer for end, answer in self.expected if end <= self.read]
        early = self.broken is not None and self.broken < self.read and len(self.got) == len(self.expected)
        assert self.got == ([answer for _, answer in self.expected] if early else due)

    @invariant()
    def it_closes_just_after_garbage(self) -> None:
        """`closing` stands exactly when bad_packet was said."""
        assert self.conversation.closing == (self.broken is not None and len(self.got) == len(self.expected))

    @invariant()
    def it_knows_when_it_is_in_a_packet(self) -> None:
        """`midway` is True just while a request has begun and not ended."""
        if self.broken is None:
            ends = [0, *(end for end, _ in self.expected)]
            assert self.conversation.midway == (self.read not in ends)


TestConversation = ConversationMachine.TestCase
TestConversation.settings = examples(150, 50)
