"""`dead`: the dead casts, oldest first, with why they died; with the agent down too.

Reasons: `work_fail` and `work_exception` (the worker, until the attempts were used up), `refused_by_server`, `damaged`
(the checksum does not fit), `buried` (an operator). --reasons counts them by function.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from relay.cli import backlog, formats
from relay.cli.exits import DONE, Misused

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs

COLUMNS = ("id", "function", "unique", "priority", "bytes", "age_seconds", "attempts", "failures", "reason")
MORE = ("last_error", "uid")


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("dead", help="the dead casts and why they died", description=__doc__)
    backlog.add_filters(parser)
    parser.add_argument("--reasons", action="store_true", help="count them by function and reason")
    formats.add_arguments(parser, rows=True)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print them."""
    if options.state not in (None, "dead"):
        raise Misused("--state: these are the dead ones")
    options.state = "dead"
    casts = backlog.casts(options, all_rows=options.reasons)
    if options.reasons:
        formats.show_rows(options, ("function", "reason", "casts"), _counted(casts))
    else:
        formats.show_rows(options, (*COLUMNS, *MORE), casts)
    return DONE


def _counted(casts: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    counts: dict[tuple[str, str], int] = {}
    for cast in casts:
        name = cast["function"], cast["reason"]
        counts[name] = counts.get(name, 0) + 1
    most = sorted(counts, key=lambda name: (-counts[name], name))
    return [{"function": function, "reason": reason, "casts": counts[function, reason]} for function, reason in most]
