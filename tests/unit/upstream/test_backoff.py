"""Waits grow, have a cap, and are drawn after it."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.upstream.backoff import Backoff


@pytest.mark.parametrize(
    ("number", "cap"), [(0, 1), (1, 1), (2, 2), (3, 4), (9, 256), (10, 512), (11, 900), (50, 900), (5000, 900)]
)
def test_caps_double_up_to_the_longest(number: int, cap: float) -> None:
    """1 s, 2 s, 4 s ... 15 min, and no overflow after any number of failures."""
    assert Backoff(1.0, 900.0).cap(number) == cap


@given(st.floats(0.001, 100), st.floats(0.001, 1000), st.integers(0, 10_000), st.integers())
def test_a_wait_is_between_nothing_and_its_cap(initial: float, most: float, number: int, seed: int) -> None:
    """Never negative, never over the cap, never over the longest."""
    backoff = Backoff(initial, most)
    assert 0 <= backoff.wait(number, Random(seed)) <= backoff.cap(number) <= most


@pytest.mark.parametrize("number", [1, 5, 40])
def test_jitter_is_full_at_the_cap_too(number: int) -> None:
    """Hosts that failed together do not come back together: waits spread over the whole range, at the cap as before."""
    backoff, rng = Backoff(1.0, 900.0), Random(7)
    tenths = [int(10 * backoff.wait(number, rng) / backoff.cap(number)) for _ in range(2000)]
    assert all(120 < tenths.count(tenth) < 280 for tenth in range(10))


def test_chance_is_an_argument() -> None:
    """The same rng gives the same waits."""
    assert [Backoff(1, 60).wait(n, Random(3)) for n in range(5)] == [
        Backoff(1, 60).wait(n, Random(3)) for n in range(5)
    ]
