"""A cast's age goes by the clock that never steps, whatever the wall clock does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ageing import STEP_S, STEPS, Ageing, Limit, Step, moved, read, written

HOUR = 3600 * 10**6
YEARS = 10 * 365 * 24 * HOUR
START = 1_700_000_000 * 10**6


class Host:
    """Two clocks, and casts accepted as time goes by."""

    def __init__(self) -> None:
        self.wall, self.now, self.next_id = START, 100.0, 1000
        self.ageing = Ageing((), self.wall, self.now, self.next_id)
        #: (id, since as it is stored, when its lifetime really began)
        self.casts: list[tuple[int, int, float]] = []

    def passes(self, seconds: float, step: int = 0) -> bool:
        """Time goes by, and the wall clock steps (us)."""
        self.now += seconds
        self.wall += round(seconds * 1e6) + step
        return self.ageing.look(self.wall, self.now, self.next_id)

    def accept(self) -> int:
        """A cast is accepted now."""
        self.casts.append((self.next_id, self.wall, self.now))
        self.next_id += 1
        return self.next_id - 1

    def expired(self, lifetime_s: float) -> list[int]:
        """The casts that are too old."""
        limit = self.ageing.limit(lifetime_s, self.wall)
        assert limit is not None
        return [id_ for id_, since, _ in self.casts if limit.reached(id_, since)]


@pytest.mark.parametrize("step", [-HOUR, YEARS, -YEARS, HOUR])
def test_a_step_expires_nothing_and_keeps_nothing(step: int) -> None:
    """Accepted 20 s before a step and just after it: each has its 60 s, by the clock that does not step."""
    host = Host()
    old = host.accept()
    host.passes(20)
    assert host.passes(0.1, step)
    new = host.accept()
    assert host.expired(60) == []
    host.passes(39.8)
    assert host.expired(60) == []
    host.passes(0.2)
    assert host.expired(60) == [old]
    host.passes(21)
    assert host.expired(60) == [old, new]


@pytest.mark.parametrize("step", [-HOUR, YEARS])
def test_what_was_accepted_while_the_step_went_unseen_is_as_old_as_the_step(step: int) -> None:
    """Between two looks nobody knows on which side of the step a cast is: it begins to age with it."""
    host = Host()
    before = host.accept()
    host.wall += step
    after = host.accept()
    assert host.passes(0.1)
    assert host.expired(60) == []
    host.passes(61)
    assert host.expired(60) == [before, after]


def test_a_clock_that_is_slewed_has_not_stepped() -> None:
    """Less than STEP_S between two looks is no step."""
    host = Host()
    assert not host.passes(1.0, round(STEP_S * 1e6) - 1)
    assert not host.passes(1.0, 1 - round(STEP_S * 1e6))
    assert host.ageing.steps == ()


@pytest.mark.parametrize(
    ("moment", "as_moved"),
    [
        (START - 1, START - 1 + HOUR),  # its moment was past
        (START + 1, START + HOUR),  # it came with the step
        (START + HOUR + 1, START + HOUR + 1),  # it is still to come
    ],
)
def test_a_callers_moment_is_moved_only_if_it_is_past(moment: int, as_moved: int) -> None:
    """What the caller named is by the wall clock, and comes when that says so; from then on it ages."""
    assert moved(5, moment, (Step(10, 12, START, START + HOUR),)) == as_moved
    assert moved(12, moment, (Step(10, 12, START, START + HOUR),)) == moment


def test_for_ever_is_no_limit() -> None:
    """Without a lifetime nothing is asked of any cast."""
    assert Host().ageing.limit(0.0, START) is None


def test_the_steps_are_bounded_and_survive_being_written() -> None:
    """The last STEPS are kept, and come back as they were; a text that is none of ours is no steps."""
    host = Host()
    for _ in range(STEPS + 3):
        host.passes(1.0, HOUR)
    assert len(host.ageing.steps) == STEPS
    assert read(written(host.ageing.steps)) == host.ageing.steps
    assert read(None) == read("nonsense") == read("[[1]]") == ()


@given(st.lists(st.tuples(st.sampled_from([0, 0, 0, HOUR, -HOUR, YEARS, -YEARS]), st.floats(0.1, 30)), max_size=STEPS))
def test_whatever_the_steps_nothing_expires_early_or_late(moves: list[tuple[int, float]]) -> None:
    """After any steps, a cast is too old exactly when its 60 s have passed by the clock that does not step."""
    host = Host()
    for step, seconds in moves:
        host.accept()
        host.passes(0.2)
        host.passes(seconds, step)
    expired = set(host.expired(60))
    for id_, _, began in host.casts:
        age = host.now - began
        if age > 60.01:
            assert id_ in expired
        elif age < 59.99:
            assert id_ not in expired


def test_a_limit_is_reached_at_its_moment() -> None:
    """Not a microsecond before."""
    assert Limit(START, ()).reached(1, START)
    assert not Limit(START, ()).reached(1, START + 1)
