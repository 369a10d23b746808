"""`show`: one cast, whole: what became of it, attempt by attempt; with the agent down too.

It is named by its id, its handle or its unique. A cast that was purged is no longer here, and one that is done only
where [spool] keep_done has a history kept.
"""

from __future__ import annotations

import argparse
import base64
import sys
import time
from typing import TYPE_CHECKING, Any

from relay.cli import formats, offline
from relay.cli.ask import Agent
from relay.cli.exits import DONE, Failed, Misused, NotRunning

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs

#: the columns of the table of attempts
ATTEMPT = ("attempt", "began_at", "waited_seconds", "seconds", "upstream", "reason", "error")


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("show", help="one cast with its attempts", description=__doc__)
    parser.add_argument("cast", metavar="CAST", help="an id, a handle or a unique")
    parser.add_argument("--payload", action="store_true", help="show the payload too")
    parser.add_argument("--raw", action="store_true", help="write the bytes of the payload to stdout, and nothing else")
    formats.add_arguments(parser, rows=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print it."""
    found = _find(options)
    if options.raw:
        payload = _payload(found)
        if payload is None:
            raise Failed(f"cast {found['id']} is done, and its payload is not kept")
        sys.stdout.buffer.write(payload)
        return DONE
    if found["others"]:
        others = ", ".join(map(str, found["others"]))
        print(f"other casts with this unique: {others}", file=sys.stderr)
    if options.format == "table" and not options.column:
        _print(found)
    else:
        formats.show_object(options, found)
    return DONE


def _find(options: argparse.Namespace) -> dict[str, Any]:
    if not options.cast:
        raise Misused("a cast has a name: an id, a handle or a unique")
    payload = options.payload or options.raw
    try:
        query = {"cast": options.cast, "payload": int(payload)}
        return Agent(options.places.control).ask("GET", "/v1/show", query)
    except NotRunning as agent:
        from relay.clock import wall_us
        from relay.spool.showing import show

        with offline.instead_of(agent):
            found = show(options.places.spool, options.cast, wall_us(), payload=payload)
        if found is None:
            raise Failed(f"no cast in the spool is {options.cast!r} ({agent})") from None
        offline.say(agent)
        return {**found, "in_flight": False}


def _payload(found: dict[str, Any]) -> bytes | None:
    if "payload_base64" in found:
        return base64.b64decode(found["payload_base64"])
    return found["payload"].encode() if "payload" in found else None


def _print(found: dict[str, Any]) -> None:
    """For people: fields under one another, then the attempts as a table."""
    rows = [(name, value) for name, value in found.items() if name not in ("history", "others")]
    for name in ("accepted_at", "not_before", "since"):
        rows = [(key, _time(value)) if key == name else (key, value) for key, value in rows]
    formats.print_table(["field", "value"], rows)
    if found["history"]:
        print()
        attempts = [{**attempt, "began_at": _time(attempt["began_at"])} for attempt in found["history"]]
        names = ["number", *ATTEMPT[1:]]
        formats.print_table(ATTEMPT, [[attempt[name] for name in names] for attempt in attempts])


def _time(moment: float | None) -> str | None:
    if moment is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment * 1000) % 1000:03d}Z"
