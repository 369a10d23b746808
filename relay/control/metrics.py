"""The numbers for Prometheus: one reading of what status says and what the loops counted, as its text format.

What it is: a table of names over a `Reading`.  The counts are those of the spool, so they are of the same moment and
survive restarts; what only the loops know (verdicts by upstream, failures by reason, refusals, histograms) counts from
the agent's start, which Prometheus takes for a reset.

Promises: every label's values are bounded: codes, reasons and states by the code, upstreams by the configuration,
functions by FUNCTIONS, with the rest under OTHERS.  prometheus_client is imported when the first reading is rendered,
by whoever renders it: an agent that nobody scrapes does not carry it.

Never does I/O but for the process's own numbers in /proc; never fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from relay.cast import LaneName
from relay.histogram import Histogram
from relay.spool.changes import Counts

if TYPE_CHECKING:
    from prometheus_client import Metric

#: functions that are named, those with most casts on disk, and what stands for all the others: no function has a space
FUNCTIONS = 50
OTHERS = "all others"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_STATES = ("ready", "deferred", "held", "in_flight", "dead")
#: (name, field of status, what it is): counted over the life of the spool
_COUNTERS = (
    ("relay_casts_accepted", "accepted", "Casts acknowledged, over the life of the spool."),
    ("relay_casts_retired", "completed", "Casts done and gone from the spool, over its life."),
    ("relay_casts_purged", "purged", "Dead casts removed, over the life of the spool."),
    ("relay_casts_expired", "expired", "Casts that outlived their lifetime, over the life of the spool."),
    ("relay_casts_coalesced", "coalesced", "Casts answered with the handle of a living twin, over the spool's life."),
    ("relay_failures", "failures", "Verdicts that were failures of the work, over the life of the spool."),
    ("relay_possible_repeats", "possible_repeats", "Sends that ended in doubt, over the life of the spool."),
)
_GAUGES = (
    ("relay_backlog_bytes", "payload_bytes", "Bytes of the payloads on disk."),
    ("relay_backlog_oldest_seconds", "oldest_seconds", "Age of the oldest cast that is ready, deferred or in flight."),
    ("relay_spool_bytes", "spool_bytes", "Bytes of the database and its write-ahead log."),
    ("relay_accepting", "accepting", "1 while new casts are taken."),
    ("relay_draining", "draining", "1 while the agent drains."),
)

_Made: TypeAlias = Iterator["Metric"]


class Reading(NamedTuple):
    """Everything of one moment: the object of `status`, the lanes, and what the loops counted since the start."""

    status: Mapping[str, Any]
    lanes: Mapping[LaneName, Counts]
    completed: Mapping[str, int]
    failed: Mapping[str, int]
    rejected: Mapping[str, int]
    histograms: Mapping[str, tuple[str, Histogram]]
    disk_free: int | None
    min_free: int | None


def render(reading: Reading, *, process: bool) -> bytes:
    """The text format; with the numbers of this very process where it is the agent."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(reading))
    if process:
        ProcessCollector(registry=registry)
    text: bytes = generate_latest(registry)
    return text


class _Collector:
    """What prometheus_client calls a collector."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def collect(self) -> _Made:
        """Every family, in the order of the module."""
        yield from _of_the_spool(self._reading)
        yield from _of_the_loops(self._reading)
        yield from _of_functions(self._reading.lanes)


def _of_the_spool(reading: Reading) -> _Made:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    status = reading.status
    yield _labelled(
        GaugeMetricFamily, "relay_build_info", "1, with relay's version.", "version", {status["version"]: 1}
    )
    for name, field, text in _COUNTERS:
        yield CounterMetricFamily(name, text, value=status[field])
    casts = {state: status[state] for state in _STATES}
    yield _labelled(GaugeMetricFamily, "relay_backlog_casts", "Casts in the spool, by state.", "state", casts)
    for name, field, text in _GAUGES:
        yield GaugeMetricFamily(name, text, value=float(status[field]))
    for name, value, text in (
        ("relay_disk_free_bytes", reading.disk_free, "Bytes free on the spool's disk, for an unprivileged user."),
        ("relay_disk_min_free_bytes", reading.min_free, "[spool] min_free: under it new casts are refused."),
    ):
        if value is not None:
            yield GaugeMetricFamily(name, text, value=value)


def _of_the_loops(reading: Reading) -> _Made:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    status = reading.status
    problems = {problem["code"]: 1 for problem in status["problems"]}
    yield _labelled(GaugeMetricFamily, "relay_problem", "1 for each problem that status lists.", "code", problems)
    up = {one["server"]: int(one["state"] == "healthy") for one in status["upstreams"]}
    yield _labelled(GaugeMetricFamily, "relay_upstream_up", "1 for a job server in use.", "upstream", up)
    flying = {one["server"]: one["in_flight"] for one in status["upstreams"]}
    yield _labelled(GaugeMetricFamily, "relay_upstream_in_flight_casts", "Casts in flight.", "upstream", flying)
    for name, text, label, values in (
        ("relay_casts_completed", "Casts done, since the agent's start.", "upstream", reading.completed),
        ("relay_casts_rejected", "Requests refused, since the agent's start.", "reason", reading.rejected),
        ("relay_attempts_failed", "Attempts not done, since the agent's start.", "reason", reading.failed),
    ):
        yield _labelled(CounterMetricFamily, name, text, label, values)
    for name, (text, histogram) in reading.histograms.items():
        bounds = [*[f"{bound:g}" for bound in histogram.bounds], "+Inf"]
        buckets = list(zip(bounds, histogram.cumulative(), strict=True))
        yield HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.sum)


def _of_functions(lanes: Mapping[LaneName, Counts]) -> _Made:
    from prometheus_client.core import GaugeMetricFamily

    waiting: dict[str, int] = {}
    dead: dict[str, int] = {}
    for name, counts in lanes.items():
        function = name.function.decode("utf-8", "backslashreplace")
        waiting[function] = waiting.get(function, 0) + counts.ready + counts.deferred
        dead[function] = dead.get(function, 0) + counts.dead
    for family, text, casts in (
        ("relay_function_backlog_casts", "Casts of a function that are ready, deferred or in flight.", waiting),
        ("relay_function_dead_casts", "Dead casts of a function.", dead),
    ):
        yield _labelled(GaugeMetricFamily, family, text, "function", most(casts))


def most(casts: Mapping[str, int]) -> dict[str, int]:
    """The FUNCTIONS functions that have most casts, and the sum of all others that have any."""
    some = sorted((function for function in casts if casts[function]), key=lambda name: (-casts[name], name))
    named = {function: casts[function] for function in some[:FUNCTIONS]}
    if len(some) > FUNCTIONS:
        named[OTHERS] = sum([casts[function] for function in some[FUNCTIONS:]])
    return named


def _labelled(family: Callable[..., Any], name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    made = family(name, text, labels=[label])
    for value, number in values.items():
        made.add_metric([value], number)
    metric: Metric = made
    return metric
