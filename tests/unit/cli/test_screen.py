"""What top shows: rates from two looks, an order, and never more than fits."""

from typing import Any
from unicodedata import combining, east_asian_width

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli import screen
from relay.cli.screen import SORTS, Look
from relay.control import answers
from relay.facts import Facts, Problem, UpstreamFacts
from relay.spool.changes import Counts


def function(name: str, **numbers: Any) -> dict[str, Any]:
    """What the agent tells of a function."""
    fields = ("backlog", "in_flight", "held", "dead", "bytes", "accepted", "completed", "failures")
    return {
        "function": name,
        **dict.fromkeys(fields, 0),
        "workers": None,
        "stalled": False,
        "last_error": "",
        **numbers,
    }


def look(at: float, *functions: dict[str, Any], accepted: int = 0, upstreams: int = 1, problems: int = 0) -> Look:
    """A look at that moment."""
    counts = Counts()
    counts.accepted = accepted
    facts = Facts(tuple(UpstreamFacts(f"10.0.0.{n}:4730", "healthy", 1, "") for n in range(upstreams)))
    status = answers.status(
        "running",
        counts,
        facts,
        draining=False,
        accepting=True,
        oldest_seconds=12.0,
        spool_bytes=5 << 20,
        problems=[Problem(f"code{n}", "text " * 40, 1.0) for n in range(problems)],
        version="1.2",
    )
    return Look(at, status, functions)


def test_rates_are_the_difference_of_two_looks() -> None:
    """Over the time between them; a function that is new counts from 0; one look alone has none."""
    before = look(10.0, function("f", accepted=100, completed=50))
    now = look(12.0, function("f", accepted=300, completed=60), function("g", failures=4))
    by_name = {row["function"]: row for row in screen.rows(before, now, "function", "")}
    assert (by_name["f"]["accepted_rate"], by_name["f"]["completed_rate"]) == (100.0, 5.0)
    assert by_name["g"]["failures_rate"] == 2.0
    assert screen.rows(None, now, "accepted", "")[0]["accepted_rate"] is None


def test_counts_that_begin_anew_are_no_negative_rate() -> None:
    """Another spool at the same socket."""
    (row,) = screen.rows(look(1.0, function("f", accepted=9)), look(2.0, function("f", accepted=2)), "backlog", "")
    assert row["accepted_rate"] == 0.0


@pytest.mark.parametrize(
    ("sort", "order"), [("backlog", "bac"), ("dead", "cab"), ("function", "abc"), ("accepted", "abc")]
)
def test_each_key_sorts_largest_first(sort: str, order: str) -> None:
    """Equal ones by name, and names from a to z."""
    now = look(1.0, function("b", backlog=9), function("c", dead=3), function("a", backlog=1))
    assert "".join([row["function"] for row in screen.rows(None, now, sort, "")]) == order


def test_a_filter_is_a_glob() -> None:
    """Others are not shown, and how many there are is said."""
    now = look(1.0, function("mail.send"), function("mail.sort"), function("bill"))
    lines = screen.screen(None, now, "backlog", "mail.*", (80, 24), "")
    assert "2 of 3 functions, by backlog, mail.*" in lines
    assert not [line for line in lines if line.startswith("bill")]


def columns(line: str) -> int:
    """What a terminal needs for it: marks stand on the letter before them, and some letters are twice as wide."""
    return sum(not combining(char) for char in line) + sum(east_asian_width(char) in "WF" for char in line)


@given(
    width=st.integers(1, 200),
    height=st.integers(1, 60),
    functions=st.lists(st.text(min_size=1, max_size=300), max_size=40, unique=True),
    upstreams=st.integers(0, 6),
    problems=st.integers(0, 6),
)
def test_it_fits_whatever_the_terminal(
    width: int, height: int, functions: list[str], upstreams: int, problems: int
) -> None:
    """As many lines as the terminal has, none too wide, none with a control character; the note is the last."""
    now = look(1.0, *[function(name) for name in functions], upstreams=upstreams, problems=problems)
    lines = screen.screen(None, now, "backlog", "", (width, height), "a note\x1b[2J")
    assert len(lines) == height
    assert all(columns(line) <= width and line.isprintable() for line in lines)
    assert lines[-1] == "a note?[2J"[:width]


def test_eighty_by_twenty_four_holds_it_all() -> None:
    """Three upstreams, three problems and functions under their headings, big numbers included."""
    big = function("exchange/topic.with-a-long-name/compute-0017.example.org", backlog=12_345_678, accepted=10**10)
    lines = screen.screen(look(0.0), look(0.1, big, upstreams=5, problems=4), "backlog", "", (80, 24), "note")
    heading = next(line for line in lines if line.startswith("FUNCTION"))
    row = lines[lines.index(heading) + 1]
    assert (len(heading), len(row)) == (80, 80)
    assert row.split()[1:4] == ["12.3M", "0", "-"]
    assert "and 2 more upstreams" in lines


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.04, "0.0"),
        (99.94, "99.9"),
        (100.4, "100"),
        (999_999, "999,999"),
        (1e6, "1.0M"),
        (5e9, "5.0G"),
    ],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    """At most seven characters."""
    assert screen.number(value) == text


def test_no_two_keys_are_one() -> None:
    """Each sort has a letter of its own, none that means something else."""
    letters = [letter for letter, _ in SORTS.values()]
    assert len({*letters, "q", "/"}) == len(letters) + 2


def test_the_keys_fit_the_smallest_terminal() -> None:
    """The line of keys names each way to sort, and the last of them is on a terminal of 80 columns too."""
    assert len(screen.KEYS) < 80
    assert all(f" {key} " in screen.KEYS for key, _ in SORTS.values())
