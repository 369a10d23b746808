"""What Prometheus is told."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from relay.cast import LaneName
from relay.control import answers, metrics
from relay.facts import Facts, Problem, UpstreamFacts
from relay.histogram import Histogram
from relay.spool.changes import Counts
from relay.spool.schema import COUNTS


def counts(**numbers: int) -> Counts:
    """Counts with these numbers, the others 0."""
    return Counts([numbers.get(name, 0) for name in COUNTS])


def scrape(lanes: Mapping[LaneName, Counts], **more: object) -> dict[tuple[str, str], float]:
    """(name, label's value) -> number, as Prometheus reads it."""
    facts = Facts((UpstreamFacts("a:1", "healthy", 2, "", 9), UpstreamFacts("b:1", "throttled", 0, "refused", 1)))
    status = answers.status(
        "running",
        answers.total(lanes.values()),
        facts,
        draining=False,
        accepting=True,
        oldest_seconds=1.5,
        spool_bytes=4096,
        problems=[Problem("odd", "It is odd.", 1.0)],
        version="1.2",
    )
    histogram = Histogram((0.1, 1))
    histogram.observe(0.5)
    of = {
        "completed": {"a:1": 9, "b:1": 1},
        "failed": {"work_fail": 3},
        "rejected": {"draining": 4},
        "histograms": {"relay_commit_seconds": ("Duration.", histogram)},
        "disk_free": 100,
        "min_free": 50,
        **more,
    }
    text = metrics.render(metrics.Reading(status, lanes, **of), process=False).decode()  # type: ignore[arg-type]
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, ",".join(sample.labels.values())] = sample.value
    return found


def test_the_names_are_those_that_dashboards_rely_on() -> None:
    """Each family with its label and number, the counts from the spool's lanes."""
    said = scrape({LaneName(1, b"f", 1): counts(accepted=10, completed=4, dead=1, deferred=2, bytes=77)})
    assert said["relay_casts_accepted_total", ""] == 10
    assert (said["relay_casts_completed_total", "a:1"], said["relay_casts_completed_total", "b:1"]) == (9, 1)
    assert said["relay_casts_rejected_total", "draining"] == 4
    assert said["relay_attempts_failed_total", "work_fail"] == 3
    states = {state: said["relay_backlog_casts", state] for state in ("ready", "deferred", "held", "in_flight", "dead")}
    assert states == {"ready": 3, "deferred": 2, "held": 0, "in_flight": 0, "dead": 1}
    assert (said["relay_backlog_bytes", ""], said["relay_backlog_oldest_seconds", ""]) == (77, 1.5)
    assert (said["relay_upstream_up", "a:1"], said["relay_upstream_up", "b:1"]) == (1, 0)
    assert said["relay_build_info", "1.2"] == 1
    assert said["relay_problem", "odd"] == 1
    assert (said["relay_disk_free_bytes", ""], said["relay_disk_min_free_bytes", ""]) == (100, 50)
    assert (said["relay_accepting", ""], said["relay_draining", ""]) == (1, 0)
    assert said["relay_function_backlog_casts", "f"] == 5
    assert said["relay_function_dead_casts", "f"] == 1


def test_a_histogram_is_cumulative() -> None:
    """Its buckets, the total, the sum."""
    said = scrape({})
    assert said["relay_commit_seconds_bucket", "0.1"] == 0
    assert said["relay_commit_seconds_bucket", "1"] == 1
    assert said["relay_commit_seconds_bucket", "+Inf"] == 1
    assert (said["relay_commit_seconds_count", ""], said["relay_commit_seconds_sum", ""]) == (1, 0.5)


def test_functions_are_bounded_and_nothing_is_left_out_of_the_sum() -> None:
    """However many there are, FUNCTIONS of them are named; the others are one more, and the sum is that of all."""
    lanes = {LaneName(n, b"f%d.host%d" % (n, n), 1): counts(accepted=n + 1) for n in range(metrics.FUNCTIONS + 20)}
    said = {name: number for name, number in scrape(lanes).items() if name[0] == "relay_function_backlog_casts"}
    assert len(said) == metrics.FUNCTIONS + 1
    assert said["relay_function_backlog_casts", metrics.OTHERS] == sum(range(1, 21))
    assert sum(said.values()) == sum([of.accepted for of in lanes.values()])


def test_what_a_caller_named_cannot_break_the_text() -> None:
    """A function of quotes, backslashes and bytes that are no UTF-8 is a label like any other."""
    said = scrape({LaneName(1, b'a"b\\c\xff{}', 1): counts(accepted=1)})
    assert said["relay_function_backlog_casts", 'a"b\\c\\xff{}'] == 1
