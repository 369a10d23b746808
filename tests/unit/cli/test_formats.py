"""How answers are printed: each format, for an object and for rows."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.cli import formats
from relay.cli.exits import Misused

OBJECT = {"state": "running", "ready": 2, "oldest": 1.5, "upstreams": [{"server": "a:1", "error": None}], "empty": []}
ROWS = [
    {"id": 1, "function": "b", "due": None},
    {"id": 2, "function": "a\nb\x1b[31m é", "due": 1.25},
    {"id": 3, "function": 'say "a, b"', "due": None},
]
COLUMNS = ("id", "function", "due")


def options(*arguments: str, rows: bool = True) -> argparse.Namespace:
    """What these arguments ask for."""
    parser = argparse.ArgumentParser()
    formats.add_arguments(parser, rows=rows)
    return parser.parse_args(arguments)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, rows: Any = ROWS) -> str:
    """The rows as they are printed."""
    formats.show_rows(options(*arguments), COLUMNS, rows)
    return capsys.readouterr().out


def shown_object(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The object as it is printed."""
    formats.show_object(options(*arguments, rows=False), OBJECT)
    return capsys.readouterr().out


def test_json_is_one_array_and_jsonl_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Both say exactly what the rows are; no rows are an empty array, and nothing."""
    assert json.loads(shown(capsys, "-f", "json")) == ROWS
    assert [json.loads(line) for line in shown(capsys, "-f", "jsonl").splitlines()] == ROWS
    assert json.loads(shown(capsys, "-f", "json", rows=[])) == []
    assert shown(capsys, "-f", "jsonl", rows=[]) == ""


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "value"])
def test_rows_are_written_as_they_come(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """When the second row is asked for, the first has been printed."""

    def rows() -> Iterator[dict[str, Any]]:
        yield ROWS[0]
        assert "1" in capsys.readouterr().out
        yield ROWS[1]

    assert "2" in shown(capsys, "-f", form, rows=rows())


@pytest.mark.parametrize("form", formats.LINES)
@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS], ids=len)
def test_lines_of_json_are_printed_as_rows_are(capfd: pytest.CaptureFixture[str], form: str, rows: Any) -> None:
    """The quick way says the same as the other one, after what was printed before, and whole."""
    print("before")
    formats.show_lines(options("-f", form), [json.dumps(row).encode() for row in rows])
    quick = capfd.readouterr().out
    print("before")
    formats.show_rows(options("-f", form), COLUMNS, rows)
    assert quick == capfd.readouterr().out


@pytest.mark.parametrize(("watched", "expected"), [(True, ["0\n", "0\n1\n"]), (False, ["", ""])])
def test_on_a_terminal_each_line_is_seen_as_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: bool, expected: list[str]
) -> None:
    """A search that finds little is watched; into a pipe it is written in blocks."""
    printed, seen = tmp_path / "printed", []

    def lines() -> Iterator[bytes]:
        for number in range(2):
            yield b"%d" % number
            seen.append(printed.read_text())

    with printed.open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(out, "isatty", lambda: watched)
        formats.show_lines(options("-f", "jsonl"), lines())
        assert (seen, printed.read_text()) == (expected, "0\n1\n")


def test_csv_quotes_and_has_a_header(capsys: pytest.CaptureFixture[str]) -> None:
    """What a csv reader gets back are the rows, null as nothing."""
    back = list(csv.DictReader(io.StringIO(shown(capsys, "-f", "csv"), newline="")))
    assert [row["function"] for row in back] == [row["function"] for row in ROWS]
    assert [row["due"] for row in back] == ["", "1.25", ""]


def test_value_and_table_print_nothing_unprintable(capsys: pytest.CaptureFixture[str]) -> None:
    """A newline or an escape in a name stays in its cell and off the terminal."""
    value = shown(capsys, "-f", "value", "-c", "function")
    assert value.splitlines() == ["b", "a\\nb\\x1b[31m é", 'say "a, b"']
    table = shown(capsys)
    assert len(table.splitlines()) == 1 + len(ROWS)
    assert "\x1b" not in table


def test_a_table_is_aligned_under_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers to the right, text to the left, null as a dash; without rows there are the names."""
    table = shown(capsys, "-c", "id", "-c", "due", rows=[{"id": 1, "due": None}, {"id": 100, "due": 1.5}])
    assert table.splitlines() == [" id    due", "  1      -", "100  1.500"]
    assert shown(capsys, rows=[]).split() == list(COLUMNS)


@pytest.mark.parametrize("form", ["table", "yaml"])
def test_table_and_yaml_stop_and_say_so(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """After MOST_ROWS, with a word on stderr; with exactly so many there is none."""
    for rows, said in ((formats.MOST_ROWS, False), (formats.MOST_ROWS + 1, True)):
        formats.show_rows(options("-f", form), COLUMNS, [{"id": n, "function": "f", "due": None} for n in range(rows)])
        out, err = capsys.readouterr()
        assert (
            out.count("f") - out.count("function") == formats.MOST_ROWS if form == "table" else len(yaml.safe_load(out))
        )
        assert ("stops at" in err) is said


def test_columns_are_chosen_in_the_order_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """-c once or more; one that there is not is a misuse that names those there are."""
    assert json.loads(shown(capsys, "-f", "json", "-c", "due", "-c", "id"))[1] == {"due": 1.25, "id": 2}
    assert list(json.loads(shown(capsys, "-f", "json", "-c", "due", "-c", "id"))[0]) == ["due", "id"]
    for arguments in (("-c", "colour"), ("--sort-column", "colour")):
        with pytest.raises(Misused, match="'colour'; there are id, function, due"):
            shown(capsys, *arguments)


def test_rows_are_sorted_by_the_columns_given(capsys: pytest.CaptureFixture[str]) -> None:
    """The first column given counts most; null comes last; equal ones keep their order."""
    ids = shown(capsys, "-f", "value", "-c", "id", "--sort-column", "function").split()
    assert ids == ["2", "1", "3"]
    assert shown(capsys, "-f", "value", "-c", "id", "--sort-column", "due").split() == ["2", "1", "3"]
    both = ("--sort-column", "due", "--sort-column", "function")
    assert shown(capsys, "-f", "value", "-c", "id", *both, rows=ROWS[::-1]).split() == ["2", "1", "3"]


def test_an_object_in_each_format(capsys: pytest.CaptureFixture[str]) -> None:
    """json, jsonl and yaml say it whole; csv is one row; values stand in lines; a table lists what a list holds."""
    for form in ("json", "jsonl"):
        assert json.loads(shown_object(capsys, "-f", form)) == OBJECT
    assert yaml.safe_load(shown_object(capsys, "-f", "yaml")) == OBJECT
    (row,) = csv.DictReader(io.StringIO(shown_object(capsys, "-f", "csv")))
    assert json.loads(row["upstreams"]) == OBJECT["upstreams"]
    assert shown_object(capsys, "-f", "value", "-c", "ready", "-c", "state").splitlines() == ["2", "running"]
    table = [line.split(maxsplit=1) for line in shown_object(capsys).splitlines()]
    assert table == [
        ["field", "value"],
        ["state", "running"],
        ["ready", "2"],
        ["oldest", "1.500"],
        ["upstreams", "server=a:1, error=-"],
        ["empty"],
    ]
