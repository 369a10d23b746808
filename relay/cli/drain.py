"""`drain`: new casts are refused, and it waits until the spool holds nothing but dead and held ones.

Exit 0 when that is so, 75 with what stands in the way when time is up.  It stays draining either way, over a
restart too; asking again just waits.  An agent that goes away meanwhile is waited for, for two minutes.

On a terminal the progress is one line that changes, elsewhere a line whenever there is something new, both on stderr.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from relay.cli import formats
from relay.cli.arguments import duration
from relay.cli.ask import Agent
from relay.cli.exits import DONE, NOT_DRAINED, Failed, NotRunning
from relay.cli.pace import Pace
from relay.clock import spell

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs

#: seconds between two looks at first and at last, and between two lines of progress where there is no terminal
FIRST_LOOK_S, LAST_LOOK_S, PROGRESS_S = 0.05, 0.5, 5.0
#: seconds that an agent may be away, to be restarted
RETURN_S = 120.0
#: blockers named to people; `-f json` names more
BLOCKERS_SHOWN = 20
#: how the reason begins of a function that nothing stands in the way of
IN_PROGRESS = "in progress"
#: characters of a line on a terminal, however narrow it says it is
NARROWEST = 40


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
    if answer["state"] == "drained":
        for text in _set_aside(agent):
            print(f"Not counted: {text}", file=sys.stderr)
    return NOT_DRAINED if answer["remaining"] else DONE


def _set_aside(agent: Agent) -> list[str]:
    """What lies beside the spool, so that nothing is said of it: casts may be in there."""
    try:
        problems = agent.ask("GET", "/v1/status")["problems"]
    except Failed:
        # one that has just ended said the other thing before
        return []
    return [problem["text"] for problem in problems if problem["code"] == "quarantined"]


def _wait(agent: Agent, answer: dict[str, Any], deadline: float | None) -> dict[str, Any]:
    """The last answer: nothing remains, or time is up."""
    pause, pace, progress = FIRST_LOOK_S, Pace(), _Progress()
    try:
        while answer["remaining"]:
            now = time.monotonic()
            pace.look(now, answer["remaining"])
            progress.say(now, answer, pace)
            if deadline is not None and now >= deadline:
                break
            time.sleep(pause if deadline is None else min(pause, deadline - now))
            pause = min(2 * pause, LAST_LOOK_S)
            try:
                answer = agent.ask("GET", "/v1/drain")
            except NotRunning as gone:
                progress.note(f"{gone}; waiting for it to come back")
                answer = _return(agent, gone, deadline)
            if answer["state"] == "running":
                raise Failed("the agent was told to resume, and accepts new casts again")
    finally:
        progress.end()
    return answer


def _return(agent: Agent, gone: NotRunning, deadline: float | None) -> dict[str, Any]:
    """What an agent answers that was restarted; the drain is asked for again, for the part that it does once."""
    until = time.monotonic() + RETURN_S
    if deadline is not None:
        until = min(until, deadline)
    while True:
        try:
            answer = agent.ask("GET", "/v1/drain")
            return answer if answer["state"] == "running" else agent.ask("POST", "/v1/drain", at_length=True)
        except NotRunning:
            if time.monotonic() >= until:
                raise gone from None
            time.sleep(LAST_LOOK_S)


class _Progress:
    """Says how it goes, on stderr."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._told_at = float("-inf")
        self._told = ""

    def say(self, now: float, answer: dict[str, Any], pace: Pace) -> None:
        """So much is left."""
        line = told(answer, pace)
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{line[: _width() - 1]}")
            sys.stderr.flush()
        elif line != self._told and now - self._told_at >= PROGRESS_S:
            print(line, file=sys.stderr, flush=True)
            self._told_at = now
        self._told = line

    def note(self, line: str) -> None:
        """Something that is not to be overwritten."""
        self.end()
        print(line, file=sys.stderr, flush=True)

    def end(self) -> None:
        """The line that changes is gone."""
        if self._terminal and self._told:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def told(answer: dict[str, Any], pace: Pace) -> str:
    """What remains, how fast it goes, when what moves will be done, and what most of the rest waits for."""
    parts = [f"{_casts(answer['remaining'])} to go"]
    moving = sum([one["count"] for one in answer["blockers"] if one["reason"].startswith(IN_PROGRESS)])
    rate, seconds = pace.rate, pace.seconds_for(moving)
    if rate and moving:
        parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
        whose = "" if moving == answer["remaining"] else f" for {moving:,} of them"
        parts.append(f"about {spell(seconds)}{whose}" if seconds is not None else "no end in sight")
    elif rate == 0:
        parts.append("nothing moves")
    stuck = [one for one in answer["blockers"] if not one["reason"].startswith(IN_PROGRESS)]
    if answer["blockers"]:
        first = (stuck or answer["blockers"])[0]
        parts.append(f"most of {first['function']} ({first['count']:,}): {first['reason']}")
    return "; ".join(parts)


def _width() -> int:
    import shutil

    return max(NARROWEST, shutil.get_terminal_size().columns)


def _show(options: argparse.Namespace, answer: dict[str, Any]) -> None:
    if options.format != "table" or options.column:
        names = ("state", "remaining", "blockers", "dead", "held")
        formats.show_object(options, {name: answer[name] for name in names})
        return
    print(sentence(answer))
    blockers = answer["blockers"][:BLOCKERS_SHOWN]
    if blockers:
        formats.print_table(["function", "count", "reason"], [tuple(blocker.values()) for blocker in blockers])
    if answer["functions"] > len(blockers):
        print(f"and {answer['functions'] - len(blockers)} more functions")


def sentence(answer: dict[str, Any]) -> str:
    """How it stands, in words that can be relied on."""
    kept = f"{answer['dead']} dead and {answer['held']} held casts"
    if answer["state"] == "drained":
        return (
            f"Drained: nothing but {kept} is left here, and those stay on disk.\n"
            "New casts are refused, over restarts too, until `relay-cli resume`. It is safe to power off."
        )
    if answer["state"] == "draining":
        return f"Draining: {_casts(answer['remaining'])} to go; {kept} would stay."
    return f"Not draining: a drain would wait for {_casts(answer['remaining'])}; {kept} would stay."


def _casts(number: int) -> str:
    return "1 cast" if number == 1 else f"{number:,} casts"
