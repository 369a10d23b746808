"""`shape`: how many casts of each function have which age, in buckets that double, as qshape counts mail.

A column's name is its upper bound; a cast counts in the first that holds its age, one older than all in the last.  `T`
is the sum, TOTAL the first row, the functions with most casts follow.  With the agent down it reads the spool itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from relay.cli import formats, offline
from relay.cli.arguments import count, duration
from relay.cli.ask import Agent
from relay.cli.backlog import FILTERS, add_filters
from relay.cli.exits import DONE, Misused, NotRunning

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs

# those of relay.spool.shape, where they are defined (a test compares): importing it costs what SQLite costs
FIRST_S, BUCKETS, MOST_BUCKETS = 5.0, 10, 32
#: seconds that an agent may count: some millions of casts
PATIENCE_S = 600.0
TOTAL = "TOTAL"
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"), (0.001, "ms"))


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("shape", help="casts by function and age", description=__doc__)
    group = parser.add_argument_group("buckets")
    group.add_argument("--first", type=duration, metavar="TIME", default=FIRST_S, help="the first bound (5s)")
    group.add_argument("--buckets", type=count, metavar="N", default=BUCKETS, help="how many (10)")
    add_filters(parser, limit=False)
    formats.add_arguments(parser, rows=True)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print it."""
    if not 1 <= options.buckets <= MOST_BUCKETS:
        raise Misused(f"--buckets is from 1 to {MOST_BUCKETS}")
    if options.first <= 0:
        raise Misused("--first is more than 0")
    wanted = {name: getattr(options, name) for name in FILTERS if getattr(options, name) is not None}
    query = {**wanted, "first": options.first, "buckets": options.buckets}
    try:
        answer = Agent(options.places.control, options.patience or PATIENCE_S).ask("GET", "/v1/shape", query)
    except NotRunning as agent:
        answer = _from_disk(options, wanted, agent)
    names = column_names(answer["bounds"])
    formats.show_rows(options, names, _rows(answer, names))
    return DONE


def _from_disk(options: argparse.Namespace, wanted: dict[str, Any], agent: NotRunning) -> dict[str, Any]:
    from relay.clock import wall_us
    from relay.control import answers
    from relay.spool import shape
    from relay.spool.reading import Filter

    with offline.instead_of(agent):
        upper = shape.bounds(options.first, options.buckets)
        found = shape.shape(options.places.spool, Filter(**wanted), upper, wall_us())
    offline.say(agent)
    return answers.shape(found)


def column_names(bounds: list[float]) -> list[str]:
    """function, T, then each upper bound in the largest unit that fits the first, and what is older than all."""
    first = bounds[0] if bounds else 0.0
    size, unit = next((one for one in _UNITS if first >= one[0] and first % one[0] == 0), _UNITS[-1])
    named = [f"{bound / size:g}{unit}" for bound in bounds]
    return ["function", "T", *named, f"{named[-1]}+" if named else "0s+"]


def _rows(answer: dict[str, Any], names: list[str]) -> Iterator[dict[str, Any]]:
    functions = answer["functions"]
    columns = [[0] * (len(names) - 2), *[one["casts"] for one in functions]]
    total = [sum(column) for column in zip(*columns, strict=True)]
    yield dict(zip(names, [TOTAL, sum(total), *total], strict=True))
    for one in functions:
        yield dict(zip(names, [one["function"], one["total"], *one["casts"]], strict=True))
