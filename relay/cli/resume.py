"""`resume`: ends a drain; the agent accepts new casts again.  Where it was not draining, nothing changes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from relay.cli import formats
from relay.cli.ask import Agent
from relay.cli.exits import DONE

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("resume", help="end a drain", description=__doc__)
    formats.add_arguments(parser, rows=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Resume."""
    answer = Agent(options.places.control, options.patience).ask("POST", "/v1/resume")
    if options.format == "table" and not options.column:
        print("Running: new casts are accepted.")
    else:
        formats.show_object(options, {name: answer[name] for name in ("state", "remaining", "blockers")})
    return DONE
