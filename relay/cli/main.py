"""relay-cli: finds the verb, runs it, and turns how it ended into an exit code.

Promises: whatever a verb could not do is one line on stderr and a code of `exits`; an interrupt and a reader
that has gone end it quietly.  Never does: import what only another verb needs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import relay
from relay.cli.arguments import duration
from relay.cli.exits import FAILED, INTERRUPTED, NOBODY_READS, Failed
from relay.cli.places import Places

#: the verbs, in the order of the help, and the module of each
VERBS = {
    "status": "status",
    "top": "top",
    "backlog": "backlog",
    "shape": "shape",
    "show": "show",
    "dead": "dead",
    "cast": "cast",
    "drain": "drain",
    "resume": "resume",
    "upstreams": "upstreams",
    "hold": "hold",
    "release": "release",
    "retry": "retry",
    "bury": "bury",
    "revive": "revive",
    "purge": "purge",
    "export": "export",
    "import": "imports",
    "check": "check",
    "doctor": "doctor",
}
#: the options that may stand before a verb with a word of their own
VALUED = ("--config-file", "--control", "--patience")


class _Parser(argparse.ArgumentParser):
    """Takes no option by a part of its name: a script that relied on one would break with the next option."""

    def __init__(self, **more: Any) -> None:
        super().__init__(allow_abbrev=False, **more)


def parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The command line: what is needed of it to read these words, and all of it where they name no verb."""
    top = _Parser(prog="relay-cli", description="Look into a relay-agent, hand casts to it, and drain it.")
    top.add_argument("--version", action="version", version=f"relay-cli {relay.__version__}")
    top.add_argument(
        "--config-file",
        action="append",
        default=[],
        metavar="FILE",
        help="the agent's configuration (/etc/relay/relay.conf); repeatable",
    )
    top.add_argument("--control", metavar="PATH", help="the control socket, in the place of [control] socket")
    top.add_argument(
        "--patience",
        type=duration,
        metavar="TIME",
        help="how long an agent that is silent is waited for (5s for status, else 60s)",
    )
    # without its own name argparse asks how wide the terminal is, which imports four packages
    verbs = top.add_subparsers(metavar="VERB", required=True, prog=top.prog)
    for module in [VERBS[verb]] if (verb := _verb(argv)) in VERBS else VERBS.values():
        import_module(f"relay.cli.{module}").add(verbs)
    return top


def _verb(argv: Sequence[str]) -> str:
    """The word that the parser will take for the verb; empty where it is not plain to see."""
    words = iter(argv)
    for word in words:
        if word in VALUED:
            next(words, None)
        else:
            return word
    return ""


def _parse(top: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; a payload may stand behind the options too, where argparse alone would not look for it."""
    options, rest = top.parse_known_args(argv)
    if len(rest) == 1 and not rest[0].startswith("-") and getattr(options, "payload", "") is None:
        options.payload, rest = rest[0], []
    if rest:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code, or exits 2 with the usage."""
    words = sys.argv[1:] if argv is None else argv
    options = _parse(parser(words), words)
    options.places = Places(options.config_file, options.control)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except Failed as failed:
        print(f"relay-cli: {failed}", file=sys.stderr)
        return failed.exit_code
    except UnicodeEncodeError as error:
        wrong = error.object[error.start : error.end]
        print(f"relay-cli: {wrong!a} cannot be written as {error.encoding}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # what is still buffered must not be tried once more at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    return code
