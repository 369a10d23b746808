"""`drain`: new casts are refused, and it waits until the spool holds nothing but dead and held ones.

Exit 0 when that is so, 75 with what stands in the way when time is up.  It stays draining either way, over a
restart too; asking again just waits.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from relay.cli import formats
from relay.cli.arguments import duration
from relay.cli.ask import Agent
from relay.cli.exits import DONE, NOT_DRAINED, Failed

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs

#: seconds between two looks at first and at last, and between two lines of progress
FIRST_LOOK_S, LAST_LOOK_S, PROGRESS_S = 0.05, 0.5, 1.0
#: blockers named to people; `-f json` names more
BLOCKERS_SHOWN = 20


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("drain", help="refuse new casts and wait until the spool is empty", description=__doc__)
    parser.add_argument("--timeout", type=duration, metavar="TIME", help="wait so long at most (30s, 5m; for ever)")
    parser.add_argument("--no-wait", action="store_true", help="begin to drain and return at once")
    parser.add_argument("--dry-run", action="store_true", help="show what stands in the way, and change nothing")
    formats.add_arguments(parser, rows=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Drain, wait, and say how it ended."""
    agent = Agent(options.places.control, options.patience)
    if options.dry_run:
        _show(options, agent.ask("GET", "/v1/drain"))
        return DONE
    began = time.monotonic()
    # making many deferred casts due takes as long as it takes
    answer = agent.ask("POST", "/v1/drain", at_length=True)
    if not options.no_wait:
        answer = _wait(agent, answer, None if options.timeout is None else began + options.timeout)
    _show(options, answer)
    return NOT_DRAINED if answer["remaining"] else DONE


def _wait(agent: Agent, answer: dict[str, Any], deadline: float | None) -> dict[str, Any]:
    """The last answer: nothing remains, or time is up."""
    pause, told_at, told = FIRST_LOOK_S, 0.0, ""
    while answer["remaining"]:
        now = time.monotonic()
        line = _progress(answer)
        if line != told and now - told_at >= PROGRESS_S:
            print(line, file=sys.stderr, flush=True)
            told_at, told = now, line
        if deadline is not None and now >= deadline:
            break
        time.sleep(pause if deadline is None else min(pause, deadline - now))
        pause = min(2 * pause, LAST_LOOK_S)
        answer = agent.ask("GET", "/v1/drain")
        if answer["state"] == "running":
            raise Failed("the agent was told to resume, and accepts new casts again")
    return answer


def _progress(answer: dict[str, Any]) -> str:
    first = answer["blockers"][0] if answer["blockers"] else None
    most = f"; most of {first['function']} ({first['count']}): {first['reason']}" if first else ""
    return f"{_casts(answer['remaining'])} to go{most}"


def _show(options: argparse.Namespace, answer: dict[str, Any]) -> None:
    if options.format != "table" or options.column:
        formats.show_object(options, {name: answer[name] for name in ("state", "remaining", "blockers")})
        return
    kept = f"{answer['dead']} dead and {answer['held']} held casts"
    if answer["state"] == "drained":
        print(f"Drained: nothing but {kept} is left, and new ones are refused.")
    elif answer["state"] == "draining":
        print(f"Draining: {_casts(answer['remaining'])} to go; {kept} would stay.")
    else:
        print(f"Not draining: a drain would wait for {_casts(answer['remaining'])}; {kept} would stay.")
    blockers = answer["blockers"][:BLOCKERS_SHOWN]
    if blockers:
        formats.print_table(["function", "count", "reason"], [tuple(blocker.values()) for blocker in blockers])
    if answer["functions"] > len(blockers):
        print(f"and {answer['functions'] - len(blockers)} more functions")


def _casts(number: int) -> str:
    return "1 cast" if number == 1 else f"{number} casts"
