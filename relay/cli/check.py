"""`check`: the full check of a spool that no agent has open, and with --repair a new one of what can be read.

Exit 0 when it is sound, or was repaired; 1 when it is not; 75 while an agent owns it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay.cli import formats, offline
from relay.cli.exits import DONE, FAILED, Failed, NotPermitted, Owned

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs
    from relay.spool.checking import Finding

COLUMNS = ("check", "where", "text")
#: lost casts named in the sentence that counts them
NAMED = 20


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("check", help="check the spool, with the agent down", description=__doc__)
    parser.add_argument("spool", nargs="?", metavar="PATH", help="the database (the one that the configuration names)")
    parser.add_argument("--repair", action="store_true", help="keep it aside and build a sound one of what can be read")
    formats.add_arguments(parser, rows=True)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check, and say what is wrong."""
    from relay.errors import SpoolOwned, SpoolUnusable
    from relay.spool import checking, locking

    path = Path(options.spool) if options.spool else options.places.spool
    if not path.is_file():
        if not os.access(path.parent, os.X_OK) and path.parent.exists():
            raise NotPermitted(f"{path}: this user may not read the spool")
        raise Failed(f"there is no spool at {path}")
    offline.become_owner(path)
    try:
        lock = locking.lock(path, 0)
    except SpoolOwned as error:
        raise Owned(f"{error}; a check needs it alone") from None
    except SpoolUnusable as error:
        raise (Failed if os.access(path.parent, os.W_OK) else NotPermitted)(str(error)) from None
    try:
        seen = _Seen(checking.check(path))
        if seen.any or options.format != "table":
            formats.show_rows(options, COLUMNS, seen)
        if not seen.findings:
            print(f"{path} is sound", file=sys.stderr)
            return DONE
        print(f"{path} is not sound: {seen.findings} finding{'s' * (seen.findings > 1)}", file=sys.stderr)
        return _repair(path, lock) if options.repair else FAILED
    except SpoolUnusable as error:
        raise Failed(str(error)) from None
    finally:
        os.close(lock)


def _repair(path: Path, lock: int) -> int:
    from relay.clock import wall_us
    from relay.spool import locking, repairing

    done = repairing.repair(path, wall_us(), locking.noted(lock)[1])
    offline.log(
        f"check --repair {path}: casts {done.casts}, damaged {done.damaged}, lost {len(done.lost) + done.missing}"
    )
    print(f"repaired: {done.casts} casts, {done.damaged} of them dead as damaged; the old spool is kept in {done.kept}")
    if done.lost:
        some = ", ".join(map(str, done.lost[:NAMED])) + (", ..." if len(done.lost) > NAMED else "")
        print(f"lost: {len(done.lost)} casts of which nothing but the id can be read ({some})")
    if done.missing:
        print(f"missing: {done.missing} casts were counted of which nothing is left")
    return DONE


class _Seen:
    """The findings as rows, counted as they go by."""

    def __init__(self, findings: Iterator[Finding]) -> None:
        self._first = next(findings, None)
        self._source = findings
        self.findings = 0
        self.any = self._first is not None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for finding in chain([self._first] if self._first is not None else [], self._source):
            self.findings += 1
            yield finding._asdict()
