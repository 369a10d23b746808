"""`release`: held casts are ready again, and forwarded at once.

A hold of what is still to come ends with a release of just its --function, and each of them with --all.  A cast whose
caller wanted it later than now waits for that moment again.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from relay.cli import changing
from relay.cli.changing import Change
from relay.cli.selecting import wanted

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs
    from relay.spool.offline import Spooled


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("release", help="let held casts go", description=__doc__)
    changing.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Release them."""

    def end_holds(spooled: Spooled) -> None:
        if not options.casts:
            spooled.end_holds(wanted(options).conditions)

    return changing.run(options, Change("release", "Released", first_offline=end_holds))
