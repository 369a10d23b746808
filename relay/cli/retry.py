"""`retry`: casts that wait for their backoff are due now.

Those that their caller wants later stay for later, and are counted as in another state.
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
    parser = verbs.add_parser("retry", help="end the backoff of casts", description=__doc__)
    changing.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make them due."""
    return changing.run(options, Change("retry", "Made due"))
