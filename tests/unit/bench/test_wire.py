"""bench.wire: good answers are counted once, whatever the reads cut, and requests of a run are of one size."""

import struct

import pytest

from bench.load import build
from bench.wire import REQUESTS, Answers, Confirms


def ack(tag: int, *, multiple: bool = False) -> bytes:
    return b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50" + struct.pack(">Q?", tag, multiple) + b"\xce"


@pytest.mark.parametrize("cut", range(1, 64))
def test_a_mark_cut_in_two_is_counted_once(cut: int) -> None:
    """Three marks are three, wherever the stream is cut."""
    answers = Answers(b"INSERTED")
    stream = b"INSERTED 1\r\n" * 3
    for start in range(0, len(stream), cut):
        answers.feed(stream[start : start + cut])
    assert answers.count == 3


@pytest.mark.parametrize("cut", range(1, 64))
def test_confirms_of_one_and_of_many_are_counted_by_their_numbers(cut: int) -> None:
    """What a multiple confirm covers is counted once, also where some of it was confirmed before."""
    confirms = Confirms()
    stream = ack(2) + ack(5) + ack(3, multiple=True) + ack(7) + ack(4)
    for start in range(0, len(stream), cut):
        confirms.feed(stream[start : start + cut])
    assert confirms.count == 6


@pytest.mark.parametrize("kind", sorted(REQUESTS))
def test_requests_of_a_run_are_of_one_size(kind: str) -> None:
    """Whatever the caller and the number; else sending would not be a slice of one buffer."""
    data, size = build(REQUESTS[kind], 300, 100, 100)
    assert len(data) == 300 * size
