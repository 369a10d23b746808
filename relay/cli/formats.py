"""What a verb answers, printed as it was asked for: in cliff's manner, for one object or for a list of rows.

Promises: json, jsonl, csv and value write each row as it comes, however many there are; table and yaml need
all rows at once, so they stop at MOST_ROWS and say so on stderr.  In a table and as values nothing
unprintable reaches the terminal.

Never does: know a verb.  When it fails: Misused for a column that there is not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from relay.cli.exits import Misused

FORMATS = ("table", "json", "jsonl", "csv", "value", "yaml")
#: those that are made of JSON, an object a line
LINES = ("json", "jsonl")
#: rows that table and yaml show
MOST_ROWS = 1000

Row = Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser, *, rows: bool, more: Sequence[str] = ()) -> None:
    """The options of a verb that prints; `rows` for one that prints a list, `more` are formats of its own."""
    group = parser.add_argument_group("output")
    choices = (*FORMATS, *more)
    group.add_argument("-f", "--format", choices=choices, default="table", help="how to print (%(default)s)")
    group.add_argument(
        "-c", "--column", action="append", default=[], metavar="COLUMN", help="print this column only; repeatable"
    )
    if rows:
        group.add_argument(
            "--sort-column", action="append", default=[], metavar="COLUMN", help="sort by this column; repeatable"
        )


def show_object(options: argparse.Namespace, answer: Row) -> None:
    """Print one object: its fields one under the other, or as one row of csv or jsonl."""
    names = _chosen(options.column, list(answer))
    chosen = {name: answer[name] for name in names}
    if options.format == "json":
        print(json.dumps(chosen, indent=2))
    elif options.format == "jsonl":
        print(json.dumps(chosen))
    elif options.format == "yaml":
        _dump_yaml(chosen)
    elif options.format == "csv":
        _write_csv(names, [chosen])
    elif options.format == "value":
        for value in chosen.values():
            print(_plain(value))
    else:
        print_table(["field", "value"], [line for name in names for line in _parts(name, chosen[name])])


def show_rows(options: argparse.Namespace, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Print a list."""
    names = _chosen(options.column, columns)
    sort = getattr(options, "sort_column", [])
    for name in reversed(_chosen(sort, columns) if sort else []):
        rows = sorted(rows, key=lambda row: (row[name] is None, row[name]))
    chosen = ({name: row[name] for name in names} for row in rows)
    if options.format == "json":
        _write_array(chosen)
    elif options.format == "jsonl":
        for row in chosen:
            print(json.dumps(row))
    elif options.format == "csv":
        _write_csv(names, chosen)
    elif options.format == "value":
        for row in chosen:
            print(" ".join([_plain(value) for value in row.values()]))
    elif options.format == "yaml":
        _dump_yaml(list(_first(chosen, options.format)))
    else:
        print_table(names, [tuple(row.values()) for row in _first(chosen, options.format)])


def show_lines(options: argparse.Namespace, lines: Iterable[bytes]) -> None:
    """Print a list whose rows are JSON already, in one of LINES: the quick way for very many."""
    sys.stdout.flush()
    out, watched = sys.stdout.buffer, sys.stdout.isatty()
    for piece in _array(lines) if options.format == "json" else (line + b"\n" for line in lines):
        out.write(piece)
        if watched:
            out.flush()
    out.flush()


def _array(lines: Iterable[bytes]) -> Iterator[bytes]:
    before = b"["
    for line in lines:
        yield before + b"\n" + line
        before = b","
    yield b"\n]\n" if before == b"," else b"[]\n"


def print_table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Aligned columns under their names; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [bool(rows) and all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(names))]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    for line in [list(names), *cells]:
        aligned = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        print("  ".join(aligned).rstrip())


def _chosen(asked: Sequence[str], known: Sequence[str]) -> list[str]:
    for name in asked:
        if name not in known:
            raise Misused(f"there is no column {name!r}; there are {', '.join(known)}")
    return list(asked or known)


def _first(rows: Iterator[dict[str, Any]], form: str) -> Iterator[dict[str, Any]]:
    yield from islice(rows, MOST_ROWS)
    if next(rows, None) is not None:
        print(f"{form} stops at {MOST_ROWS} rows; -f jsonl prints all", file=sys.stderr)


def _write_array(rows: Iterable[Row]) -> None:
    before = "["
    for row in rows:
        sys.stdout.write(f"{before}\n{json.dumps(row)}")
        before = ","
    print("\n]" if before == "," else "[]")


def _write_csv(names: Sequence[str], rows: Iterable[Row]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([json.dumps(v) if isinstance(v, list | dict) else v for v in row.values()])


def _dump_yaml(answer: object) -> None:
    import yaml  # type: ignore[import-untyped]  # its types are a distribution that only a checker needs

    yaml.safe_dump(answer, sys.stdout, sort_keys=False, allow_unicode=True)


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A field of an object for the table: a list takes a line for each of its items."""
    if not isinstance(value, list):
        yield name, value
        return
    for number, item in enumerate(value or [""]):
        text = ", ".join(f"{key}={_cell(part)}" for key, part in item.items()) if isinstance(item, dict) else item
        yield "" if number else name, text


def _cell(value: Any) -> str:
    return "-" if value is None else _plain(value)


def _plain(value: Any) -> str:
    """One line of printable text."""
    if isinstance(value, list | dict):
        return json.dumps(value)
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else char.encode("unicode_escape").decode() for char in text])
