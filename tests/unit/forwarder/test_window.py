"""What may be in flight for one function, and for an upstream in all."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.forwarder.window import (
    OPENING,
    OPENING_S,
    STALL_S,
    START,
    START_BYTES,
    TRIES,
    TRYING_PART,
    FunctionWindow,
    Side,
    UpstreamWindow,
)
from tests.unit.forwarder.flying import LIMITS


def moving(casts: int = 0, size: int = 0) -> FunctionWindow:
    """A window that has seen a cast done, with these in flight."""
    window = FunctionWindow()
    window.sent(1, 1, 0.0)
    window.completed(1, 1, 0.0, LIMITS)
    if casts:
        window.sent(casts, size, 0.0)
    return window


def test_a_function_starts_with_a_few() -> None:
    """START casts, as long as none of them is done, and no more, however many it had before it stalled."""
    window = FunctionWindow()
    assert window.room(LIMITS) == START
    window.sent(START, START, 0.0)
    assert window.room(LIMITS) == 0
    big = moving(40, 40)
    assert big.check(STALL_S)
    assert big.room(LIMITS) == 0


def test_it_grows_by_one_with_each_that_is_done() -> None:
    """After a window's worth of completions it is twice as wide, and never wider than function_window."""
    window = FunctionWindow()
    for expected in (16, 32, 50, 50):
        casts = window.room(LIMITS)
        window.sent(casts, casts, 0.0)
        window.completed(casts, casts, 0.0, LIMITS)
        assert window.limit == expected
    assert window.room(LIMITS) == LIMITS.function_window


def test_it_shrinks_to_one_while_all_verdicts_are_failures() -> None:
    """START failures in a row halve it with each further one, down to one; a completion lets it grow again."""
    window = moving()
    seen = []
    for _ in range(START + 6):
        window.sent(1, 1, 0.0)
        window.failed(1, 0.0)
        seen.append(window.limit)
    assert seen[: START - 1] == [START + 1] * (START - 1)
    assert seen[START - 1] == (START + 1) // 2
    assert seen[-1] == 1
    window.sent(1, 1, 0.0)
    window.completed(1, 1, 0.0, LIMITS)
    assert (window.limit, window.failures) == (2, 0)


@given(st.integers(0, 1 << 40))
def test_one_cast_always_fits(size: int) -> None:
    """With nothing in flight there is room for one, whatever its size; it may fill the window by itself."""
    for window in (FunctionWindow(), moving()):
        assert window.room(LIMITS) >= 1
        window.sent(1, size, 0.0)
        assert (window.room(LIMITS) > 0) == (
            size < (LIMITS.function_window_bytes if window.moving else min(START_BYTES, LIMITS.function_window_bytes))
        )


def test_silence_stalls_and_a_verdict_ends_it() -> None:
    """STALL_S without a verdict while something is in flight; told once; any verdict, a failure too, ends it."""
    window = moving(2, 2)
    assert not window.check(STALL_S / 2)
    assert window.check(STALL_S)
    assert not window.check(STALL_S)
    assert not window.moving
    window.failed(1, STALL_S)
    assert window.moving
    assert not window.check(2 * STALL_S - 0.1)
    assert window.check(2 * STALL_S)


def test_nothing_in_flight_is_no_stall() -> None:
    """An idle function is not stalled, and its time begins with the next cast it sends."""
    window = moving()
    assert not window.check(1e9)
    window.sent(1, 1, 1e9)
    assert not window.check(1e9 + STALL_S / 2)
    assert window.check(1e9 + STALL_S)


def wide_open() -> UpstreamWindow:
    """The window of a link that has been there for long."""
    window = UpstreamWindow()
    window.open(0.0)
    for second in range(1, 30):
        window.tick(second * OPENING_S)
    return window


def test_a_new_links_window_opens_slowly() -> None:
    """A few casts at first, twice as many with each second, at last all; and anew after a loss."""
    window = UpstreamWindow()
    limits = replace(LIMITS, window=10 * OPENING)
    window.open(0.0)
    assert window.room(moving(), limits) == OPENING
    assert not window.tick(OPENING_S / 2)
    assert window.tick(OPENING_S)
    assert window.room(moving(), limits) == 2 * OPENING
    assert window.room(FunctionWindow(), limits) == 2 * OPENING // TRYING_PART
    for second in range(2, 6):
        window.tick(second * OPENING_S)
    assert window.room(moving(), limits) == limits.window
    window.reset()
    assert window.room(moving(), limits) == OPENING


def test_the_moving_share_the_upstreams_window() -> None:
    """In casts and in bytes; one cast fits while no moving function has any in flight."""
    upstream = wide_open()
    window = moving()
    assert upstream.room(window, LIMITS) == LIMITS.window
    upstream.add(Side.MOVING, 99, 99)
    assert upstream.room(window, LIMITS) == 1
    upstream.add(Side.MOVING, 1, 1)
    assert upstream.room(window, LIMITS) == 0
    upstream.reset()
    upstream.add(Side.MOVING, 1, LIMITS.window_bytes)
    assert upstream.room(window, LIMITS) == 0


def test_what_stalled_functions_have_in_flight_takes_nothing_from_the_moving() -> None:
    """However much that is, the window of the moving is whole."""
    upstream = wide_open()
    upstream.add(Side.STALLED, 10_000, TRIES * LIMITS.window_bytes)
    assert upstream.room(moving(), LIMITS) == LIMITS.window


def test_functions_that_try_have_a_part_of_the_window() -> None:
    """What they have in flight is not the moving ones' to send, and where those fill the window they have no room."""
    upstream, part = wide_open(), LIMITS.window // TRYING_PART
    assert upstream.room(FunctionWindow(), LIMITS) == part
    upstream.add(Side.TRYING, part, part)
    assert upstream.room(FunctionWindow(), LIMITS) == 0
    assert upstream.room(moving(), LIMITS) == LIMITS.window - part
    upstream.add(Side.MOVING, LIMITS.window - part, 0)
    upstream.add(Side.TRYING, -1, -1)
    assert upstream.room(FunctionWindow(), LIMITS) == 1
    upstream.add(Side.MOVING, 1, 1)
    assert upstream.room(FunctionWindow(), LIMITS) == 0


def test_each_function_may_find_out_with_one_cast() -> None:
    """With the allowance used up, a function with nothing in flight has room for one, one that tries has none."""
    upstream = wide_open()
    upstream.add(Side.STALLED, LIMITS.window, LIMITS.window_bytes)
    trying = FunctionWindow()
    assert upstream.room(trying, LIMITS) == 1
    trying.sent(1, 1, 0.0)
    assert upstream.room(trying, LIMITS) == 0
    upstream.add(Side.STALLED, 1, TRIES * LIMITS.window_bytes)
    assert upstream.room(FunctionWindow(), LIMITS) == 0


@pytest.mark.parametrize("window", [1, 5, 100])
def test_a_small_upstream_bounds_every_function(window: int) -> None:
    """function_window beyond window is no licence."""
    limits = replace(LIMITS, window=window)
    assert wide_open().room(moving(), limits) == window


def test_a_function_that_changes_sides_takes_its_casts_along() -> None:
    """What is in flight is counted on one side only, wherever the function stands."""
    upstream, window = wide_open(), moving(3, 30)
    upstream.add(Side.MOVING, 3, 30)
    window.check(STALL_S)
    upstream.move(window, Side.MOVING)
    assert (upstream.moving, upstream.moving_bytes, upstream.stalled, upstream.still_bytes) == (0, 0, 3, 30)
    upstream.move(window, Side.STALLED)
    assert (upstream.casts, upstream.stalled, upstream.still_bytes) == (3, 3, 30)


def test_idleness_ends_what_was_proven() -> None:
    """A function that answered long ago is not taken to move: it has to find out anew, with the few of a start."""
    window = moving()
    window.heard_at = 10.0
    assert not window.lapse(10.0 + STALL_S - 0.1)
    assert window.moving
    assert window.lapse(10.0 + STALL_S)
    assert (window.moving, window.limit) == (False, START)
    busy = moving(casts=1)
    busy.heard_at = 10.0
    assert not busy.lapse(100.0)
