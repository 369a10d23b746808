"""What follows from an attempt that was not done."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.forwarder.lanes import Flight, Lane
from relay.forwarder.verdicts import LOGGED_TEXT, Rule, describe, printable, set_back
from relay.upstream.backoff import Backoff
from relay.verdict import Outcome, Verdict
from tests.unit.forwarder.flying import LIMITS, track_of

WALL = 1_700_000_000_000_000
FAILED = Verdict(Outcome.DEFERRED, "work_fail", "the worker failed", counts=True)
REFUSED = Verdict(Outcome.REFUSED, "refused_by_server", "INVALID")
BACKOFF = Backoff(1.0, 900.0)


def flight(attempts: int = 0, failures: int = 0, doubts: int = 0, *, deferred: bool = False) -> Flight:
    """A cast at an upstream."""
    made = Flight((7, None, b"payload", 0), track_of(Lane(b"f", LIMITS), 3), attempts, failures, deferred)
    made.doubts = doubts
    made.began_us = WALL - 5
    return made


@given(st.integers(0, 48), st.integers())
def test_a_failure_waits_within_its_cap(failures: int, seed: int) -> None:
    """The n-th failure waits at most the n-th cap, on disk, and is counted."""
    stored = set_back(flight(failures, failures), FAILED, Rule(50, BACKOFF, False), "s:1", WALL, 0.25, Random(seed))
    assert stored.due_at is not None
    assert WALL <= stored.due_at <= WALL + BACKOFF.cap(failures + 1) * 1e6
    assert (stored.attempts, stored.failures, stored.failed) == (failures + 1, failures + 1, True)


@pytest.mark.parametrize(("failures", "dead"), [(0, False), (1, False), (2, True), (3, True)])
def test_the_last_of_max_attempts_makes_it_dead(failures: int, dead: bool) -> None:
    """With max_attempts of 3 the third failure buries, not the second."""
    stored = set_back(flight(9, failures), FAILED, Rule(3, BACKOFF, False), "s:1", WALL, 0, Random(1))
    assert (stored.due_at is None) == dead


@pytest.mark.parametrize("failures", [2, 3, 1000])
def test_nothing_is_buried_for_failures_while_draining(failures: int) -> None:
    """A drain does not decide what an operator would want to look at."""
    stored = set_back(flight(9, failures), FAILED, Rule(3, BACKOFF, True), "s:1", WALL, 0, Random(1))
    assert stored.due_at is not None


@pytest.mark.parametrize("draining", [True, False])
def test_refused_for_good_is_dead_at_once(draining: bool) -> None:
    """What no server ever takes is not tried again; it is no failure of the work."""
    stored = set_back(flight(), REFUSED, Rule(50, BACKOFF, draining), "s:1", WALL, 0, Random(1))
    assert (stored.due_at, stored.failures, stored.failed) == (None, 0, False)


def test_what_is_stored_says_where_it_was_and_what_was_said() -> None:
    """Lane, sides, doubts, reason and the attempt: its number counts the sends in doubt."""
    stored = set_back(flight(4, 2, 3, deferred=True), FAILED, Rule(50, BACKOFF, False), "s:1", WALL, 0.25, Random(1))
    assert (stored.id, stored.lane, stored.deferred, stored.doubts) == (7, 3, True, 3)
    assert (stored.reason, stored.error) == ("work_fail", "the worker failed")
    assert stored.log == ((8, WALL - 5, 250_000, "s:1", "work_fail", "the worker failed"),)


@given(st.text(max_size=400).filter(lambda text: "payload" not in text) | st.just("x\n" * 300))
def test_a_log_line_is_one_line(text: str) -> None:
    """Whatever a worker says, it cannot break the line, and is cut."""
    line = describe(flight(1, 1, 1), FAILED._replace(text=text), "s:1", 0.5, "again in 3 s", 4)
    assert line.isprintable()
    assert line.startswith("cast 7 of f: attempt 3 at s:1 came to work_fail (")
    assert line.endswith("after 0.5 s; again in 3 s; 4 more like this")
    assert "payload" not in line
    assert len(printable("a" * 1000)) == LOGGED_TEXT
