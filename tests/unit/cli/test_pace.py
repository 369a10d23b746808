"""Rates and estimates."""

import pytest

from relay.cli.pace import LONGEST_S, WINDOW_S, Pace


def test_a_rate_needs_a_while() -> None:
    """One look, or two in no time, make none."""
    pace = Pace()
    assert (pace.rate, pace.seconds_for(1)) == (None, None)
    pace.look(0.0, 100)
    pace.look(0.5, 50)
    assert pace.rate is None


def test_the_estimate_is_what_is_left_at_the_rate_there_is() -> None:
    """100 in 2 s, then 100 left: 2 s more."""
    pace = Pace()
    pace.look(0.0, 200)
    pace.look(2.0, 100)
    assert (pace.rate, pace.seconds_for(100)) == (50.0, 2.0)


def test_only_the_last_seconds_count() -> None:
    """What went fast long ago does not make the slow rest look quick."""
    pace = Pace()
    pace.look(0.0, 1_000_000)
    for second in range(1, 100):
        pace.look(float(second), 1000 - second)
    assert pace.rate == pytest.approx(1.0)
    assert len(pace._seen) <= WINDOW_S + 1


@pytest.mark.parametrize("left", [(10, 10), (10, 20)])
def test_what_does_not_go_down_has_no_end(left: tuple[int, int]) -> None:
    """A rate of 0, and no estimate."""
    pace = Pace()
    pace.look(0.0, left[0])
    pace.look(5.0, left[1])
    assert (pace.rate, pace.seconds_for(left[1])) == (0.0, None)


def test_an_estimate_of_years_is_none() -> None:
    """Beyond LONGEST_S nobody knows."""
    pace = Pace()
    pace.look(0.0, int(LONGEST_S) + 100)
    pace.look(5.0, int(LONGEST_S) + 99)
    assert pace.rate == pytest.approx(0.2)
    assert pace.seconds_for(int(LONGEST_S)) is None
