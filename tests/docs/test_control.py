"""docs/control.md has each path, method, parameter and code of the control socket, and no other."""

import ast
import re
from pathlib import Path

import relay
from relay.clock import Clock
from relay.control import requests, server
from relay.control.routes import Routes
from relay.control.sources import Sources
from relay.facts import Facts
from tests.docs.documents import DOCS, rows, sections

PAGE = DOCS / "control.md"
SOURCE = Path(relay.__file__).parent / "control"


def paths() -> set[tuple[str, str]]:
    """(path, method) as the routes have them."""
    made = Routes(Sources(None, Facts, Clock(), "", list, dict))  # type: ignore[arg-type]  # a spool that nobody asks
    try:
        return {(path, method) for path, methods in made._table.items() for method in methods}
    finally:
        made.close()


def codes() -> set[str]:
    """The codes that a request can be refused with."""
    found = set()
    for path in SOURCE.glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Refused":
                code = call.args[1]
                assert isinstance(code, ast.Constant), f"{path}: a code that is not written out"
                found.add(code.value)
    return found


def test_each_path_and_method_is_there() -> None:
    """The table of paths is the table of the routes."""
    assert {(row[0].strip("`"), row[1]) for row in rows(sections(PAGE, 2)["Paths"])} == paths()


def test_each_parameter_of_a_filter_is_there() -> None:
    """The table of filters has those that are read, and no other."""
    named = re.findall(r"`(\w+)`", " ".join(row[0] for row in rows(sections(PAGE, 2)["Filters"])))
    assert sorted(named) == sorted(requests.PARAMETERS)


def test_each_code_is_there() -> None:
    """The table of codes has those that the routes and the shell refuse with."""
    assert {row[0].strip("`") for row in rows(sections(PAGE, 2)["Codes"])} == codes()


def test_the_bounds_are_those_of_the_shell() -> None:
    """The numbers in the text are the constants."""
    text = sections(PAGE, 1)["The control socket"]
    most = server.MAX_CONNECTIONS
    said = [most, int(server.REQUEST_S), server.HEADER_LIMIT // 1024, server.BODY_LIMIT // 1024, most]
    assert re.findall(r"(\d+) (?:connections|s to come|KiB)", text) == [str(number) for number in said]
    assert f"for {server.WRITE_S:.0f} s is cut off" in text
