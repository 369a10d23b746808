"""The table of packets, the encoder and the decoder, against gear's."""

import gear
import pytest
from gear import constants
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.packets import ARGUMENTS, HEADER, REQ, RES, Kind, ProtocolError, decode, encode

GEARS = {name: number for name, number in vars(constants).items() if name.isupper() and isinstance(number, int)}
PLAIN = st.binary(max_size=40).map(lambda raw: raw.replace(b"\0", b""))


@pytest.mark.parametrize("name", sorted(GEARS))
def test_a_type_has_the_number_that_gear_gives_it(name: str) -> None:
    """Every name that gear knows is known to relay, under the same number."""
    assert Kind[name] == GEARS[name]


def test_the_magics_are_gears() -> None:
    """Requests and responses begin as gear's do."""
    assert (REQ, RES) == (constants.REQ, constants.RES)


def test_no_number_has_two_names() -> None:
    """A packet's number names one type: no entry of the table is an alias."""
    assert len(Kind.__members__) == len(set(Kind))


@given(st.sampled_from([REQ, RES]), st.sampled_from(sorted(Kind)), st.lists(st.binary(max_size=60), max_size=6))
def test_encode_writes_what_gear_writes(magic: bytes, kind: Kind, arguments: list[bytes]) -> None:
    """For any magic, type and arguments the bytes on the wire are those of gear."""
    packet = gear.Packet(magic, int(kind), b"\0".join(arguments))
    assert encode(magic, kind, *arguments) == packet.toBinary()


@given(st.sampled_from(sorted(ARGUMENTS)), st.data())
def test_decode_gives_back_what_encode_was_given(kind: int, data: st.DataObject) -> None:
    """Arguments survive the wire; the last one may hold NULs."""
    arguments = data.draw(st.tuples(*[PLAIN] * (ARGUMENTS[kind] - 1), st.binary(max_size=60)))
    assert decode(kind, encode(REQ, kind, *arguments)[HEADER.size :]) == list(arguments)


@pytest.mark.parametrize("kind", [kind for kind, count in ARGUMENTS.items() if count > 1])
def test_missing_arguments_are_refused(kind: int) -> None:
    """A body with one argument fewer than its type has is a ProtocolError that names the type."""
    with pytest.raises(ProtocolError, match=Kind(kind).name):
        decode(kind, b"\0".join([b"x"] * (ARGUMENTS[kind] - 1)))
