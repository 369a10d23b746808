"""docs/operations.md has each verb, option, problem and log line that there is."""

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import relay
from relay.cli import screen, shape, show
from relay.cli.backlog import COLUMNS
from relay.cli.main import parser
from relay.control import answers
from relay.facts import Facts, UpstreamFacts
from relay.spool.changes import Counts
from relay.spool.shape import BUCKETS, FIRST_S, bounds
from tests.docs.documents import DOCS, name, rows, sections
from tests.rig.rig import Rig

PAGE = DOCS / "operations.md"
SOURCE = Path(relay.__file__).parent
LEVELS = ("info", "warning", "error", "critical", "exception")


def verbs() -> dict[str, argparse.ArgumentParser]:
    """The verbs of relay-cli with their parsers."""
    (choices,) = (a.choices for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(choices)


def options(of: argparse.ArgumentParser) -> list[str]:
    """The options of a parser, each in its long form where it has one."""
    named = [action.option_strings[-1] for action in of._actions if action.option_strings]
    return [option for option in named if option != "--help"]


def calls() -> Iterator[ast.Call]:
    """Each call in relay's source."""
    for path in SOURCE.rglob("*.py"):
        yield from (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def text_of(node: ast.expr) -> str | None:
    """A string constant, or None."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def logged() -> set[str]:
    """The messages that relay logs, at INFO or above."""
    found = set()
    for call in calls():
        if (
            isinstance(call.func, ast.Attribute)
            and isinstance(call.func.value, ast.Name)
            and call.func.value.id == "log"
        ):
            text = text_of(call.args[0]) if call.func.attr in LEVELS else None
            if text is not None and text.strip("%sd "):
                found.add(text)
    return found


def codes() -> set[str]:
    """The codes of problems: the first argument of Problem, _problem and _note, where it is a constant."""
    found = set()
    for call in calls():
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        text = text_of(call.args[0]) if called in ("Problem", "_problem", "_note") and call.args else None
        if text is not None:
            found.add(text)
    return found


def test_the_verbs_are_those_of_relay_cli() -> None:
    """Its headings under relay-cli are the verbs, each once."""
    page = PAGE.read_text()
    theirs = page[page.index("\n## relay-cli") : page.index("\n## Monitoring")]
    assert sorted(re.findall(r"^### (\w+)$", theirs, re.MULTILINE)) == sorted(verbs())


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_each_option_of_a_verb_is_there(verb: str) -> None:
    """The section of a verb names each of its options; those of output may be named by their short form."""
    short = {"--format": "-f", "--column": "-c"}
    section = sections(PAGE, 3)[verb]
    for option in options(verbs()[verb]):
        assert re.search(rf"{re.escape(short.get(option, option))}\b", section), option


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_no_section_names_an_option_that_there_is_not(verb: str) -> None:
    """Each long option in the section of a verb is one of that verb's, or of relay-cli's own."""
    for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", sections(PAGE, 3)[verb]):
        assert option in options(verbs()[verb]), option


def test_each_option_of_relay_cli_is_there() -> None:
    """The options before the verb are there too, and the long forms of those of output."""
    for option in [*options(parser()), "--format", "--column", "--sort-column"]:
        assert option in PAGE.read_text(), option


def status() -> dict[str, object]:
    """An answer of status."""
    return answers.status(
        "running",
        Counts(),
        Facts(),
        draining=False,
        accepting=True,
        oldest_seconds=0.0,
        spool_bytes=0,
        problems=(),
        version="",
    )


def test_each_field_of_status_is_there() -> None:
    """The table of status has each field of the answer, and no other."""
    named = re.findall(r"`(\w+)`", " ".join(row[0] for row in rows(sections(PAGE, 3)["status"])))
    assert sorted(named) == sorted(status())


def test_what_stands_there_as_printed_has_the_columns_of_today() -> None:
    """The screens of status, top, shape, show and upstreams are those that the programs print."""
    upstream = UpstreamFacts("server:4730", "healthy", 0, "")
    columns = {
        ("top", "FUNCTION "): ["FUNCTION", *[heading for heading, *_ in screen._COLUMNS]],
        ("shape", "function "): shape.column_names(list(bounds(FIRST_S, BUCKETS))),
        ("show", "attempt "): list(show.ATTEMPT),
        ("upstreams", "server "): list(answers.upstreams(Facts(upstreams=(upstream,)))[0]),
        ("status", "field "): ["field", "value"],
    }
    for (verb, first), expected in columns.items():
        printed = [line.split() for line in sections(PAGE, 3)[verb].splitlines() if line.startswith(first)]
        assert printed, verb
        assert [line for line in printed if line != expected] == [], verb
    screenshot = sections(PAGE, 3)["status"].partition("field  ")[2].partition("```")[0]
    fields = [line.split()[0] for line in screenshot.splitlines()[1:] if not line.startswith(" ")]
    assert fields == list(status())


def test_each_column_of_the_backlog_is_there() -> None:
    """The section of backlog names each of its columns."""
    section = sections(PAGE, 3)["backlog"]
    assert [column for column in COLUMNS if f"`{column}`" not in section] == []


def test_each_metric_is_there() -> None:
    """The table of metrics has each name that relay exports, with its label, and no other."""
    from relay.control import metrics
    from relay.histogram import Histogram

    status = answers.status(
        "running",
        Counts(),
        Facts(),
        draining=False,
        accepting=True,
        oldest_seconds=0.0,
        spool_bytes=0,
        problems=(),
        version="",
    )
    measured = ("relay_commit_seconds", "relay_batch_casts", "relay_completion_seconds")
    reading = metrics.Reading(status, {}, {}, {}, {}, {name: ("", Histogram((1,))) for name in measured}, 0, 0)
    exported = re.findall(r"^# TYPE (relay_\w+) ", metrics.render(reading, process=False).decode(), re.MULTILINE)
    named = re.findall(r"`(relay_\w+)", " ".join(row[0] for row in rows(sections(PAGE, 3)["Metrics"])))
    assert sorted(named) == sorted(exported)


def test_each_problem_is_there() -> None:
    """The table of problems has each code in relay's source, and no other."""
    assert codes()
    assert {row[0].strip("`") for row in rows(sections(PAGE, 2)["Problems"])} == codes()


def test_each_log_line_is_there() -> None:
    """The table of the log has each message that relay logs at INFO or above; what varies may be any text."""
    page = sections(PAGE, 2)["The log"]
    messages = logged()
    assert len(messages) > 10
    for message in messages:
        pieces = [re.escape(piece) for piece in re.split(r"%[sd]", message)]
        assert re.search("`" + "[^`]*".join(pieces) + "[^`]*`", page), message


def test_a_failure_is_logged_as_described(rig: Rig) -> None:
    """A cast whose worker fails is logged in the words that the table has for it."""
    from tests.rig.callers import cast_all
    from tests.rig.wait import until
    from tests.rig.workers import always_fail

    server = rig.serve("geard")
    rig.work(b"f", act=always_fail)
    agent = rig.agent({"forwarder": {"max_attempts": 1}}, server)
    cast_all(agent.socket, b"f", [b"x"])
    until(lambda: "came to" in agent.log, "the failure is logged")
    line = r"cast \d+ of f: attempt 1 at [\d.:]+ came to work_fail \(the worker failed\) after [\d.]+ s; dead\n"
    assert re.search(line, agent.log), agent.log
    assert (
        "`cast ID of FUNCTION: attempt N at SERVER came to REASON (TEXT) after TIME; again in TIME`" in PAGE.read_text()
    )


@pytest.mark.parametrize("path", [PAGE, DOCS / "architecture.md"], ids=name)
def test_each_option_of_the_configuration_that_is_named_exists(path: Path) -> None:
    """Each `[group] option` that a document names is one of relay's."""
    from relay.conf.options import GROUPS

    for group, option in re.findall(r"`\[(\w+)\] (\w+)", path.read_text()):
        assert option in [opt.dest for opt in GROUPS[group]], f"[{group}] {option}"
