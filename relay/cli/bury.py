"""`bury`: casts are dead. They stay in the spool and are not executed, until they are revived or purged.

`show` and `dead` say who buried them.
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
    parser = verbs.add_parser("bury", help="have casts dead, and kept", description=__doc__)
    changing.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Bury them."""
    return changing.run(options, Change("bury", "Buried"))
