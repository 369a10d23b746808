"""`export`: casts as JSON Lines on stdout, for `import` on another host or for keeping.

With --hold they are held first, so that they are not executed here too; what is in flight is left out and counted, and
can be exported by asking again. Once all lines are written, the casts are marked: when they are safe elsewhere,
`purge --exported` takes them away here, and until then `release` undoes it. A cast that is damaged is not written (1);
how many of those named are not here is said (1 where that is all of them).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from relay.cli import offline, selecting
from relay.cli.ask import Agent
from relay.cli.exits import DONE, Failed, NotRunning
from relay.cli.selecting import CHUNK, Wanted

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("export", help="write casts as JSON Lines", description=__doc__)
    selecting.add_arguments(parser)
    parser.add_argument("--hold", action="store_true", help="hold them first, and mark them as exported")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write them."""
    # every cast unless a filter says less: an export loses nothing
    wanted = selecting.wanted(options, implied=True)
    try:
        written = _from_agent(Agent(options.places.control), wanted, options.hold)
    except NotRunning as agent:
        with offline.instead_of(agent), offline.owned(options.places.spool) as spooled:
            offline.say(agent)
            came_to = "broken off"
            try:
                written = _write(spooled.export(wanted.selections(), hold=options.hold))
                if options.hold:
                    spooled.mark(written.ids)
                came_to = f"wrote {len(written.ids)}"
            finally:
                offline.log(f"export{' and hold' * options.hold} {wanted.words()}: {came_to}")
    skipped = f", {written.in_flight} left out because they are in flight" if written.in_flight else ""
    missing = f", {written.missing} not found" if written.missing else ""
    print(f"exported {len(written.ids)} cast{'s' * (len(written.ids) != 1)}{skipped}{missing}", file=sys.stderr)
    if written.damaged:
        raise Failed(f"{written.damaged} casts are damaged and were not exported")
    return Failed.exit_code if written.missing and not written.ids else DONE


class _Written:
    """What was written: ids, casts left out, casts that are not here, casts that cannot be read."""

    def __init__(self) -> None:
        self.ids = array("q")
        self.in_flight = 0
        self.missing = 0
        self.damaged = 0


def _from_agent(agent: Agent, wanted: Wanted, hold: bool) -> _Written:
    agent.ask("GET", "/v1/holds")

    def lines() -> Iterator[bytes]:
        for body in wanted.bodies():
            yield from agent.raw_lines("/v1/export", {}, {**body, "hold": hold})

    written = _write(lines())
    if hold:
        for chunk in _chunks(written.ids):
            answers = agent.lines("/v1/exported", {}, {"casts": [str(id_) for id_ in chunk]})
            if any("error" in answer for answer in answers):
                raise Failed("the casts were written out and held, but could not all be marked as exported")
    return written


def _write(lines: Iterable[bytes]) -> _Written:
    """Write the lines of casts; whatever else comes is about them."""
    written, out = _Written(), sys.stdout.buffer
    for line in lines:
        found: dict[str, Any] = json.loads(line)
        if "done" in found:
            written.in_flight += found["in_flight"]
            # an agent that is older than this command does not say
            written.missing += found.get("missing", 0)
        elif "error" in found and "function" not in found:
            raise Failed(f"{found['error']}; the export is not whole")
        elif "damaged" in found:
            written.damaged += 1
        else:
            out.write(line.rstrip(b"\n") + b"\n")
            written.ids.append(found["id"])
    out.flush()
    try:
        os.fsync(out.fileno())
    except OSError:
        # a pipe or a terminal has no disk behind it
        pass
    return written


def _chunks(ids: array[int]) -> Iterator[array[int]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]
