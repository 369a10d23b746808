"""What the verbs that change casts have in common: what they ask, how they answer, and the work with the agent down.

Promises: nothing is changed in bulk unasked: with a filter or --all a terminal is asked, and without a terminal --yes
is needed (2).  --dry-run changes nothing.  The answer has what was matched, changed and skipped, in every format.  With
the agent down the same is done to the spool itself, under its lock; where an agent owns it after all, 75.

Exit 1 where casts were named and there is none of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from relay.cli import formats, offline, selecting
from relay.cli.ask import Agent
from relay.cli.exits import DONE, Failed, Misused, NotRunning
from relay.cli.selecting import Wanted

if TYPE_CHECKING:
    from relay.spool.edits import Verb
    from relay.spool.offline import Spooled

FIELDS = ("matched", "changed", "skipped", "in_flight", "twins", "other", "missing")


class Change(NamedTuple):
    """A verb: its path, its word on disk, and how people say that it was done."""

    name: str
    done: str
    #: what more a request's body says
    more: tuple[tuple[str, Any], ...] = ()
    #: a sentence about what it does beside them
    beside: str = ""
    #: run before the casts are changed: with the agent, or on the spool itself
    first: Callable[[Agent], None] | None = None
    first_offline: Callable[[Spooled], None] | None = None

    @property
    def verb(self) -> Verb:
        """The verb of `relay.spool.edits`."""
        from relay.spool.edits import Verb

        return Verb.MOVE if ("exported", True) in self.more else Verb(self.name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a verb that changes casts."""
    selecting.add_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask; needed for a filter without a terminal")
    formats.add_arguments(parser, rows=False)


def run(options: argparse.Namespace, change: Change, *, implied: bool = False) -> int:
    """Do it, or say what would be done."""
    wanted = selecting.wanted(options, implied=implied)
    try:
        tally = _with_agent(options, change, wanted)
    except NotRunning as agent:
        # names that came from stdin are read once only: nothing was asked of an agent that is not there
        with offline.instead_of(agent), offline.owned(options.places.spool) as spooled:
            offline.say(agent, "read from" if options.dry_run else "changed in")
            tally = _on_disk(options, change, wanted, spooled)
    show(options, change, tally)
    named = wanted.names is not None
    return Failed.exit_code if named and tally["missing"] and not tally["matched"] else DONE


def _with_agent(options: argparse.Namespace, change: Change, wanted: Wanted) -> dict[str, Any]:
    agent = Agent(options.places.control)
    # before stdin is read
    agent.ask("GET", "/v1/holds")

    def ask(dry_run: bool) -> Iterator[dict[str, Any]]:
        for body in wanted.bodies():
            yield from _answers(agent, f"/v1/{change.name}", {**body, **dict(change.more), "dry_run": dry_run})

    if not options.dry_run:
        confirm(options, change, wanted, lambda: _sum(ask(True))["matched"])
        if change.first is not None:
            change.first(agent)
    return _sum(ask(options.dry_run))


def _answers(agent: Agent, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The last line of one request."""
    *_, last = agent.lines(path, {}, body)
    if "error" in last:
        raise Failed(f"{last['error']}; {last['changed']} casts had been changed by then")
    yield last


def _on_disk(options: argparse.Namespace, change: Change, wanted: Wanted, spooled: Spooled) -> dict[str, Any]:
    from dataclasses import replace

    verb, exported = change.verb, ("exported", True) in change.more

    def edit(dry_run: bool) -> Iterator[dict[str, Any]]:
        held_by = str(dict(change.more).get("held_by", ""))
        for selection in wanted.selections():
            chosen = replace(selection, exported=exported)
            yield from (tally.shown() for tally in spooled.edit(verb, chosen, held_by=held_by, dry_run=dry_run))

    if options.dry_run:
        return _sum(edit(True))
    confirm(options, change, wanted, lambda: _sum(edit(True))["matched"])
    if change.first_offline is not None:
        change.first_offline(spooled)
    tally, end = dict.fromkeys(FIELDS, 0), "; broken off"
    try:
        _sum(edit(False), tally)
        end = ""
    finally:
        counts = ", ".join([f"{name} {tally[name]}" for name in FIELDS[:3]])
        offline.log(f"{verb.value} {wanted.words()}: {counts}{end}")
    return tally


def _sum(answers: Iterator[dict[str, Any]], tally: dict[str, int] | None = None) -> dict[str, int]:
    """The answers together; in `tally`, so that what had come when one failed is there."""
    tally = dict.fromkeys(FIELDS, 0) if tally is None else tally
    for answer in answers:
        for name in FIELDS:
            tally[name] += answer[name]
    return tally


def confirm(options: argparse.Namespace, change: Change, wanted: Wanted, count: Callable[[], int]) -> None:
    """Ask before a change in bulk; Misused where nobody can be asked and --yes is missing."""
    if options.yes or wanted.names is not None:
        return
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        raise Misused(f"{change.name} by a filter, without a terminal: say --yes, or look with --dry-run first")
    number = count()
    print(f"{change.name} {_casts(number)}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failed("nothing was changed")


def show(options: argparse.Namespace, change: Change, tally: dict[str, Any]) -> None:
    """Print what came of it."""
    answer = {**tally, "changed": 0 if options.dry_run else tally["changed"], "dry_run": options.dry_run}
    if options.format != "table" or options.column:
        formats.show_object(options, answer)
        return
    if options.dry_run:
        print(f"Would change {tally['matched'] - tally['skipped']} of {_casts(tally['matched'])}.", end="")
    else:
        print(f"{change.done} {tally['changed']} of {_casts(tally['matched'])}.", end="")
    reasons = (
        ("in_flight", "in flight"),
        ("twins", "with a living twin"),
        ("other", "in another state"),
    )
    skipped = [f"{tally[name]} {words}" for name, words in reasons if tally[name]]
    print(f" Skipped: {', '.join(skipped)}." if skipped else "", end="")
    print(f" Not found: {tally['missing']}." if tally["missing"] else "", end="")
    print(f" {change.beside}" if change.beside and not options.dry_run else "")


def _casts(number: int) -> str:
    return "1 cast" if number == 1 else f"{number} casts"
