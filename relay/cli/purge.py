"""`purge`: dead casts are gone for good.

With --exported it takes away the held casts that `export --hold` has written out, once they are safe elsewhere.
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
    parser = verbs.add_parser("purge", help="remove dead casts", description=__doc__)
    changing.add_arguments(parser)
    parser.add_argument(
        "--exported", action="store_true", help="held casts that export --hold wrote out, not dead ones"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Remove them."""
    more = (("exported", True),) if options.exported else ()
    return changing.run(options, Change("purge", "Purged", more), implied=options.exported)
