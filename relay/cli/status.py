"""`status`: the agent's state and counts; with the agent down, from the spool itself.

As `prometheus` it is what `/metrics` answers, for node_exporter's textfile collector.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay.cli import formats, offline
from relay.cli.ask import Agent
from relay.cli.exits import DONE, NotRunning

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs
    from relay.facts import Problem
    from relay.spool.reading import Totals

PROMETHEUS = "prometheus"
#: seconds that an agent may take to answer: it needs milliseconds, and monitoring must not wait for one that hangs
PATIENCE_S = 5.0


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("status", help="state, counts, upstreams and problems", description=__doc__)
    formats.add_arguments(parser, rows=False, more=(PROMETHEUS,))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print it."""
    agent = Agent(options.places.control, options.patience or PATIENCE_S)
    if options.format == PROMETHEUS:
        try:
            text = agent.text("/metrics")
        except NotRunning as gone:
            path = options.places.spool
            text = _metrics(_read(path, gone), _problems(path), _free(path))
        sys.stdout.write(text)
        return DONE
    try:
        answer = agent.ask("GET", "/v1/status")
    except NotRunning as gone:
        answer = _status(_read(options.places.spool, gone), _problems(options.places.spool))
    formats.show_object(options, answer)
    return DONE


def _read(path: Path, agent: NotRunning) -> Totals:
    from relay.spool import reading

    with offline.instead_of(agent):
        totals = reading.counts(path)
    offline.say(agent)
    return totals


def _problems(path: Path) -> list[Problem]:
    """What can be seen of the spool from outside; since when, as far as its files tell."""
    import time

    from relay.facts import Problem
    from relay.spool import quarantine, watching

    sights, found = watching.look(path), []
    if sights.quarantined:
        found.append(Problem("quarantined", sights.quarantined, quarantine.kept(path)[-1][0].stat().st_ctime))
    if sights.long_log:
        found.append(Problem("log_too_long", sights.long_log, time.time()))
    return found


def _status(totals: Totals, problems: Sequence[Problem]) -> dict[str, Any]:
    import relay
    from relay.clock import wall_us
    from relay.control import answers
    from relay.facts import Facts

    return answers.status(
        "down",
        totals.counts,
        Facts(),
        draining=totals.draining,
        accepting=False,
        oldest_seconds=max(0, wall_us() - totals.oldest.accepted_at) / 1e6 if totals.oldest else 0.0,
        spool_bytes=totals.bytes_on_disk,
        problems=problems,
        version=relay.__version__,
    )


def _free(path: Path) -> int | None:
    """Bytes that the spool's disk has free, None where that cannot be learnt."""
    import os

    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def _metrics(totals: Totals, problems: Sequence[Problem], free: int | None) -> str:
    from relay.control import metrics

    known = metrics.Reading(_status(totals, problems), totals.lanes, {}, {}, {}, {}, free, None)
    return metrics.render(known, process=False).decode()
