"""The claims of the fuzzing in their short form: the corpus, and bytes drawn by hypothesis."""

import tracemalloc
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from relay.protocol import caller, upstream
from relay.protocol.framing import Framer
from tests.rig import packets as rig_packets
from tests.stateful.examples import examples

from .claims import CLAIMS
from .corpus import PACKETS, STREAMS

MIB = 1 << 20
inputs = st.binary(max_size=600) | st.lists(st.sampled_from(sorted(STREAMS.values())), max_size=8).map(b"".join)
lists = st.lists(
    st.tuples(
        st.sampled_from(sorted({kind for kind, _ in PACKETS.values()})), st.sampled_from((b"", b"H:0", b"H:1\0x"))
    ),
    max_size=20,
).map(lambda found: b"".join(bytes((kind, len(body))) + body for kind, body in found))


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("stream", STREAMS)
def test_the_corpus(claim: str, stream: str) -> None:
    """Each stream of the corpus, cut in each way."""
    for how in range(128):
        CLAIMS[claim](bytes([how << 1]) + STREAMS[stream])


@pytest.mark.parametrize("claim", CLAIMS)
@hypothesis.given(data=inputs, how=st.integers(0, 127))
@examples(500, 1)
def test_any_bytes(claim: str, data: bytes, how: int) -> None:
    """Bytes by chance, and streams of the corpus behind one another."""
    CLAIMS[claim](bytes([how << 1]) + data)


@pytest.mark.parametrize("claim", CLAIMS)
@hypothesis.given(data=lists | st.binary(max_size=200), how=st.integers(0, 127))
@examples(500, 1)
def test_any_packets(claim: str, data: bytes, how: int) -> None:
    """Packets that are well framed, in any order, with anything in them."""
    CLAIMS[claim](bytes([how << 1 | 1]) + data)


def test_the_corpus_has_each_packet() -> None:
    """No type of the protocol is missing, as far as the rig knows them."""
    known = {value for name, value in vars(rig_packets).items() if name.isupper() and isinstance(value, int)}
    known -= {rig_packets.HEADER, rig_packets.READ_SIZE}
    assert known <= {kind for kind, _ in PACKETS.values()}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_parser_that_forgets_a_byte_is_caught(claim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claims can fail: what a read left over is cut short by one byte."""
    begin = Framer._begin

    def forgetful(self: Framer, *arguments: Any) -> None:
        begin(self, *arguments)
        self._rest = self._rest[:-1]

    monkeypatch.setattr(Framer, "_begin", forgetful)
    kind = b"\0REQ" if claim == "caller" else b"\0RES"
    stream = kind + (16).to_bytes(4, "big") + (4).to_bytes(4, "big") + b"echo"
    if claim == "upstream":
        stream = kind + (20).to_bytes(4, "big") + (3).to_bytes(4, "big") + b"H:0"
    with pytest.raises(AssertionError):
        CLAIMS[claim](bytes(1) + stream + STREAMS["res_noop"])


@pytest.mark.parametrize(
    ("side", "stream"),
    [
        ("caller", b"\0REQ" + (18).to_bytes(4, "big") + (15 * MIB).to_bytes(4, "big") + bytes(4 * MIB)),
        ("caller", b"\0REQ" + (18).to_bytes(4, "big") + (60 * MIB).to_bytes(4, "big") + bytes(4 * MIB)),
        ("caller", b"x" * 4000),
        ("upstream", b"\0RES" + (13).to_bytes(4, "big") + (60 * MIB).to_bytes(4, "big") + bytes(4 * MIB)),
    ],
    ids=["half a payload", "half of one over the limit", "half a line", "half a result"],
)
def test_memory_is_within_twice_the_input(side: str, stream: bytes) -> None:
    """What a half-sent packet costs at its most, by the allocator, whatever length its header announces."""
    conversation = caller.Conversation(16 * MIB) if side == "caller" else upstream.Conversation[int]()
    reads = [stream[at : at + 65536] for at in range(0, len(stream), 65536)]
    tracemalloc.start()
    try:
        for read in reads:
            conversation.feed(read)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most <= 2 * len(stream) + 65536
