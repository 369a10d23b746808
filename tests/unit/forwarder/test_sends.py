"""Casts that are out more than once: one verdict, and none forgotten."""

from relay.forwarder.lanes import Flight, Lane
from relay.forwarder.sends import Sends
from tests.unit.forwarder.flying import LIMITS, track_of, waiting


def doubled(*ids: int) -> tuple[Sends, list[Flight], list[Flight]]:
    """The sends, the first flights of these casts, and the second ones, which wait to be sent."""
    lane, sends = Lane(b"f", LIMITS), Sends()
    first = [Flight(waiting(id_), track_of(lane), 1, 1, True) for id_ in ids]
    sends.double(first, [lane])
    return sends, first, list(track_of(lane).again)


def test_a_cast_is_doubled_once_in_the_order_of_ids() -> None:
    """Whatever the order in which they are found; asked again nothing happens; other lanes are left alone."""
    lane, other, sends = Lane(b"f", LIMITS), Lane(b"g", LIMITS), Sends()
    flights = [Flight(waiting(id_), track_of(lane), 0, 0, False) for id_ in (7, 5)]
    strange = Flight(waiting(6), track_of(other), 0, 0, False)
    for _ in range(2):
        sends.double([*flights, strange], [lane])
    assert [flight.cast[0] for flight in track_of(lane).again] == [5, 7]
    assert not track_of(other).again
    assert len(sends) == 2


def test_the_first_verdict_counts_and_ends_the_others() -> None:
    """The other send is over: its verdict changes nothing, and it counts as a possible repeat."""
    sends, (first,), (second,) = doubled(5)
    assert sends.settle(second)
    assert (second.doubts, first.over) == (1, True)
    assert not sends.settle(first)
    assert not sends.lost(first)
    assert len(sends) == 0


def test_one_that_waits_to_be_sent_and_is_over_is_not_sent() -> None:
    """The server without workers got one after all, before the other send went out."""
    sends, (first, _), (second, third) = doubled(5, 6)
    assert sends.settle(first)
    assert second.over
    assert track_of(first.track.lane).pull(5) == [third]


def test_a_send_that_is_lost_while_another_is_out_is_forgotten() -> None:
    """The cast is not in doubt by it; it is with the last one."""
    for order in ([0, 1], [1, 0]):
        sends, (first,), (second,) = doubled(5)
        pair = [first, second]
        assert not sends.lost(pair[order[0]])
        assert pair[order[1]].doubts == 1
        assert sends.lost(pair[order[1]])
        assert len(sends) == 0


def test_what_is_left_alone_may_be_doubled_again() -> None:
    """A link that was lost took the second send: there may be a third."""
    sends, (first,), (second,) = doubled(5)
    sends.lost(second)
    sends.double([first], [first.track.lane])
    assert len(first.track.again) == 2


def test_a_doubled_cast_keeps_its_history() -> None:
    """Attempts, failures and where it was taken from."""
    _, (first,), (second,) = doubled(5)
    assert (second.attempts, second.failures, second.deferred) == (first.attempts, first.failures, first.deferred)
