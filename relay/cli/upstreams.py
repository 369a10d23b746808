"""`upstreams`: the job servers in this host's order, what each is used for, and pausing one.

A paused job server gets nothing new, over restarts too; what is in flight there may finish.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from relay.cli import formats, offline
from relay.cli.ask import Agent
from relay.cli.exits import DONE, Misused, NotRunning

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs

COLUMNS = ("server", "state", "role", "since_seconds", "functions", "in_flight", "completed", "last_error")


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("upstreams", help="the job servers; pause or resume one", description=__doc__)
    parser.add_argument(
        "change", nargs="?", choices=("pause", "resume"), help="send nothing new there, or use it again"
    )
    parser.add_argument("server", nargs="?", metavar="SERVER", help="host:port, as it is listed")
    formats.add_arguments(parser, rows=True)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print them, once the change is made, if one is asked for."""
    if (options.change is None) != (options.server is None):
        raise Misused(f"{options.change}: which SERVER?")
    agent = Agent(options.places.control, options.patience)
    if options.change is not None:
        answer = agent.ask("POST", f"/v1/upstreams/{options.change}", {"server": options.server})
        if options.format == "table":
            done = {"pause": "paused", "resume": "resumed"}[options.change]
            print(f"{options.server} {'is' if answer['changed'] else 'was already'} {done}.")
    else:
        try:
            answer = agent.ask("GET", "/v1/upstreams")
        except NotRunning as down:
            with offline.instead_of(down):
                answer = _from_disk(options)
            offline.say(down)
    formats.show_rows(options, COLUMNS, answer["upstreams"])
    return DONE


def _from_disk(options: argparse.Namespace) -> dict[str, Any]:
    from relay.spool import reading

    paused = reading.paused(options.places.spool)
    nothing = dict.fromkeys(COLUMNS[2:])
    return {
        "upstreams": [
            {"server": server, "state": "paused" if server in paused else "down", **nothing}
            for server in [*options.places.servers, *sorted(paused - set(options.places.servers))]
        ]
    }
