"""Framing: any cutting of the same bytes gives the same packets, and what waits is bounded."""

import tracemalloc
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.framing import LENGTH_LIMIT, LINE, LINE_LIMIT, OVERSIZE, BadFrame, Framer, Packet
from relay.protocol.packets import HEADER, REQ, RES, encode

WHOLE, KEEP = 24, 7
MAGICS = frozenset((REQ, RES))


def framer(*, lines: bool = False, whole: int = WHOLE, keep: int = KEEP) -> Framer:
    """A framer with limits small enough to be met by chance."""
    return Framer(MAGICS, whole, keep, lines=lines)


def fed(target: Framer, pieces: Iterable[bytes]) -> list[Packet]:
    """What a framer gives for these reads."""
    return [packet for piece in pieces for packet in target.feed(piece)]


def held(target: Framer) -> int:
    """Bytes that a framer keeps between two reads."""
    cut = len(target._cut[1]) if target._cut else 0
    pieces = HEADER.size + target._pieces.tell() if target._pieces else 0
    return len(target._rest) + pieces + cut


@st.composite
def binary_packet(draw: st.DrawFn) -> tuple[bytes, Packet]:
    """A packet on the wire, and what a framer is to make of it."""
    kind, body = draw(st.integers(0, 45)), draw(st.binary(max_size=2 * WHOLE))
    expected = (kind, body) if len(body) <= WHOLE else (kind + OVERSIZE, body[:KEEP])
    return encode(draw(st.sampled_from([REQ, RES])), kind, body), expected


@st.composite
def line(draw: st.DrawFn) -> tuple[bytes, Packet]:
    """A text line on the wire, and what a framer is to make of it."""
    text = draw(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"").strip(b"\0\r")))
    return text + draw(st.sampled_from([b"\n", b"\r\n"])), (LINE, text)


BINARY = st.lists(binary_packet(), max_size=6)
MIXED = st.lists(st.one_of(binary_packet(), line()), max_size=6)


def cuttings(raw: bytes, places: list[int]) -> list[bytes]:
    """The bytes, cut at these places (taken modulo the length)."""
    at = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    return [raw[start:stop] for start, stop in pairwise(at)]


@given(BINARY, st.lists(st.integers(0, 10_000), max_size=12))
def test_any_cutting_gives_the_same_packets(wires: list[tuple[bytes, Packet]], places: list[int]) -> None:
    """However the network cuts packets, oversize ones among them, they come out as they went in."""
    raw = b"".join(wire for wire, _ in wires)
    target = framer()
    assert fed(target, cuttings(raw, places)) == [expected for _, expected in wires]
    assert not target.midway


@given(MIXED, st.lists(st.integers(0, 10_000), max_size=12))
def test_lines_between_packets_survive_any_cutting(wires: list[tuple[bytes, Packet]], places: list[int]) -> None:
    """Text lines and packets may follow each other in any order, cut anywhere."""
    raw = b"".join(wire for wire, _ in wires)
    target = framer(lines=True)
    assert fed(target, cuttings(raw, places)) == [expected for _, expected in wires]
    assert not target.midway


@given(MIXED)
def test_byte_by_byte_is_as_good_as_whole(wires: list[tuple[bytes, Packet]]) -> None:
    """A packet appears with its last byte, neither sooner nor later."""
    target = framer(lines=True)
    for wire, expected in wires:
        assert fed(target, [wire[at : at + 1] for at in range(len(wire) - 1)]) == []
        assert target.feed(wire[-1:]) == [expected]


SAMPLES = {
    "empty body": (encode(REQ, 16), (16, b"")),
    "body": (encode(REQ, 18, b"f", b"u", b"payload"), (18, b"f\0u\0payload")),
    "longest whole body": (encode(RES, 17, b"w" * WHOLE), (17, b"w" * WHOLE)),
    "one byte too long": (encode(RES, 17, b"w" * (WHOLE + 1)), (17 + OVERSIZE, b"w" * KEEP)),
    "far too long": (encode(RES, 13, b"w" * 500), (13 + OVERSIZE, b"w" * KEEP)),
    "line": (b"status\r\n", (LINE, b"status")),
    "empty line": (b"\n", (LINE, b"")),
    "longest line": (b"x" * (LINE_LIMIT - 1) + b"\n", (LINE, b"x" * (LINE_LIMIT - 1))),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_cut_in_two_at_every_place(name: str) -> None:
    """Each kind of packet may be cut at each place, with a good packet before and behind it."""
    wire, expected = SAMPLES[name]
    other = encode(REQ, 16, b"echo")
    raw = other + wire + other
    for place in range(len(raw) + 1):
        target = framer(lines=True)
        assert fed(target, [raw[:place], raw[place:]]) == [(16, b"echo"), expected, (16, b"echo")]


@pytest.mark.parametrize("name", SAMPLES)
def test_trailing_bytes_wait_for_their_packet(name: str) -> None:
    """What follows a packet without being one yet is kept, takes nothing from it, and is completed later."""
    wire, expected = SAMPLES[name]
    for cut in range(1, len(wire)):
        target = framer(lines=True)
        assert target.feed(wire + wire[:cut]) == [expected]
        assert target.midway
        assert target.feed(wire[cut:]) == [expected]
        assert not target.midway


def test_an_empty_read_changes_nothing() -> None:
    """A read of no bytes gives no packet and breaks none, wherever it falls."""
    for wire, expected in SAMPLES.values():
        pieces = [piece for at in range(len(wire)) for piece in (b"", wire[at : at + 1], b"")]
        assert fed(framer(lines=True), pieces) == [expected]


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("after", [b"", b"\0\0\0\1\0\0\0\0more"])
def test_a_wrong_byte_of_the_magic_is_refused_where_it_stands(position: int, after: bytes) -> None:
    """The first byte that can begin no packet ends it, whether or not the header is there."""
    magic = REQ[:position] + b"\xff"
    target = framer()
    with pytest.raises(BadFrame, match="magic"):
        target.feed(magic + after)
    slow = framer()
    assert fed(slow, [magic[at : at + 1] for at in range(position)]) == []
    with pytest.raises(BadFrame, match="magic"):
        slow.feed(b"\xff")


@pytest.mark.parametrize("position", range(1, 4))
def test_a_bad_magic_is_refused_where_lines_are_allowed_too(position: int) -> None:
    """What begins with a NUL is a packet, never text, even with lines."""
    with pytest.raises(BadFrame, match="magic"):
        framer(lines=True).feed(REQ[:position] + b"\xff" + b"\n" * 12)


def test_a_magic_that_is_not_ours_to_read_is_bad() -> None:
    """A framer of requests takes no response."""
    with pytest.raises(BadFrame, match="magic"):
        Framer(frozenset((REQ,)), WHOLE, 0).feed(encode(RES, 17, b"x"))


@pytest.mark.parametrize("size", [LENGTH_LIMIT + 1, 2**31, 2**32 - 1])
def test_a_length_over_the_limit_is_refused_at_its_header(size: int) -> None:
    """Twelve bytes are enough to refuse 4 GiB: no byte of the body is waited for."""
    header = HEADER.pack(REQ, 18, size)
    target = framer()
    target.feed(header[:-1])
    with pytest.raises(BadFrame, match=str(size)):
        target.feed(header[-1:])


def test_a_length_at_the_limit_is_read() -> None:
    """64 MiB exactly is a length like any other; of its body `keep` bytes are kept."""
    target = framer()
    assert target.feed(HEADER.pack(REQ, 18, LENGTH_LIMIT)) == []
    block = b"x" * (1 << 20)
    assert fed(target, [block] * 63) == []
    assert target.feed(block) == [(18 + OVERSIZE, b"x" * KEEP)]


@given(BINARY, st.lists(st.integers(0, 10_000), max_size=8))
def test_the_error_holds_the_good_packets_of_its_read(wires: list[tuple[bytes, Packet]], places: list[int]) -> None:
    """What was complete before the garbage is not lost: it was returned, or is in `packets` of the error."""
    raw = b"".join(wire for wire, _ in wires) + b"\0BAD" + b"?" * 20
    target, seen = framer(), list[Packet]()
    with pytest.raises(BadFrame) as caught:  # noqa: PT012 - the reads before are part of the story
        for piece in cuttings(raw, places):
            seen += target.feed(piece)
    assert seen + caught.value.packets == [expected for _, expected in wires]


def test_a_line_that_never_ends_is_refused_at_4_kib() -> None:
    """LINE_LIMIT bytes without an end are no line, whole or byte by byte."""
    with pytest.raises(BadFrame, match="line"):
        framer(lines=True).feed(b"x" * LINE_LIMIT)
    slow = framer(lines=True)
    assert fed(slow, [b"x"] * (LINE_LIMIT - 1)) == []
    with pytest.raises(BadFrame, match="line"):
        slow.feed(b"x")


def test_a_line_one_byte_too_long_is_refused_with_its_end_in_sight() -> None:
    """The limit holds for a line that is there whole, too: cutting decides nothing."""
    with pytest.raises(BadFrame, match="line"):
        framer(lines=True).feed(b"x" * LINE_LIMIT + b"\n")


@pytest.mark.parametrize("read", [1, 5, 12, 13, 100])
def test_an_oversize_body_is_never_held(read: int) -> None:
    """Of a body over `whole` never more than a header, `keep` bytes and one read are in memory."""
    target, raw = framer(), encode(REQ, 18, b"x" * 5000)
    for at in range(0, len(raw), read):
        target.feed(raw[at : at + read])
        assert held(target) <= HEADER.size + KEEP + read


@given(BINARY, st.lists(st.integers(0, 10_000), max_size=30))
def test_what_waits_is_at_most_one_packet(wires: list[tuple[bytes, Packet]], places: list[int]) -> None:
    """Between two reads a framer holds less than one whole packet, whatever came before."""
    target = framer()
    for piece in cuttings(b"".join(wire for wire, _ in wires), places):
        target.feed(piece)
        assert held(target) < HEADER.size + WHOLE


def test_many_small_reads_of_one_packet_cost_its_size() -> None:
    """A large packet that comes two bytes at a time takes its own size in memory, not an object for each read."""
    target = framer(whole=1 << 20)
    raw = HEADER.pack(REQ, 18, 1 << 20) + bytes(1 << 18)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for at in range(0, len(raw), 2):
            target.feed(raw[at : at + 2])
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held(target) == len(raw)
    assert used < 2 * len(raw)


def test_a_large_packet_is_never_here_twice() -> None:
    """A body over many reads comes out as it was gathered: completing it takes no second copy of it."""
    size = 8 << 20
    target = framer(whole=size)
    raw = encode(REQ, 18, b"x" * size)
    reads = [raw[at : at + 65536] for at in range(0, len(raw), 65536)]
    tracemalloc.start()
    try:
        packets = fed(target, reads)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert packets == [(18, b"x" * size)]
    assert peak < 1.5 * size
