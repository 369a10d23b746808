"""`revive`: dead casts are ready again, with all their attempts, and forwarded at once.

One that meets a living cast of the same function and unique is skipped and counted. A cast whose caller wanted it later
than now waits for that moment.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from relay.cli import changing
from relay.cli.changing import Change

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("revive", help="bring dead casts back", description=__doc__)
    changing.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Revive them."""
    return changing.run(options, Change("revive", "Revived"))
