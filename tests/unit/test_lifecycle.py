"""The life of a cast, walked through pair by pair."""

from itertools import product

import pytest

from relay.lifecycle import TABLE, Event, NotInTheTable, State, after

ON_DISK = {State.READY, State.DEFERRED, State.HELD, State.DEAD}
ENDS = {State.RETIRED, State.PURGED}
LIVING = sorted(ON_DISK | {State.IN_FLIGHT}, key=lambda one: one.value)

# The table as the design draws it, a second time and by hand: a slip in one of the two shows.
DRAWN = {
    "nowhere": "accept ready, accept for later deferred",
    "ready": "take in_flight, done retired, found damaged dead, cannot be read deferred, expired dead, hold held,"
    " bury dead",
    "deferred": "take in_flight, done retired, found damaged dead, cannot be read deferred, expired dead, hold held,"
    " bury dead",
    "held": "done retired, release ready, released before its time deferred, bury dead, moved away purged",
    "in_flight": "done retired, in doubt ready, failed deferred, attempts used up dead, refused for good dead,"
    " expired dead",
    "dead": "done retired, revive ready, released before its time deferred, purge purged",
}


def drawn(state: State, event: Event) -> State | None:
    """Where the drawing says that this event leads."""
    for move in DRAWN.get(state.value, "").split(", "):
        what, _, where = move.rpartition(" ")
        if what == event.value:
            return State(where)
    return None


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)), ids=lambda one: one.value)
def test_every_pair_is_in_the_table_or_refused(state: State, event: Event) -> None:
    """Each of the pairs leads where the drawing says, and those it does not show raise, naming both."""
    expected = drawn(state, event)
    if expected is None:
        with pytest.raises(NotInTheTable, match=f"{state.value}.*{event.value}"):
            after(state, event)
    else:
        assert after(state, event) is expected


def test_a_state_in_flight_needs_no_repair() -> None:
    """In flight is entered by a take alone, from what stands on disk: a crash leaves a cast where it was taken from."""
    into = {(state, event) for (state, event), target in TABLE.items() if target is State.IN_FLIGHT}
    assert into == {(State.READY, Event.TAKE), (State.DEFERRED, Event.TAKE)}


def reachable(start: State) -> set[State]:
    """Every state that some chain of events leads to from `start`."""
    found, new = {start}, {start}
    while new:
        new = {target for (state, _), target in TABLE.items() if state in new} - found
        found |= new
    return found


def test_every_state_is_reached() -> None:
    """No state stands in the code that no cast can be in."""
    assert reachable(State.NOWHERE) == set(State)


@pytest.mark.parametrize("state", sorted(set(State) - ENDS, key=lambda one: one.value), ids=lambda one: one.value)
def test_every_living_cast_can_be_done(state: State) -> None:
    """From wherever a cast is, there is a way to retirement: nothing is stuck by design."""
    assert State.RETIRED in reachable(state)


@pytest.mark.parametrize("state", sorted(ENDS, key=lambda one: one.value), ids=lambda one: one.value)
def test_an_end_is_an_end(state: State) -> None:
    """Nothing happens to a cast that is retired or purged."""
    assert reachable(state) == {state}


@pytest.mark.parametrize("state", LIVING, ids=lambda one: one.value)
def test_a_late_answer_retires_whatever_the_state(state: State) -> None:
    """Work that is done is never done again on purpose: done stands beside every living state."""
    assert after(state, Event.DONE) is State.RETIRED


def test_only_an_operator_ends_a_cast_that_is_not_done() -> None:
    """But for a worker's answer, the ways out are purge, of the dead, and moving what is held to another spool."""
    ways = {(state, event) for (state, event), target in TABLE.items() if target is State.PURGED}
    assert ways == {(State.DEAD, Event.PURGE), (State.HELD, Event.MOVE)}
