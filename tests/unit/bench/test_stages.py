"""bench.stages: a sample counts for the innermost frame that has a stage, whatever asyncio does inside or around it."""

import pytest

from bench.stages import REST, lines, parts, stage

MAIN = ["main (relay/agent/main.py:42)", "BaseEventLoop._run_once (asyncio/base_events.py:1922)"]


@pytest.mark.parametrize(
    ("frames", "its"),
    [
        (["Committer._commit (relay/spool/committer.py:9)"], "commit: BEGIN, counts, COMMIT with its fsync"),
        (["Committer._collect (relay/spool/committer.py:8)"], "the writer's queue"),
        (["take (relay/spool/taking.py:1)", "sound (relay/cast.py:7)"], "take: rows read back, checksums"),
        (
            [*MAIN, "Link.submit (relay/upstream/link.py:5)", "write (asyncio/selector_events.py:1071)"],
            "send: jobs made, written to the socket",
        ),
        ([*MAIN, "select (selectors.py:468)"], "waiting for sockets (the calls themselves)"),
        (MAIN, "the event loop, and its reads from sockets"),
        (["main (relay/agent/main.py:42)"], REST),
        (["no frame at all"], REST),
    ],
)
def test_a_sample_has_the_stage_of_its_innermost_known_frame(frames: list[str], its: str) -> None:
    """As py-spy writes them, outermost first."""
    assert stage(frames) == its


def test_parts_are_of_all_samples() -> None:
    """The largest first; a line is a stack, a blank and a count."""
    found = parts(["a (x.py:1) 1\n", "b (relay/spool/ending.py:2);execute (x.py:1) 3\n"])
    assert list(found.items()) == [("retire: SQLite deletes", 0.75), (REST, 0.25)]


def test_the_table_has_the_sum_last_and_the_rest_before_it() -> None:
    """Microseconds and part, for each kind; a stage that a kind has not is left empty."""
    found = lines({"accept": {REST: 3.0, "insert": 1.0}, "through": {"take": 8.0, "insert": 2.0}})
    assert [line[0] for line in found] == ["take", "insert", REST, "in all"]
    assert found[0] == ["take", "", "8.00 us, 80%"]
    assert found[-1] == ["in all", "4.00 us", "10.0 us"]
