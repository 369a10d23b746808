"""`cast`: hands one cast over to the agent and prints its handle once it is on disk.

It stands on relay.client, imported when it is asked for: a unique is always sent, and a connection that is lost before
the answer is tried once more under it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from relay.cli.ask import unreachable
from relay.cli.exits import DONE, Failed, Misused, NotPermitted, NotRunning

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs

_DESCRIPTION = (
    "Hand a cast over to the agent on this host. Prints its handle once it is on disk. "
    "A payload or function that begins with a dash stands behind --."
)
#: seconds to wait for the answer: it comes after an fsync
PATIENCE_S = 30.0


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("cast", help="hand a cast over", description=_DESCRIPTION)
    parser.add_argument("function", help="who is to do it: the name that workers register")
    parser.add_argument("payload", nargs="?", help="the payload; without it and --file it is read from stdin")
    parser.add_argument("--file", metavar="FILE", help="read the payload from here")
    parser.add_argument("--unique", help="the caller's name for the cast (a new UUIDv7)")
    parser.add_argument("--priority", choices=("high", "normal", "low"), default="normal", help="normal unless given")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Cast it."""
    if options.payload is not None and options.file is not None:
        raise Misused("a payload and --file: only one of them can be cast")
    if options.unique == "":
        raise Misused("--unique: an empty one is none, and a repeat would be another cast")
    unique = os.fsencode(options.unique) if options.unique is not None else None
    print(_cast(options.places.intake, os.fsencode(options.function), unique, _payload(options), options.priority))
    return DONE


def _payload(options: argparse.Namespace) -> bytes:
    if options.payload is not None:
        return os.fsencode(options.payload)
    if options.file is None:
        return sys.stdin.buffer.read()
    try:
        return Path(options.file).read_bytes()
    except OSError as error:
        raise Failed(f"{options.file}: {error.strerror}") from None


def _cast(path: Path, function: bytes, unique: bytes | None, payload: bytes, priority: str) -> str:
    from relay.client import Client, Rejected, Unanswered, Unavailable

    with Client(path, timeout=PATIENCE_S) as client:
        try:
            return client.cast(function, payload, unique=unique, priority=priority)
        except Rejected as error:
            raise (NotPermitted if error.code == "not_permitted" else Failed)(str(error)) from None
        except Unavailable as error:
            cause = error.__cause__
            raise (unreachable(path, cause) if isinstance(cause, OSError) else Failed(str(error))) from None
        except Unanswered as error:
            sent = error.unique
            assert sent is not None
            again = f"repeat it with --unique {sent if isinstance(sent, str) else os.fsdecode(sent)}"
            # an agent that ended is not running; one that is silent is
            lost = isinstance(error.__cause__, OSError)
            raise (NotRunning if lost else Failed)(f"{path}: {error}; {again}") from None
        except ValueError as error:
            raise Misused(str(error)) from None
