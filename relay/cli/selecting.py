"""Which casts a verb is about: names, names from stdin, or a filter; the options that all verbs share.

One grammar for every verb.  Names are ids, handles or uniques, as arguments or one a line on stdin (`-`), so that
`relay-cli backlog -f value -c id | relay-cli bury -` works.  A filter is `--function`, `--state` and so on; everything
is `--all`, and must be said.  Misused for what is none of these, or two of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from relay.cli.backlog import FILTERS, add_filters
from relay.cli.exits import Misused

if TYPE_CHECKING:
    from relay.spool.selecting import Selection

#: names in one request
CHUNK = 500
#: characters of a name: a handle's, at most
LONGEST_NAME = 512
#: characters of a name in a log
SHOWN_NAME = 128


class Wanted(NamedTuple):
    """What the command line selects: names (as they come), or conditions by the names they have on the socket."""

    names: Iterable[str] | None
    conditions: dict[str, Any]
    limit: int | None

    def words(self) -> str:
        """What it asks for, for a log: less than a line."""
        if self.names is None:
            limit = {} if self.limit is None else {"limit": self.limit}
            return " ".join([f"{name}={value!r}" for name, value in {**self.conditions, **limit}.items()]) or "all"
        if not isinstance(self.names, list):
            return "casts named on stdin"
        some = ", ".join([ascii(name[:SHOWN_NAME])[1:-1] for name in self.names[:3]])
        return f"{len(self.names)} named cast{'s' * (len(self.names) != 1)} ({some}{', ...' * (len(self.names) > 3)})"

    def bodies(self) -> Iterator[dict[str, Any]]:
        """The requests that ask for it, as bodies."""
        if self.names is None:
            limit = {} if self.limit is None else {"limit": self.limit}
            yield {"filter": {**self.conditions, **limit}, "all": not self.conditions}
            return
        names = iter(self.names)
        while chunk := list(islice(names, CHUNK)):
            yield {"casts": chunk}

    def selections(self) -> Iterator[Selection]:
        """The same for the spool itself."""
        from relay.spool.reading import Filter
        from relay.spool.selecting import Selection

        if self.names is None:
            yield Selection(None, Filter(**self.conditions), self.limit)
            return
        names = iter(self.names)
        while chunk := tuple(islice(names, CHUNK)):
            yield Selection(chunk)


def add_arguments(parser: argparse.ArgumentParser, *, everything: bool = True) -> None:
    """The names and the filter of a verb; `everything` for one that takes --all."""
    parser.add_argument(
        "casts", nargs="*", metavar="CAST", help="an id, a handle or a unique; - reads them from stdin, one a line"
    )
    add_filters(parser)
    if everything:
        parser.add_argument("--all", action="store_true", help="every cast that the verb can change")


def wanted(options: argparse.Namespace, *, implied: bool = False) -> Wanted:
    """What is selected; `implied` where an option of the verb's own says which casts, so that no filter is needed."""
    conditions = {name: getattr(options, name) for name in FILTERS if getattr(options, name) is not None}
    everything = getattr(options, "all", False)
    if options.casts:
        if conditions or everything or options.limit is not None:
            raise Misused("casts by name and a filter: only one of them")
        return Wanted(_names(options.casts), {}, None)
    if everything and conditions:
        raise Misused("--all and a filter: only one of them")
    if not conditions and not everything and not implied:
        raise Misused("which casts? Give ids, a filter such as --function, or --all")
    return Wanted(None, conditions, options.limit)


def _names(given: Sequence[str]) -> Iterable[str]:
    if "-" not in given:
        return given
    if len(given) > 1:
        raise Misused("- takes the names from stdin, and no others beside it")
    return _lines(sys.stdin)


def _lines(stream: Iterable[str]) -> Iterator[str]:
    for line in stream:
        name = line.strip()
        if len(name) > LONGEST_NAME:
            raise Misused(f"a line of stdin is no name of a cast: {name[:40]!r}...")
        if name:
            yield name
