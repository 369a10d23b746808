"""What relay is to reach on a machine with two cores, and whether the figures of some runs do: pure.

A figure beside a peer's is the median of the ratios within each round, as in the tables; where there is none, the
target says that it was not measured.  Of two runs that have the same row, the later one counts.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bench.table import number, ratios

MANY = "10000000"
Report = dict[str, Any]


class Found:
    """The figures of all reports, by row and contender, and by backlog."""

    def __init__(self, reports: Sequence[Report]) -> None:
        self.rounds = {(one["row"], one["who"]): one["rounds"] for report in reports for one in report.get("rows", ())}
        self.scale: dict[str, dict[str, float]] = {}
        for report in reports:
            self.scale |= {str(backlog): figures for backlog, figures in report.get("figures", {}).items()}

    def by_round(self, row: str, who: str, metric: str) -> dict[int, float]:
        rounds = self.rounds.get((row, who), {})
        return {int(number): figures[metric] for number, figures in rounds.items() if metric in figures}

    def median(self, row: str, who: str, metric: str) -> float | None:
        figures = self.by_round(row, who, metric)
        return statistics.median(figures.values()) if figures else None

    def ratio(self, row: str, who: str, metric: str, against: str) -> float | None:
        figures = ratios(self.by_round(row, who, metric), self.by_round(row, against, metric))
        return statistics.median(figures.values()) if figures else None

    def with_backlog(self, backlog: str, metric: str) -> float | None:
        return self.scale.get(backlog, {}).get(metric)

    def grown(self, metric: str) -> float | None:
        """With many in the spool, against an empty one."""
        empty, full = self.with_backlog("0", metric), self.with_backlog(MANY, metric)
        return full / empty if empty and full else None


class Target(NamedTuple):
    says: str
    least: bool  # else it is the most that it may be
    bound: float
    figure: Callable[[Found], float | None]


def against(peer: str, row: str, who: str, metric: str = "rate") -> Callable[[Found], float | None]:
    return lambda found: found.ratio(row, who, metric, peer)


def of(row: str, who: str, metric: str) -> Callable[[Found], float | None]:
    return lambda found: found.median(row, who, metric)


def scaled(backlog: str, metric: str) -> Callable[[Found], float | None]:
    return lambda found: found.with_backlog(backlog, metric)


def grown(metric: str) -> Callable[[Found], float | None]:
    return lambda found: found.grown(metric)


GEARMAND, SQLITE, PASSES = "gearmand", "gearmand, libsqlite3", "relay before gearmand"
REDIS, RABBIT = "redis", "RabbitMQ, quorum queue"
MILLION = "1000000"

TARGETS = (
    Target("accept, against Redis", True, 1.0, against(REDIS, "accept", "relay")),
    Target("the same, UUIDv7 uniques", True, 0.7, against(REDIS, "accept", "relay, UUIDv7 uniques")),
    Target("the same, random uniques", True, 0.4, against(REDIS, "accept", "relay, random uniques")),
    Target("accept, against a quorum queue of RabbitMQ", True, 4, against(RABBIT, "accept", "relay")),
    Target("accept, against beanstalkd -f0", True, 30, against("beanstalkd -f0", "accept", "relay")),
    Target("accept, against gearmand with libsqlite3", True, 100, against(SQLITE, "accept", "relay")),
    Target("64 waiting callers, against Redis", True, 0.9, against(REDIS, "64 x 1", "relay")),
    Target("through, against a bare gearmand", True, 0.35, against(GEARMAND, "through", PASSES)),
    Target("through, against gearmand with libsqlite3", True, 150, against(SQLITE, "through", PASSES)),
    Target("p50 of a waiting caller, against Redis", False, 1.8, against(REDIS, "waiting", "relay", "p50_us")),
    Target("p99 of a waiting caller, against Redis", False, 3, against(REDIS, "waiting", "relay", "p99_us")),
    Target(
        "p99 of a waiting caller while another floods, against alone",
        False,
        5,
        against("alone", "latency", "another floods", "p99_us"),
    ),
    Target("accept, UUIDv7 uniques, with 10,000,000 in the spool, against none", True, 0.8, grown("accept")),
    Target("through with 10,000,000 in the spool, against none", True, 0.8, grown("through")),
    Target("start after SIGKILL with 1,000,000 in the spool, s", False, 2, scaled(MILLION, "start_s")),
    Target("start after SIGKILL with 10,000,000 in the spool, s", False, 3, scaled(MANY, "start_s")),
    Target("resident when idle, MiB", False, 56, of("idle", "3 upstreams", "rss_mib")),
    Target("resident with 1,000,000 in the spool, MiB", False, 80, scaled(MILLION, "rss_mib")),
    Target("resident with 10,000,000 in the spool, MiB", False, 96, scaled(MANY, "rss_mib")),
    Target(
        "resident at most while payloads of 1 MiB pass, 50 a second, MiB",
        False,
        160,
        of("1 MiB at 50/s", PASSES, "peak_mib"),
    ),
    Target("the same, accepted a second, of 50 that are due", True, 49, of("1 MiB at 50/s", PASSES, "rate")),
    Target(
        "processor time when idle, 3 upstreams connected, % of a core",
        False,
        0.5,
        of("idle", "3 upstreams", "cpu_percent"),
    ),
    Target(
        "payloads of 1 MiB, sustained, against the disk",
        True,
        0.2,
        against("the disk", "1 MiB, sustained", "relay", "mib_s"),
    ),
)

UNKNOWN = "not measured"
HEAD = ("what", "is to be", "is", "")


def cells(target: Target, found: Found) -> list[str]:
    figure = target.figure(found)
    bound = f"{'at least' if target.least else 'at most'} {target.bound:g}"
    if figure is None:
        return [target.says, bound, "-", UNKNOWN]
    met = figure >= target.bound if target.least else figure <= target.bound
    return [target.says, bound, number(figure), "met" if met else "missed"]


def table(reports: Sequence[Report]) -> list[list[str]]:
    found = Found(reports)
    return [cells(target, found) for target in TARGETS]
