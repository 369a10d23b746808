"""`hold`: casts are kept back: they stay in the spool, are not executed, and do not age, until they are released.

With --new what is still to come for the functions of --function is kept back too, until the time of --until (then all
that this kept back is released) or until `release` with the same --function. --list shows what is held so.
"""

from __future__ import annotations

import argparse
import re
import time
from typing import TYPE_CHECKING, Any

from relay.cli import changing, formats, offline
from relay.cli.arguments import duration
from relay.cli.ask import Agent
from relay.cli.changing import Change
from relay.cli.exits import DONE, Misused, NotRunning

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs
    from relay.spool.offline import Spooled

COLUMNS = ("function", "until", "held")


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("hold", help="keep casts back", description=__doc__)
    changing.add_arguments(parser)
    parser.add_argument("--new", action="store_true", help="what is still to come for --function too")
    parser.add_argument(
        "--until",
        type=moment,
        metavar="T",
        help="with --new: for so long (30m, 2h), until a Unix time (@1700000000) or a date (2026-01-31T06:00)",
    )
    parser.add_argument("--list", action="store_true", help="show which functions are held for what is still to come")
    parser.set_defaults(run=run)


def moment(text: str) -> float:
    """A Unix time: `@` and seconds, a date and time of this host's, or a duration from now."""
    if re.fullmatch(r"@[0-9]+(\.[0-9]+)?", text):
        return float(text[1:])
    if "-" in text:
        from datetime import datetime

        try:
            return datetime.fromisoformat(text).astimezone().timestamp()
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no date") from None
    return time.time() + duration(text)


def run(options: argparse.Namespace) -> int:
    """Hold them."""
    if options.list:
        return _list(options)
    if options.until is not None and not options.new:
        raise Misused("--until goes with --new")
    if options.new and (options.function is None or options.casts):
        raise Misused("--new goes with --function")
    if options.until is not None and options.until <= time.time():
        raise Misused("--until: that is over")
    change = Change("hold", "Held")
    if options.new:
        body = {"function": options.function, "until": options.until}

        def with_agent(agent: Agent) -> None:
            agent.ask("POST", "/v1/holds", body=body)

        def on_disk(spooled: Spooled) -> None:
            spooled.hold_new(options.function, options.until)
            until = "" if options.until is None else f" until=@{options.until:.0f}"
            offline.log(f"hold new function={options.function!r}{until}")

        end = "it is released" if options.until is None else time.strftime("%F %T", time.localtime(options.until))
        change = Change(
            "hold",
            "Held",
            (("held_by", f"new {options.function}"),),
            f"What is still to come for {options.function} is held until {end}.",
            with_agent,
            on_disk,
        )
    return changing.run(options, change)


def _list(options: argparse.Namespace) -> int:
    rows: list[dict[str, Any]]
    try:
        rows = Agent(options.places.control).ask("GET", "/v1/holds")["holds"]
    except NotRunning as agent:
        from relay.spool import reading

        with offline.instead_of(agent):
            rows = reading.holds(options.places.spool)
        offline.say(agent)
    formats.show_rows(options, COLUMNS, rows)
    return DONE
