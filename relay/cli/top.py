"""`top`: the agent, live: rates, upstreams, the oldest cast, and what each function does.

On a terminal it is a screen that is drawn anew every `--interval`, until q; keys sort and filter.  An agent that goes
away is waited for.  With `-n N`, or where standard output is no terminal, it prints N screens (one) as text and ends.

Promises: the terminal is as before at every end but SIGKILL.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

from relay.cli.arguments import count, duration
from relay.cli.ask import Agent
from relay.cli.exits import DONE, Failed, Misused, NotPermitted, NotRunning
from relay.cli.screen import KEYS, SORTS, Look, clean, screen

if TYPE_CHECKING:
    import curses

    from relay.cli.arguments import Verbs

INTERVAL_S, LEAST_S = 2.0, 0.1
#: seconds that an agent may take to answer
PATIENCE_S = 5.0
#: characters and lines where there is no terminal
PLAIN = (80, 24)
#: seconds between two looks of a plain screen, so that there are rates
FIRST_S = 1.0
_ESCAPE, _ENTER = 27, (10, 13)


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("top", help="live view", description=__doc__)
    parser.add_argument("--interval", type=duration, metavar="TIME", default=INTERVAL_S, help="between two looks (2s)")
    parser.add_argument("-n", "--number", type=count, metavar="N", help="print N screens as text, and end")
    parser.add_argument(
        "--sort", choices=SORTS, default="backlog", help="what the functions are sorted by (%(default)s)"
    )
    parser.add_argument("--function", metavar="GLOB", default="", help="only functions that match")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show it."""
    if options.interval < LEAST_S:
        raise Misused(f"--interval is at least {LEAST_S:g} s")
    agent = Agent(options.places.control, options.patience or PATIENCE_S)
    if options.number is not None or not (sys.stdout.isatty() and sys.stdin.isatty()):
        return _print(options, agent)
    return _live(options, agent)


def look(agent: Agent) -> Look:
    """One look."""
    return Look(time.monotonic(), agent.ask("GET", "/v1/status"), list(agent.lines("/v1/functions", {})))


def _print(options: argparse.Namespace, agent: Agent) -> int:
    before = look(agent)
    for number in range(1 if options.number is None else options.number):
        time.sleep(options.interval if number else min(FIRST_S, options.interval))
        now = look(agent)
        size = PLAIN[0], PLAIN[1] + len(now.functions)
        lines = screen(before, now, options.sort, options.function, size, "", sys.stdout.encoding)
        print("\n".join(lines).rstrip(), end="\n\n" if options.number and number + 1 < options.number else "\n")
        before = now
    return DONE


def _live(options: argparse.Namespace, agent: Agent) -> int:
    import curses

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(DONE)

    # curses puts the terminal back as an exception passes by; a signal's default would not let one
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    try:
        curses.setupterm()
    except curses.error as error:
        raise Failed(f"this terminal cannot be drawn on ({error}); -n 1 prints text") from None
    if curses.tigetstr("cup") is None:
        raise Failed("this terminal cannot be drawn on (its cursor cannot be moved); -n 1 prints text")
    return curses.wrapper(lambda window: _Live(options, agent, window).run())


class _Live:
    """The screen and its keys."""

    def __init__(self, options: argparse.Namespace, agent: Agent, window: curses.window) -> None:
        self._agent = agent
        self._window = window
        self._interval_s = options.interval
        self._sort = options.sort
        self._pattern = options.function
        #: the filter that is being typed, None while none is
        self._typed: str | None = None
        self._before: Look | None = None
        self._now: Look | None = None
        self._trouble = ""

    def run(self) -> int:
        """Until q."""
        import curses

        # a terminal that cannot hide its cursor shows it
        with suppress(curses.error):
            curses.curs_set(0)
        next_at = 0.0
        while True:
            now = time.monotonic()
            if now >= next_at:
                self._look()
                next_at = time.monotonic() + self._interval_s
            self._draw()
            self._window.timeout(max(1, round((next_at - time.monotonic()) * 1000)))
            if not self._press(self._window.getch()):
                return DONE

    def _look(self) -> None:
        try:
            found = look(self._agent)
        except (NotPermitted, NotRunning, Failed) as error:
            self._trouble = str(error)
            if isinstance(error, NotPermitted) and self._now is None:
                raise
            # its counts may begin anew, and no rate goes over the gap
            self._before = None
        else:
            self._trouble = ""
            self._before, self._now = self._now, found

    def _draw(self) -> None:
        import curses

        height, width = self._window.getmaxyx()
        note = f"filter: {self._typed}_" if self._typed is not None else self._trouble or KEYS
        if self._now is None:
            lines = ["waiting for the agent", *[""] * (height - 2), clean(note)[:width]]
        else:
            encoding = self._window.encoding
            lines = screen(self._before, self._now, self._sort, self._pattern, (width, height), note, encoding)
        self._window.erase()
        for y, line in enumerate(lines[:height]):
            try:
                # the very last cell of a screen cannot be written without scrolling
                self._window.addnstr(y, 0, line, width - (y == height - 1))
            except curses.error:
                break
        self._window.refresh()

    def _press(self, key: int) -> bool:
        """Take a key in; False to end."""
        if self._typed is not None:
            self._type(key)
        elif key in (ord("q"), ord("Q")):
            return False
        elif key == ord("/"):
            self._typed = ""
        else:
            for sort, (letter, _) in SORTS.items():
                if key == ord(letter):
                    self._sort = sort
        return True

    def _type(self, key: int) -> None:
        import curses

        assert self._typed is not None
        if key in _ENTER:
            # a word without a wildcard is looked for anywhere in the name
            typed = self._typed
            self._pattern = typed if not typed or any(char in typed for char in "*?[") else f"*{typed}*"
            self._typed = None
        elif key == _ESCAPE:
            self._typed = None
        elif key in (curses.KEY_BACKSPACE, 127, 8):
            self._typed = self._typed[:-1]
        elif 32 <= key < 127:
            self._typed += chr(key)
