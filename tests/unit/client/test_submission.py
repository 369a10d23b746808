"""A cast's packet: what the agent reads is what was meant, and what cannot be meant is refused before it is sent."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.client.errors import BadFunction, PayloadTooLarge, UniqueTooLarge
from relay.client.submission import Cast, submission, unique_id
from relay.protocol.caller import Conversation
from relay.protocol.framing import LENGTH_LIMIT, Framer
from relay.protocol.packets import REQ, Kind, decode

NOW_NS = 1_800_000_000_250_000_000
CHANCE = bytes(range(10))


def packed(*cast: object) -> tuple[Cast, int, list[bytes]]:
    """The cast, and its packet taken apart."""
    filled, packet = submission(NOW_NS, CHANCE, *cast)  # type: ignore[arg-type]
    ((kind, body),) = Framer(frozenset([REQ]), LENGTH_LIMIT, 0).feed(packet)
    return filled, kind, decode(kind, body)


@pytest.mark.parametrize(
    ("priority", "kind"),
    [("high", Kind.SUBMIT_JOB_HIGH_BG), ("normal", Kind.SUBMIT_JOB_BG), ("low", Kind.SUBMIT_JOB_LOW_BG)],
)
def test_each_priority_is_a_background_submission_of_its_own(priority: str, kind: Kind) -> None:
    """Function, unique and payload stand in it as they were given."""
    assert packed("f", b"\0x\0", "u", priority)[1:] == (kind, [b"f", b"u", b"\0x\0"])


def test_str_and_bytes_name_the_same_cast() -> None:
    """A function or a unique given as str is its UTF-8."""
    assert packed("f", b"x", "ü")[2] == packed(b"f", b"x", "ü".encode())[2]


def test_a_unique_is_made_where_none_is_given() -> None:
    """A UUIDv7 of 32 hex digits, in the packet and in the cast, so that a second try has the same."""
    cast, _, (_, unique, _) = packed("f", b"x")
    assert cast == Cast("f", b"x", unique_id(NOW_NS, CHANCE))
    assert unique.decode() == cast.unique
    assert packed(*cast)[2][1] == unique


def test_a_uuid_of_version_7_has_its_time_version_and_variant() -> None:
    """Milliseconds first, so that later ones are greater; the bits of RFC 9562 in their places."""
    assert unique_id(0x0123456789AB * 1_000_000, b"\xff" * 10) == "0123456789ab7fffbfffffffffffffff"
    assert unique_id(0, b"\0" * 10) == "00000000000070008000000000000000"
    assert unique_id(1_000_000, b"\0" * 10) > unique_id(999_999, b"\xff" * 10)


@pytest.mark.parametrize(
    ("delay", "due"),
    [(1, 1_800_000_002), (0.75, 1_800_000_001), (0.76, 1_800_000_002), (1e-9, 1_800_000_001), (3600, 1_800_003_601)],
)
def test_a_delay_becomes_the_first_second_that_is_not_too_early(delay: float, due: int) -> None:
    """SUBMIT_JOB_EPOCH with the Unix second, rounded up: never before what was asked for, never a second later."""
    assert packed("f", b"\0x", "u", "normal", delay)[1:] == (
        Kind.SUBMIT_JOB_EPOCH,
        [b"f", b"u", b"%d" % due, b"\0x"],
    )


@pytest.mark.parametrize("delay", [-1, -0.001, math.inf, math.nan])
def test_a_delay_that_is_no_time_ahead_is_a_value_error(delay: float) -> None:
    """Negative, infinite and not a number."""
    with pytest.raises(ValueError, match="delay"):
        packed("f", b"x", "u", "normal", delay)


@pytest.mark.parametrize("priority", ["high", "low"])
def test_a_delay_goes_with_normal_priority_only(priority: str) -> None:
    """The protocol has one packet for both."""
    with pytest.raises(ValueError, match="normal"):
        packed("f", b"x", "u", priority, 1)


@pytest.mark.parametrize("cast", [("f", "text"), ("f", None), ("f", b"x", 5), (None, b"x"), (5, b"x"), ("f",), ()])
def test_what_has_another_type_is_a_type_error(cast: tuple[object, ...]) -> None:
    """A payload that is no bytes; a function or unique that is neither str nor bytes; something missing."""
    with pytest.raises(TypeError):
        packed(*cast)


@pytest.mark.parametrize("cast", [("f", b"x", ""), ("f", b"x", "a\0b"), ("f", b"x", "u", "urgent")])
def test_what_no_cast_has_is_a_value_error(cast: tuple[object, ...]) -> None:
    """An empty unique, one that would shift the payload, a priority that is none."""
    with pytest.raises(ValueError, match=r"unique|priority"):
        packed(*cast)


@pytest.mark.parametrize("function", ["", "a b", "a\0b", b"a\nb", "fü", "f" * 513, "\udcff", b"\x7f"])
def test_a_bad_function_is_rejected_before_it_is_sent(function: str | bytes) -> None:
    """With the agent's code and sentence; a NUL in it would make a cast of another function."""
    with pytest.raises(BadFunction) as raised:
        packed(function, b"x")
    assert raised.value.code == "bad_function"
    assert raised.value.casts[0].function == function


def test_limits() -> None:
    """What is just within a limit is packed, what is just over is rejected with the agent's code."""
    packed("f" * 512, b"", "u" * 64)
    with pytest.raises(UniqueTooLarge):
        packed("f", b"", "u" * 65)
    most = LENGTH_LIMIT - len(b"f\0u\0")
    packed("f", bytes(most), "u")
    with pytest.raises(PayloadTooLarge):
        packed("f", bytes(most + 1), "u")


@given(function=st.binary(max_size=20), payload=st.binary(max_size=50), unique=st.binary(max_size=70))
def test_what_passes_is_what_the_agent_reads(function: bytes, payload: bytes, unique: bytes) -> None:
    """For any bytes: either an error, or one submission of exactly these."""
    try:
        _, packet = submission(NOW_NS, CHANCE, function, payload, unique)
    except (BadFunction, UniqueTooLarge, ValueError):
        return
    ((cast,),) = Conversation(1000).feed(packet)
    assert tuple(cast)[:3] == (function, unique, payload)
