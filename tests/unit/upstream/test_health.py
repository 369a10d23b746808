"""The health of an upstream, pair by pair, and when it may be tried."""

from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.upstream.health import RECONNECT, TABLE, Condition, Event, Health

#: the table by hand, a second time: state -> where opened, lost, left, grace, pause and resume lead
DRAWN = {
    "healthy": ("healthy", "throttled", "throttled", "throttled", "paused", "healthy"),
    "throttled": ("healthy", "throttled", "throttled", "throttled", "paused", "throttled"),
    "paused": ("paused", "paused", "paused", "paused", "paused", "throttled"),
}


@pytest.mark.parametrize(("state", "event"), list(product(Health, Event)), ids=lambda one: one.value)
def test_every_pair_leads_where_it_is_drawn(state: Health, event: Event) -> None:
    """Each state knows each event."""
    condition = Condition()
    condition.state = state
    condition.happened(event, 10.0, Random(1), "why")
    assert condition.state is TABLE[state, event] is Health(DRAWN[state.value][list(Event).index(event)])


def test_an_untried_server_may_be_tried_at_once() -> None:
    """At the start nothing is known, so nothing is waited for."""
    assert Condition().may_be_tried(0.0)


@given(st.integers(1, 30), st.floats(0, 1e6), st.integers())
def test_a_lost_server_is_tried_again_within_its_cap(losses: int, now: float, seed: int) -> None:
    """After n losses in a row the wait is at most the n-th cap, never more than the longest; then it may be tried."""
    condition, rng = Condition(), Random(seed)
    for number in range(1, losses + 1):
        condition.happened(Event.LOST, now, rng, f"loss {number}")
        assert now <= condition.retry_at <= now + RECONNECT.cap(number) <= now + RECONNECT.most
    assert condition.may_be_tried(condition.retry_at)
    assert condition.retry_at == now or not condition.may_be_tried(now)
    assert condition.last_error == f"loss {losses}"


def test_a_server_that_opened_may_be_used() -> None:
    """However long it was away and would have been left alone: its error is over, and it may be used."""
    condition = Condition()
    for _ in range(9):
        condition.happened(Event.LOST, 100.0, Random(1), "refused")
    condition.happened(Event.OPENED, 1.0, Random(1))
    assert condition.last_error == ""
    assert condition.may_be_tried(1.0)


def test_a_paused_server_is_not_tried_until_it_is_resumed() -> None:
    """Whatever happens and however long it takes: the operator's word holds, and the resume is due at once."""
    condition = Condition()
    condition.happened(Event.PAUSE, 0.0, Random(1))
    for event in (Event.OPENED, Event.LOST, Event.PAUSE):
        condition.happened(event, 5.0, Random(1), "x")
        assert not condition.may_be_tried(1e9)
    condition.happened(Event.RESUME, 50.0, Random(1))
    assert condition.may_be_tried(50.0)


def test_only_work_makes_losses_forgotten() -> None:
    """A link that opens and is lost again is no better than one that does not open; one that proved itself is."""
    condition = Condition()
    for _ in range(5):
        condition.happened(Event.OPENED, 0.0, Random(1))
        condition.happened(Event.LOST, 0.0, Random(1), "reset")
    assert condition.losses == 5
    condition.happened(Event.OPENED, 1.0, Random(1))
    condition.proved()
    condition.happened(Event.LOST, 2.0, Random(1), "reset")
    assert condition.losses == 1
    assert condition.retry_at <= 2.0 + RECONNECT.cap(1)


def test_a_link_that_was_ended_on_purpose_is_no_loss() -> None:
    """It may be tried again at once, and its losses are what they were."""
    condition = Condition()
    condition.happened(Event.LOST, 1.9, Random(1), "reset")
    assert not condition.may_be_tried(1.91)
    condition.happened(Event.OPENED, 1.91, Random(1))
    condition.proved()
    condition.happened(Event.LEFT, 1.91, Random(1))
    assert condition.may_be_tried(1.91)
    assert (condition.losses, condition.flaps, condition.last_error) == (0, 0, "")


def test_a_server_that_asks_for_grace_says_so() -> None:
    """Its error is shown while the link lives, and it is well again when a new connection is taken."""
    condition = Condition()
    condition.happened(Event.OPENED, 1.0, Random(1))
    condition.happened(Event.GRACE, 2.0, Random(1), "asks for grace")
    assert (condition.state, condition.last_error) == (Health.THROTTLED, "asks for grace")
    condition.happened(Event.OPENED, 3.0, Random(1))
    assert (condition.state, condition.last_error) == (Health.HEALTHY, "")
