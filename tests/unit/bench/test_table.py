"""The bench's figures: medians and ratios are of rounds, and a row without a figure says why."""

import pytest

from bench.table import COSTS, Cost, Line, Spread, cells, cost_cells, layout, number, ratios, spread
from bench.wire import REQUESTS
from bench.worker import whole


def line(figures: dict[int, float], reference: dict[int, float], note: str = "") -> Line:
    return Line("accept", "casts/s", "relay", figures, reference, note)


def test_spread_is_median_least_and_most() -> None:
    """The spread of some figures is their median between the least and the most."""
    assert spread([3.0, 1.0, 2.0, 10.0]) == Spread(2.5, 1.0, 10.0)
    assert spread([]) is None


def test_ratios_are_taken_within_a_round() -> None:
    """Only figures of one round are divided by each other, and a round that one of them lacks gives none."""
    assert ratios({1: 50.0, 2: 10.0, 4: 7.0}, {1: 100.0, 2: 10.0, 3: 1.0}) == {1: 0.5, 2: 1.0}


def test_the_median_ratio_outlives_a_slow_round() -> None:
    """A round in which the whole machine was slow does not move the ratio, though it moves the medians."""
    shown = cells(line({1: 100.0, 2: 1.0, 3: 104.0}, {1: 200.0, 2: 2.0, 3: 208.0}))
    assert shown[3:] == ["100", "1.00 .. 104", "0.50", "0.50 .. 0.50"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (271_598.4, "272,000"),
        (1_234.0, "1,230"),
        (999.6, "1,000"),
        (143.2, "143"),
        (43.21, "43.2"),
        (0.5, "0.50"),
        (0.00412, "0.0041"),
        (0, "0.00"),
    ],
)
def test_numbers_show_three_figures(value: float, text: str) -> None:
    """A figure is shown with three figures that mean something, not with what chance added."""
    assert number(value) == text


def test_the_reference_has_the_ratio_one() -> None:
    """The first of a row is what the others are divided by."""
    figures = {1: 5.0}
    assert cells(line(figures, figures))[5:] == ["1", ""]


def test_a_peer_that_is_not_installed_is_a_row_saying_so() -> None:
    """Without figures a line shows its note, and those measured beside it have no ratio."""
    assert cells(line({}, {}, "not installed: redis-server"))[3:] == ["not installed: redis-server", "", "", ""]
    assert cells(line({1: 5.0}, {}))[3:] == ["5.00", "5.00 .. 5.00", "-", ""]


def test_layout_aligns_its_columns() -> None:
    """Every line starts its columns where the head does, and none ends in blanks."""
    text = layout([line({1: 271_598.0}, {1: 5.0}), line({1: 5.0}, {1: 5.0})]).splitlines()
    columns = {row.index("casts/s") for row in text[2:]}
    assert columns == {text[0].index("what")}
    assert all(row == row.rstrip() for row in text)


def test_answers_cut_in_two_are_counted_once() -> None:
    """However the reads cut the stream, each good answer is counted exactly once and an ERROR never."""
    good, bad = b"\0RES\0\0\0\x08\0\0\0\x05H:a:1", b"\0RES\0\0\0\x13\0\0\0\x05c\0txt"
    data = (good + bad + good) * 3
    for size in range(1, len(data) + 1):
        answers = REQUESTS["relay"].answers()
        for at in range(0, len(data), size):
            answers.feed(data[at : at + size])
        assert answers.count == 6


def test_the_worker_takes_whole_packets_only() -> None:
    """Wherever a read ends, what the worker takes from it ends with a packet."""
    packet = b"\0RES\0\0\0\x0b\0\0\0\x0bH:a:1\0f\0pay"
    data = packet * 3
    for size in range(len(data) + 1):
        assert whole(data[:size]) == size // len(packet) * len(packet)


def test_costs_are_medians_beside_what_the_answer_is_worth() -> None:
    """Each cost is the median of its rounds."""
    found = {name: {1: 3.0, 2: 1.0, 3: 2.0} for name in COSTS}
    cells = cost_cells(Cost("accept", "relay", "fsync", found))
    assert cells == ["accept", "relay", "2.00", "2.00", "2.00", "fsync"]
