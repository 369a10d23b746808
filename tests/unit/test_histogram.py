"""Counts by upper bound."""

from relay.histogram import Histogram


def test_an_observation_counts_up_to_the_first_bound_that_holds_it() -> None:
    """A bound holds what equals it; what is beyond the last counts in the total alone."""
    histogram = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 2, 9):
        histogram.observe(value)
    assert histogram.cumulative() == [2, 4, 5]
    assert histogram.sum == 14


def test_an_empty_one_has_its_bounds() -> None:
    """Zeros, one for each bound and one beyond."""
    assert Histogram((1, 2, 3)).cumulative() == [0, 0, 0, 0]
