"""The conversation with a caller: each packet gets its answer, in order, and the connection stays usable."""

import gear
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cast import Priority
from relay.protocol.caller import (
    _KNOWN_FUNCTIONS,
    EPOCH_DIGITS,
    FUNCTION_LIMIT,
    SENTENCES,
    UNIQUE_LIMIT,
    Answers,
    Conversation,
    Later,
    Question,
    _known,
    good_function,
    refusal,
)
from relay.protocol.framing import LENGTH_LIMIT, LINE, LINE_LIMIT, Framer
from relay.protocol.packets import HEADER, HEADER_SIZE, REQ, RES, Kind, encode

MAX = 1000

BACKGROUND = {
    Kind.SUBMIT_JOB_BG: Priority.NORMAL,
    Kind.SUBMIT_JOB_HIGH_BG: Priority.HIGH,
    Kind.SUBMIT_JOB_LOW_BG: Priority.LOW,
}
FOREGROUND = (Kind.SUBMIT_JOB, Kind.SUBMIT_JOB_HIGH, Kind.SUBMIT_JOB_LOW)


def cast(function: bytes = b"f", unique: bytes = b"", payload: bytes = b"x", kind: int = Kind.SUBMIT_JOB_BG) -> bytes:
    """A submission on the wire."""
    return encode(REQ, kind, function, unique, payload)


def code(answer: object) -> str:
    """The code of an ERROR packet, as gear reads it."""
    assert isinstance(answer, bytes)
    magic, kind, size = HEADER.unpack_from(answer)
    assert (magic, kind, size) == (RES, Kind.ERROR, len(answer) - HEADER_SIZE)
    found: bytes = gear.Packet(magic, kind, answer[HEADER_SIZE:]).getArgument(0)
    return found.decode()


ECHO = encode(REQ, Kind.ECHO_REQ, b"still here")
ECHOED = encode(RES, Kind.ECHO_RES, b"still here")


@pytest.mark.parametrize("kind", BACKGROUND)
@pytest.mark.parametrize("unique", [b"", b"-", b"u", b"u" * UNIQUE_LIMIT])
@pytest.mark.parametrize("payload", [b"", b"x", b"\0\0with\0NULs\0", b"x" * MAX])
def test_a_background_submission_is_a_cast_of_its_priority(kind: Kind, unique: bytes, payload: bytes) -> None:
    """Each background submission becomes a cast with its priority, and its bytes as they were."""
    function = b"f" * FUNCTION_LIMIT
    turn = Conversation(MAX).feed(cast(function, unique, payload, kind))
    assert turn == [[(function, unique, payload, BACKGROUND[kind])]]


@pytest.mark.parametrize(
    ("packet", "refused"),
    [
        (cast(b""), "bad_function"),
        (cast(b"f" * (FUNCTION_LIMIT + 1)), "bad_function"),
        (cast(b"a b"), "bad_function"),
        (cast(b"a\tb"), "bad_function"),
        (cast(b"a\nb"), "bad_function"),
        (cast(b"a\x7fb"), "bad_function"),
        (cast("fü".encode()), "bad_function"),
        (cast(unique=b"u" * (UNIQUE_LIMIT + 1)), "unique_too_large"),
        (cast(b"f" * FUNCTION_LIMIT, b"u" * (UNIQUE_LIMIT + 1), b"x" * MAX), "unique_too_large"),
        (cast(payload=b"x" * (MAX + 1)), "payload_too_large"),
        (cast(payload=b"x" * (50 * MAX)), "payload_too_large"),
        *[(cast(kind=kind), "foreground_not_supported") for kind in FOREGROUND],
        (encode(REQ, Kind.CAN_DO, b"f"), "unknown_command"),
        (encode(REQ, Kind.GRAB_JOB), "unknown_command"),
        (encode(REQ, Kind.WORK_COMPLETE, b"H:x:1", b""), "unknown_command"),
        (encode(REQ, 0), "unknown_command"),
        (encode(REQ, 200, b"\0\0\0"), "unknown_command"),
        (encode(REQ, 0xFFFF), "unknown_command"),
        (encode(REQ, 1 << 16 | 99), "unknown_command"),
        (encode(REQ, 1 << 16 | Kind.SUBMIT_JOB_BG, b"f", b"", b""), "unknown_command"),
        (encode(REQ, 2**32 - 1 - 65536), "unknown_command"),
        (encode(REQ, Kind.OPTION_REQ, b""), "unknown_option"),
        (encode(REQ, Kind.OPTION_REQ, b"exception"), "unknown_option"),
        (encode(REQ, Kind.OPTION_REQ, b"Exceptions"), "unknown_option"),
        (encode(REQ, Kind.OPTION_REQ, b" exceptions"), "unknown_option"),
        (encode(REQ, Kind.OPTION_REQ, b"exceptions "), "unknown_option"),
        (encode(REQ, Kind.OPTION_REQ, b"exceptions\0"), "unknown_option"),
        (encode(REQ, Kind.OPTION_REQ, b"exceptions", b"more"), "unknown_option"),
    ],
)
def test_a_refusal_has_its_code_and_leaves_the_connection_usable(packet: bytes, refused: str) -> None:
    """What relay does not take gets an ERROR with its code; the next request is answered as if nothing had been."""
    conversation = Conversation(MAX)
    turn = conversation.feed(packet + ECHO + cast(b"next"))
    assert code(turn[0]) == refused
    assert turn[1:] == [ECHOED, [(b"next", b"", b"x", Priority.NORMAL)]]
    assert not conversation.closing


def test_the_one_option_there_is_is_known() -> None:
    """By just its name."""
    asked = encode(REQ, Kind.OPTION_REQ, b"exceptions")
    assert Conversation(MAX).feed(asked) == [encode(RES, Kind.OPTION_RES, b"exceptions")]


@pytest.mark.parametrize("packet", [cast(b"not good"), cast(unique=b"u" * 65), cast(payload=b"x" * 5000), ECHO])
def test_an_answer_does_not_depend_on_the_cutting(packet: bytes) -> None:
    """Byte by byte the answers are those of one read."""
    slow, whole = Conversation(MAX), Conversation(MAX)
    answers = [item for at in range(len(packet)) for item in slow.feed(packet[at : at + 1])]
    assert answers == whole.feed(packet) != []


@pytest.mark.parametrize("body", [b"", b"\0", b"x" * MAX, b"a\0b\0c"])
def test_an_echo_comes_back_as_it_was(body: bytes) -> None:
    """ECHO_RES holds the bytes of ECHO_REQ, NULs too."""
    assert Conversation(MAX).feed(encode(REQ, Kind.ECHO_REQ, body)) == [encode(RES, Kind.ECHO_RES, body)]


@pytest.mark.parametrize("line", [b"rubbish\n", b"\r\n", b"GET / HTTP/1.1\r\n"])
def test_an_unknown_text_line_gets_a_line_back(line: bytes) -> None:
    """Who speaks text is answered with one line of text, and may go on."""
    conversation = Conversation(MAX)
    turn = conversation.feed(line + ECHO)
    assert isinstance(turn[0], bytes)
    assert turn[0].startswith(b"ERR unknown_command ")
    assert turn[0].count(b"\n") == 1
    assert turn[0].endswith(b"\r\n")
    assert turn[1:] == [ECHOED]


@pytest.mark.parametrize("line", [b"STATUS", b" Status\t", b"status\r"])
def test_a_text_command_may_be_in_capitals(line: bytes) -> None:
    """As gearmand takes it, and with spaces around."""
    assert Conversation(MAX).feed(line + b"\n") == [Question(LINE, b"status")]


def test_answers_stand_in_the_order_of_the_requests() -> None:
    """Runs of casts and answers alternate just as their requests did, so that answers can be written in order."""
    a, b, c = (cast(name) for name in (b"a", b"b", b"c"))
    turn = Conversation(MAX).feed(a + b + ECHO + c + cast(b"") + ECHO + a)
    shape = [[one[0] for one in item] if isinstance(item, list) else item for item in turn]
    assert shape == [[b"a", b"b"], ECHOED, [b"c"], refusal("bad_function"), ECHOED, [b"a"]]


@given(st.lists(st.sampled_from([cast(b"a"), cast(b"b c"), ECHO, b"text\n"]), max_size=12), st.integers(1, 40))
def test_every_request_gets_exactly_one_answer(requests: list[bytes], read: int) -> None:
    """n requests get n answers, one each and in order, whatever a read holds."""
    expected = {
        cast(b"a"): (b"a", b"", b"x", Priority.NORMAL),
        cast(b"b c"): refusal("bad_function"),
        ECHO: ECHOED,
        b"text\n": Conversation(MAX).feed(b"text\n")[0],
    }
    conversation, raw = Conversation(MAX), b"".join(requests)
    turn = [item for at in range(0, len(raw), read) for item in conversation.feed(raw[at : at + read])]
    flat = [one for item in turn for one in (item if isinstance(item, list) else [item])]
    assert flat == [expected[request] for request in requests]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0BAD" + b"?" * 8,
        encode(RES, Kind.JOB_CREATED, b"H:x:1"),
        HEADER.pack(REQ, Kind.SUBMIT_JOB_BG, LENGTH_LIMIT + 1),
        b"x" * LINE_LIMIT,
        encode(REQ, Kind.SUBMIT_JOB_BG, b"f"),
        encode(REQ, Kind.SUBMIT_JOB_BG, b"f", b"u"),
        encode(REQ, Kind.SUBMIT_JOB_LOW_BG),
    ],
)
def test_a_bad_packet_is_said_once_and_ends_the_reading(garbage: bytes) -> None:
    """What cannot be read gets bad_packet behind the answers it came after; nothing that follows is read."""
    conversation = Conversation(MAX)
    turn = conversation.feed(cast(b"before") + garbage)
    assert turn == [[(b"before", b"", b"x", Priority.NORMAL)], refusal("bad_packet")]
    assert conversation.closing
    assert conversation.feed(cast(b"after")) == []


def test_two_bad_packets_in_one_read_get_one_answer() -> None:
    """A submission without its arguments, and behind it what is no packet at all: bad_packet is said once."""
    raw = encode(REQ, Kind.SUBMIT_JOB_BG, b"f") + b"\0XXX" + b"garbage!" * 3
    assert Conversation(MAX).feed(raw) == [refusal("bad_packet")]


def test_nothing_behind_a_bad_packet_in_its_own_read_is_taken() -> None:
    """A good cast in the same read, behind one without its arguments, is not accepted."""
    conversation = Conversation(MAX)
    assert conversation.feed(encode(REQ, Kind.SUBMIT_JOB_BG, b"f") + cast(b"after")) == [refusal("bad_packet")]


def test_what_stands_behind_a_bad_packet_is_not_kept() -> None:
    """The beginning of another packet in the same read is let go of: it is no memory, and has no deadline."""
    conversation = Conversation(MAX)
    conversation.feed(encode(REQ, Kind.SUBMIT_JOB_BG, b"f") + cast(payload=b"x" * 900)[:-1])
    assert conversation.closing
    assert (conversation.midway, conversation.expected) == (False, 0)


@pytest.mark.parametrize("moment", [b"0", b"1800000000", b"9" * EPOCH_DIGITS])
def test_a_submission_for_later_is_a_cast_of_normal_priority(moment: bytes) -> None:
    """With its moment in microseconds, up to the longest that is read."""
    packet = encode(REQ, Kind.SUBMIT_JOB_EPOCH, b"f", b"u", moment, b"x\0y")
    expected = Later((b"f", b"u", b"x\0y", Priority.NORMAL), int(moment) * 1_000_000)
    assert Conversation(MAX).feed(packet) == [expected]


@given(st.binary(max_size=600), st.integers(1, 80))
def test_no_bytes_make_it_raise(raw: bytes, read: int) -> None:
    """Whatever a caller sends, the conversation answers or closes; it never raises."""
    conversation = Conversation(MAX)
    for at in range(0, len(raw), read):
        conversation.feed(raw[at : at + read])
    closed = conversation.closing
    assert conversation.feed(ECHO) == [] if closed else True


@given(st.binary(max_size=520))
def test_a_function_is_good_if_every_byte_is(name: bytes) -> None:
    """1 to 512 bytes, each from 0x21 to 0x7e: nothing else is a function."""
    assert good_function(name) == (1 <= len(name) <= 512 and all(0x21 <= byte <= 0x7E for byte in name))


def test_a_function_is_checked_although_many_are_remembered() -> None:
    """After more good functions than are remembered a bad one is still refused, and a good one still taken."""
    conversation = Conversation(MAX)
    many = b"".join(cast(b"function-%d" % number) for number in range(20_000))
    assert sum(len(item) for item in conversation.feed(many)) == 20_000
    assert len(_known) <= _KNOWN_FUNCTIONS
    assert conversation.feed(cast(b"bad one")) == [refusal("bad_function")]
    assert conversation.feed(cast(b"function-1")) == [[(b"function-1", b"", b"x", Priority.NORMAL)]]


# -- the answers to casts ----------------------------------------------------------------------------------------------


def read_back(raw: bytes) -> list[tuple[int, bytes]]:
    """The packets in these bytes."""
    return Framer(frozenset((RES,)), 4096, 0).feed(raw)


IDS = st.integers(0, 2**63 - 1)


@given(st.lists(st.one_of(IDS, st.sampled_from(sorted(SENTENCES))), max_size=20))
def test_each_outcome_is_answered_in_its_place(outcome: list[int | str]) -> None:
    """An id becomes JOB_CREATED with its handle, a code becomes its ERROR, in order, whatever the mixture."""
    expected = [
        (Kind.JOB_CREATED, b"H:vm:%d" % one)
        if isinstance(one, int)
        else (Kind.ERROR, one.encode() + b"\0" + SENTENCES[one].encode())
        for one in outcome
    ]
    assert read_back(Answers(b"H:vm:").to(outcome)) == expected


@given(IDS, st.integers(0, 200))
def test_a_range_is_answered_like_its_ids(first: int, count: int) -> None:
    """The short path for a run of ids writes what the long one writes."""
    outcome = range(first, first + count)
    assert Answers(b"H:vm:").to(outcome) == Answers(b"H:vm:").to(list(outcome))


@pytest.mark.parametrize("digits", range(1, 19))
def test_ids_may_gain_a_digit_within_a_run(digits: int) -> None:
    """99 and 100 in one run: each packet has the length of its own handle, and so have those of the next run."""
    answers = Answers(b"H:vm:")
    turn = 10**digits
    for outcome in (range(turn - 2, turn + 2), range(turn - 1, turn), range(turn, turn + 1)):
        assert read_back(answers.to(outcome)) == [(Kind.JOB_CREATED, b"H:vm:%d" % id_) for id_ in outcome]


@given(IDS)
def test_a_handle_is_read_back(id_: int) -> None:
    """Whatever id JOB_CREATED names, its handle names the same."""
    assert Answers(b"H:vm:").cast_id(b"H:vm:%d" % id_) == id_


@pytest.mark.parametrize(
    "number",
    [b"", b"-1", b"1x", b" 1", b"%d" % 2**63, b"9" * 19, b"1" * 20, b"0" * 20, b"9" * 5000],
    ids=lambda number: repr(number[:20]),
)
def test_a_handle_that_no_spool_gives_is_nobody_s(number: bytes) -> None:
    """Also one whose id is greater than any that a database could be asked for."""
    assert Answers(b"H:vm:").cast_id(b"H:vm:" + number) is None


@pytest.mark.parametrize("refused", sorted(SENTENCES))
def test_a_refusal_is_one_sentence_that_gear_can_read(refused: str) -> None:
    """An ERROR is a code, a NUL and one sentence."""
    packet = refusal(refused)
    arguments = packet[HEADER_SIZE:].split(b"\0")
    assert arguments[0].decode() == code(packet) == refused
    assert len(arguments) == 2
    assert arguments[1].endswith(b".")
