"""pass, warn or fail."""

import pytest

from relay.control import health
from relay.facts import Facts, Problem, UpstreamFacts

WELL = Facts((UpstreamFacts("a:1", "healthy", 0, ""), UpstreamFacts("b:1", "throttled", 0, "")))
DOWN = Facts((UpstreamFacts("a:1", "throttled", 0, "refused"),))
PAUSED = Facts((UpstreamFacts("a:1", "paused", 0, ""),))


@pytest.mark.parametrize(
    ("facts", "codes", "committing_s", "status", "http"),
    [
        (WELL, [], 0.0, "pass", 200),
        (DOWN, ["upstreams_down"], 0.0, "warn", 200),
        (PAUSED, [], 0.0, "warn", 200),
        (WELL, ["disk_full"], 0.0, "warn", 200),
        (WELL, ["spool_failing"], 0.0, "fail", 503),
        (DOWN, ["upstreams_down", "spool_failing"], 0.0, "fail", 503),
        (WELL, [], health.STUCK_S - 1, "pass", 200),
        (WELL, [], health.STUCK_S + 1, "fail", 503),
    ],
)
def test_only_a_spool_that_cannot_be_written_fails(
    facts: Facts, codes: list[str], committing_s: float, status: str, http: int
) -> None:
    """An upstream that is down, a full disk and whatever else is a warning, answered 200."""
    said = health.health(facts, [Problem(code, "why", 1.0) for code in codes], committing_s, "1.2")
    assert (said["status"], health.http_status(said)) == (status, http)


def test_each_check_names_what_it_is_about() -> None:
    """Upstreams by their address with what was wrong; a problem under its code; the version."""
    said = health.health(DOWN, [Problem("odd", "It is odd.", 1.0)], 0.0, "1.2")
    (upstream,) = said["checks"]["upstream:connected"]
    assert (upstream["componentId"], upstream["status"], upstream["output"]) == ("a:1", "warn", "refused")
    assert said["checks"]["problem:odd"][0]["output"] == "It is odd."
    assert said["checks"]["spool:writable"][0]["status"] == "pass"
    assert said["releaseId"] == "1.2"
