"""How the numbers become words: the sum that always holds, the state, and why a drain waits."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cast import LaneName
from relay.control import answers
from relay.facts import Facts, LaneFacts, Problem, UpstreamFacts
from relay.spool.changes import Counts
from relay.spool.schema import COUNTS

HEALTHY = UpstreamFacts("a:1", "healthy", 0, "")
FEW = st.integers(0, 1000)


def counts(**numbers: int) -> Counts:
    """Counts with these numbers, the others 0."""
    return Counts([numbers.get(name, 0) for name in COUNTS])


def status(of: Counts, facts: Facts, **more: Any) -> dict[str, Any]:
    """A status with what the test does not look at."""
    said: dict[str, Any] = {
        "draining": False,
        "accepting": True,
        "oldest_seconds": 0.0,
        "spool_bytes": 1,
        "problems": (),
        "version": "1",
        **more,
    }
    return answers.status("running", of, facts, **said)


@given(ready=FEW, deferred=FEW, held=FEW, dead=FEW, completed=FEW, purged=FEW, from_ready=FEW, from_deferred=FEW)
def test_accepted_is_the_sum_of_what_became_of_it(from_ready: int, from_deferred: int, **numbers: int) -> None:
    """Whatever the facts say of what is in flight, even more than there is: the sum holds, nothing is negative."""
    ready = numbers.pop("ready")
    of = counts(accepted=ready + sum(numbers.values()), **numbers)
    said = status(of, Facts(in_flight_ready=from_ready, in_flight_deferred=from_deferred))
    parts = [said[name] for name in ("ready", "deferred", "held", "in_flight", "dead", "completed", "purged")]
    assert said["accepted"] == sum(parts)
    assert min(parts) >= 0


def test_in_flight_is_taken_out_of_where_it_came_from() -> None:
    """What is in flight from ready leaves ready, from deferred leaves deferred."""
    said = status(counts(accepted=10, deferred=4), Facts(in_flight_ready=2, in_flight_deferred=1))
    assert (said["ready"], said["deferred"], said["in_flight"]) == (4, 3, 3)


def test_status_shows_upstreams_and_problems() -> None:
    """As objects, with the keys of the contract."""
    facts = Facts(upstreams=(UpstreamFacts("[::1]:4730", "throttled", 3, "gone"),))
    said = status(counts(), facts, problems=[Problem("disk", "It fails.", 5.0)])
    assert said["upstreams"] == [{"server": "[::1]:4730", "state": "throttled", "in_flight": 3, "last_error": "gone"}]
    assert said["problems"] == [{"code": "disk", "text": "It fails.", "since": 5.0}]


def test_a_total_is_the_sum_of_every_number() -> None:
    """Of no lanes it is zero; of some, number by number."""
    assert answers.total([]).values() == (0,) * len(COUNTS)
    lane = Counts(range(len(COUNTS)))
    assert answers.total([lane, lane]).values() == tuple(2 * n for n in range(len(COUNTS)))


@pytest.mark.parametrize(
    ("of", "draining", "state"),
    [
        (counts(), False, "running"),
        (counts(accepted=1), True, "draining"),
        (counts(accepted=1, deferred=1), True, "draining"),
        (counts(accepted=2, dead=1, held=1), True, "drained"),
        (counts(), True, "drained"),
    ],
)
def test_drained_is_nothing_left_but_dead_and_held(of: Counts, draining: bool, state: str) -> None:
    """The state follows from the counts and from whether it drains."""
    assert answers.state_of(of, draining) == state


def test_blockers_are_by_function_most_first() -> None:
    """Priorities of a function are one blocker; functions without a backlog are none; equal counts by name."""
    lanes = {
        LaneName(1, b"few", 1): counts(accepted=1),
        LaneName(2, b"many", 0): counts(accepted=2, deferred=1),
        LaneName(3, b"many", 2): counts(accepted=2),
        LaneName(4, b"dead", 1): counts(accepted=5, dead=4, held=1),
        LaneName(5, b"a\xff", 1): counts(accepted=1),
    }
    said = answers.drain(lanes, Facts(), True)
    assert [(b["function"], b["count"]) for b in said["blockers"]] == [("many", 4), ("a\\xff", 1), ("few", 1)]
    assert (said["state"], said["remaining"], said["functions"]) == ("draining", 6, 3)
    assert (said["dead"], said["held"]) == (4, 1)


def test_blockers_are_bounded() -> None:
    """An answer names so many functions at most, and says how many there are."""
    names = [LaneName(n, b"f%d" % n, 1) for n in range(answers.BLOCKERS_NAMED + 5)]
    said = answers.drain({name: counts(accepted=1) for name in names}, Facts(), True)
    assert (len(said["blockers"]), said["functions"]) == (answers.BLOCKERS_NAMED, len(names))


def lane(stalled: bool = False, error: str = "", workers: int | None = None) -> LaneFacts:
    """Facts of a lane."""
    return LaneFacts(1, stalled, error, workers)


@pytest.mark.parametrize(
    ("upstreams", "of", "deferred", "reason"),
    [
        ((), lane(), 0, "in progress: waiting for its workers"),
        ((HEALTHY,), lane(), 0, "in progress: waiting for its workers"),
        ((HEALTHY,), lane(stalled=True), 1, "no answer from a worker"),
        ((HEALTHY,), lane(stalled=True, workers=0), 1, "no workers"),
        ((HEALTHY,), lane(error="it broke"), 0, "failing: it broke"),
        ((HEALTHY,), lane(), 1, "failing"),
        ((UpstreamFacts("a:1", "throttled", 0, "refused"),), lane(workers=0), 1, "upstreams down: refused"),
        ((UpstreamFacts("a:1", "throttled", 0, ""),), lane(), 0, "upstreams down"),
        ((UpstreamFacts("a:1", "throttled", 0, "refused"), HEALTHY), lane(), 0, "in progress: waiting for its workers"),
        ((UpstreamFacts("a:1", "paused", 0, "old"),), lane(), 0, "upstreams paused"),
        (
            (UpstreamFacts("a:1", "paused", 0, "old"), UpstreamFacts("b:1", "throttled", 0, "new")),
            lane(),
            0,
            "upstreams down: new",
        ),
    ],
)
def test_the_first_reason_that_holds(
    upstreams: tuple[UpstreamFacts, ...], of: LaneFacts, deferred: int, reason: str
) -> None:
    """Upstreams before workers, workers before failures; the last error is named where there is one."""
    assert answers.reason(Facts(upstreams=upstreams), of, deferred) == reason
