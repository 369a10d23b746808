"""`import`: casts from lines that `export` wrote, from stdin or files.

The same line twice is one cast, so an import that was broken off can simply be repeated. Casts keep their idempotency
keys, uniques, ages and attempts; held and dead ones stay so. A line that is none ends it (1): what came before it, up
to some hundred lines, was imported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay.cli import formats, offline
from relay.cli.ask import Agent
from relay.cli.exits import DONE, Failed, NotRunning

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs
    from relay.spool.offline import Spooled

#: lines and bytes of one piece, beyond its first line
LINES, BYTES = 500, 1024 * 1024
FIELDS = ("imported", "repeated", "twins")


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("import", help="take in what export wrote", description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help="read from here; without any, and for -, from stdin")
    parser.add_argument("--dry-run", action="store_true", help="check every line, and import nothing")
    formats.add_arguments(parser, rows=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Import them."""
    agent = Agent(options.places.control)
    try:
        agent.ask("GET", "/v1/holds")
    except NotRunning as error:
        with offline.instead_of(error), offline.owned(options.places.spool) as spooled:
            offline.say(error, "read from" if options.dry_run else "written to")
            said = _import(options, lambda piece: _take_in(spooled, piece, dry_run=options.dry_run))
    else:
        query = {"dry_run": int(options.dry_run)}
        said = _import(options, lambda piece: agent.ask("POST", "/v1/import", query, body=piece))
    if options.format != "table" or options.column:
        formats.show_object(options, {**said, "dry_run": options.dry_run})
    else:
        would = "Would import" if options.dry_run else "Imported"
        print(f"{would} {said['imported']} casts. {said['repeated']} were here, {said['twins']} have a living twin.")
    return DONE


def _import(options: argparse.Namespace, send: Callable[[bytes], dict[str, Any]]) -> dict[str, Any]:
    said = dict.fromkeys(FIELDS, 0)
    before = 0
    for piece, lines in _pieces(_lines(options.files)):
        try:
            answer = send(piece)
        except (Failed, ValueError) as error:
            raise Failed(f"{error}{_so_far(before, said['imported'])}") from None
        before += lines
        for name in FIELDS:
            said[name] += answer[name]
    return said


def _take_in(spooled: Spooled, piece: bytes, *, dry_run: bool) -> dict[str, int]:
    """A piece, into the spool itself."""
    said = spooled.import_lines(piece, dry_run=dry_run)
    if not dry_run:
        offline.log(f"import: new {said['imported']}, repeated {said['repeated']}, twins {said['twins']}")
    return said


def _so_far(before: int, imported: int) -> str:
    """What an error's own count of lines leaves out."""
    if not before:
        return ""
    return f" (counted from line {before + 1} on; before it {imported} were imported, and may be imported again)"


def _lines(files: list[str]) -> Iterator[bytes]:
    for file in files or ["-"]:
        if file == "-":
            yield from sys.stdin.buffer
            continue
        try:
            with Path(file).open("rb") as stream:
                yield from stream
        except OSError as error:
            raise Failed(f"{file}: {error.strerror}") from None


def _pieces(lines: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Lines together, and how many they are."""
    piece = bytearray()
    count = 0
    for line in lines:
        if count and (count >= LINES or len(piece) + len(line) > BYTES):
            yield bytes(piece), count
            piece.clear()
            count = 0
        piece += line if line.endswith(b"\n") else line + b"\n"
        count += 1
    if count:
        yield bytes(piece), count
