"""`backlog`: the casts in the spool, oldest first, as many as a filter selects; with the agent down too.

A cast that is in flight is listed in the state it was taken from, because that is what the disk says.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from relay.cli import formats, offline
from relay.cli.arguments import count, duration
from relay.cli.ask import Agent
from relay.cli.exits import DONE, NotRunning

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs

# those of relay.spool.reading, where they are defined (a test compares): importing it costs what SQLite costs
COLUMNS = (
    "id",
    "function",
    "unique",
    "priority",
    "state",
    "bytes",
    "age_seconds",
    "attempts",
    "failures",
    "due_seconds",
    "last_error",
    "uid",
    "reason",
)
STATES = ("ready", "deferred", "held", "dead")
#: what a filter is made of, by the names it has on the control socket
FILTERS = ("function", "state", "older_than", "newer_than", "uid", "error")


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("backlog", help="the casts in the spool, oldest first", description=__doc__)
    add_filters(parser)
    formats.add_arguments(parser, rows=True)
    parser.set_defaults(run=run)


def add_filters(parser: argparse.ArgumentParser, *, limit: bool = True) -> None:
    """The options that select casts; `limit` for verbs that can do with some of them."""
    group = parser.add_argument_group("which casts (all that is given holds)")
    group.add_argument("--function", metavar="GLOB", help="of a function that matches")
    group.add_argument("--state", choices=STATES)
    group.add_argument("--older-than", type=duration, metavar="TIME", help="accepted longer ago (30s, 5m, 2h, 1d)")
    group.add_argument("--newer-than", type=duration, metavar="TIME", help="accepted since")
    group.add_argument("--uid", type=count, help="handed over by this user")
    group.add_argument("--error", metavar="TEXT", help="whose last error contains this, whatever its case")
    if limit:
        group.add_argument("--limit", type=count, metavar="N", help="the oldest N of them")


def run(options: argparse.Namespace) -> int:
    """Print them."""
    if options.format in formats.LINES and not options.column and not options.sort_column:
        formats.show_lines(options, lines(options))
    else:
        formats.show_rows(options, COLUMNS, casts(options))
    return DONE


def casts(options: argparse.Namespace, *, all_rows: bool = False) -> Iterator[dict[str, Any]]:
    """The casts that the options select, as many as are shown, or `all_rows`; with the reason of their last trouble."""
    return map(json.loads, lines(options, all_rows=all_rows))


def lines(options: argparse.Namespace, *, all_rows: bool = False) -> Iterator[bytes]:
    """The same, each as JSON."""
    wanted = {name: getattr(options, name) for name in FILTERS if getattr(options, name) is not None}
    limit = options.limit
    if limit is None and options.format in ("table", "yaml") and not options.sort_column and not all_rows:
        # one more than is shown, so that it can be said that there are more
        limit = formats.MOST_ROWS + 1
    query = wanted if limit is None else {**wanted, "limit": limit}
    found = Agent(options.places.control, options.patience).raw_lines("/v1/casts", query)
    try:
        # an agent that is not there is known at the first cast; one that ends later is an error
        first = list(islice(found, 1))
    except NotRunning as agent:
        return _from_disk(options, wanted, limit, agent)
    return chain(first, found)


def _from_disk(
    options: argparse.Namespace, wanted: dict[str, Any], limit: int | None, agent: NotRunning
) -> Iterator[bytes]:
    from relay.clock import wall_us
    from relay.spool import listing, reading

    with offline.instead_of(agent):
        pieces = listing.lines(options.places.spool, reading.Filter(**wanted), limit, wall_us())
        first = list(islice(pieces, 1))
        offline.say(agent)
        for piece in chain(first, pieces):
            yield from piece.splitlines()
