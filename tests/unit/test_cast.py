"""A cast's checksum sees what SQLite does not."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cast import COLUMNS, Arrival, Row, checksum, seed, sound

INT64 = st.integers(-(2**63), 2**63 - 1)


def row(
    id_: int,
    lane: int,
    accepted_at: int,
    not_before: int | None,
    uid: int | None,
    named: tuple[int, bytes] | None,
    payload: bytes,
) -> Row:
    """A row as it is written."""
    digest, unique = named or (None, None)
    crc = checksum(seed(lane, accepted_at, not_before, uid), id_, digest, unique, payload)
    return id_, lane, accepted_at, not_before, uid, digest, unique, crc, payload


ROWS = st.builds(
    row,
    st.integers(1, 2**62),
    st.integers(1, 2**31),
    st.integers(0, 2**53),
    st.none() | st.integers(0, 2**53),
    st.none() | st.integers(0, 2**32 - 1),
    st.none() | st.tuples(INT64, st.binary(min_size=1, max_size=64)),
    st.binary(max_size=40),
)


def flips(value: int | bytes | None) -> list[int | bytes]:
    """The value with each of its bits flipped in turn."""
    if value is None:
        return []
    raw = struct.pack("<q", value) if isinstance(value, int) else value
    out: list[int | bytes] = []
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        out.append(struct.unpack("<q", changed)[0] if isinstance(value, int) else bytes(changed))
    return out


@given(ROWS)
def test_what_was_written_is_sound(written: Row) -> None:
    """A row that nothing happened to passes, whatever it holds."""
    assert sound(written)


@pytest.mark.parametrize("column", COLUMNS)
@given(written=ROWS)
def test_every_single_bit_counts(column: str, written: Row) -> None:
    """Each single-bit flip, in each column, makes the row unsound."""
    at = COLUMNS.index(column)
    for flipped in flips(written[at]):
        if column == "id" and isinstance(flipped, int) and flipped < 0:
            continue  # never asked for: takes look at ids above 0
        changed: Row = (*written[:at], flipped, *written[at + 1 :])  # type: ignore[assignment]
        assert not sound(changed)


@pytest.mark.parametrize("column", ["not_before", "uid", "digest", "unique"])
@given(written=ROWS)
def test_a_value_that_turned_null_counts(column: str, written: Row) -> None:
    """A column that reads as NULL is noticed where there was a value."""
    at = COLUMNS.index(column)
    if written[at] is not None:
        changed: Row = (*written[:at], None, *written[at + 1 :])  # type: ignore[assignment]
        assert not sound(changed)


def test_an_arrival_says_its_size_and_not_its_payload() -> None:
    """What a log may show of an arrival: how much, from whom, no byte of it."""
    arrival = Arrival([(b"f", b"", b"secret", 1), (b"f", b"", b"", 1)], 7, lambda one: None)
    assert arrival.size == 6
    assert repr(arrival) == "<Arrival of 2 casts, 6 bytes, uid 7>"
