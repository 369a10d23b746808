"""`status`: the agent's state and counts; with the agent down, from the spool itself."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay.cli import formats, offline
from relay.cli.ask import Agent
from relay.cli.exits import DONE, NotRunning

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("status", help="state, counts, upstreams and problems", description=__doc__)
    formats.add_arguments(parser, rows=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print it."""
    try:
        answer = Agent(options.places.control).ask("GET", "/v1/status")
    except NotRunning as agent:
        with offline.instead_of(agent):
            answer = _from_disk(options.places.spool)
        offline.say(agent)
    formats.show_object(options, answer)
    return DONE


def _from_disk(path: Path) -> dict[str, Any]:
    import relay
    from relay.clock import wall_us
    from relay.control import answers
    from relay.facts import Facts
    from relay.spool import reading

    totals = reading.counts(path)
    return answers.status(
        "down",
        totals.counts,
        Facts(),
        draining=totals.draining,
        accepting=False,
        oldest_seconds=max(0, wall_us() - totals.oldest.accepted_at) / 1e6 if totals.oldest else 0.0,
        spool_bytes=totals.bytes_on_disk,
        problems=(),
        version=relay.__version__,
    )
