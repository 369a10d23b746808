"""A lane's casts in memory: which is next."""

from hypothesis import given
from hypothesis import strategies as st

from relay.forwarder.lanes import Flight, Lane
from tests.unit.forwarder.flying import LIMITS, due, lane_of, track_of, waiting


def ids(flights: list[Flight]) -> list[int]:
    """Which casts."""
    return [flight.cast[0] for flight in flights]


@given(st.lists(st.integers(1, 9), min_size=1))
def test_new_casts_go_in_the_order_of_ids(pulls: list[int]) -> None:
    """However they are pulled, fresh casts of a track go in the order they were accepted."""
    lane = lane_of(1, *range(100, 150))
    out = [id_ for casts in pulls for id_ in ids(lane.pull(casts))]
    assert out == list(range(100, 150))[: sum(pulls)]


def test_new_and_due_take_turns() -> None:
    """Neither an old backlog starves fresh casts nor the other way round; when one runs out the other goes on."""
    lane = lane_of(1, *range(10, 16))
    track_of(lane).due.extend([due(1), due(2), due(3)])
    assert ids(lane.pull(4)) in ([10, 1, 11, 2], [1, 10, 2, 11])
    assert ids(lane.pull(1) + lane.pull(1)) in ([12, 3], [3, 12])
    assert ids(lane.pull(9)) == [13, 14, 15]


def test_what_is_in_doubt_goes_first() -> None:
    """Before anything else of its track."""
    lane = lane_of(1, 10, 11)
    track = track_of(lane)
    track.due.append(due(1))
    track.again.append(Flight(waiting(5), track, 0, 0, False))
    assert ids(lane.pull(1)) == [5]
    assert sorted(ids(lane.pull(9))) == [1, 10, 11]


def test_the_higher_priority_goes_first() -> None:
    """High before normal before low, whatever came first; each in its own order."""
    lane = Lane(b"f", LIMITS)
    for number, priority in ((1, 2), (2, 0), (3, 1)):
        track_of(lane, number, priority).fresh.extend([waiting(10 * number), waiting(10 * number + 1)])
    assert ids(lane.pull(3)) == [20, 21, 30]
    assert ids(lane.pull(9)) == [31, 10, 11]
    assert lane.waiting == 0


def test_a_due_cast_keeps_its_history() -> None:
    """Attempts and failures of its fate go with it; a fresh one has none."""
    lane = lane_of(1, 10)
    track_of(lane).due.append(due(1, failures=7))
    flights = {flight.cast[0]: flight for flight in lane.pull(2)}
    assert (flights[1].attempts, flights[1].failures, flights[1].deferred) == (7, 7, True)
    assert (flights[10].attempts, flights[10].failures, flights[10].deferred) == (0, 0, False)


def test_fresh_casts_are_kept_while_there_is_room_and_nothing_on_disk() -> None:
    """What has no room is left to the disk, and from then on all that comes, so that the order holds."""
    track = track_of(Lane(b"f", LIMITS))
    assert track.offer([waiting(1), waiting(2), waiting(3)], 2) == 2
    assert (track.more, track.cursor) == (True, 2)
    assert track.offer([waiting(4)], 100) == 0
    assert [one[0] for one in track.fresh] == [1, 2]


def test_nothing_is_kept_while_a_take_is_out() -> None:
    """What the take reads and what is offered would be the same casts twice."""
    track = track_of(Lane(b"f", LIMITS))
    track.taking = True
    assert track.offer([waiting(1)], 100) == 0
    assert not track.fresh


def test_a_cast_says_who_it_is_and_not_what() -> None:
    """A flight in a log: its cast and its attempt, no payload."""
    flight = Flight((7, b"secret", b"secret", 0), track_of(Lane(b"f", LIMITS)), 2, 1, True)
    flight.doubts = 1
    assert repr(flight) == "<Flight of cast 7, attempt 4>"
