"""The text commands of a job server, as relay answers them: `version`, `status`, `workers`, `prioritystatus`.

What tools of Gearman (gearadmin and its kin) read: a line a function with tabs between, and a line with a dot.  Numbers
that relay does not know are 0.  Never does I/O; what to say is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: the commands, as `answer` takes them
COMMANDS = frozenset((b"version", b"status", b"workers", b"prioritystatus"))

UNKNOWN = b"ERR unknown_command relay+does+not+know+this+command\r\n"


class FunctionLine(NamedTuple):
    """One function: casts not done nor dead by priority, those in flight, and the workers known upstream."""

    function: bytes
    high: int
    normal: int
    low: int
    in_flight: int
    workers: int


def answer(command: bytes, functions: Iterable[FunctionLine], version: str) -> bytes:
    """The whole answer to a command of COMMANDS."""
    if command == b"version":
        return b"OK %b\n" % version.encode()
    if command == b"status":
        lines = [
            b"%b\t%d\t%d\t%d\n" % (one.function, one.high + one.normal + one.low, one.in_flight, one.workers)
            for one in functions
        ]
    elif command == b"prioritystatus":
        lines = [
            b"%b\t%d\t%d\t%d\t%d\n" % (one.function, one.high, one.normal, one.low, one.workers) for one in functions
        ]
    else:
        lines = []
    return b"".join(lines) + b".\n"
