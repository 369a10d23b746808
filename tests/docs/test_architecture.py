"""docs/architecture.md has the bounds that the code has."""

import importlib
import re
import sqlite3

import pytest

from relay.spool import schema
from tests.docs.documents import DOCS, rows, sections

PAGE = DOCS / "architecture.md"
UNITS = {"KiB": 2**10, "MiB": 2**20, "s": 1, "": 1}


def bounds() -> list[list[str]]:
    """The rows of the table of bounds."""
    return rows(sections(PAGE, 2)["Bounds"])


@pytest.mark.parametrize(("constant", "value"), [row[1:] for row in bounds()])
def test_each_bound_has_the_value_of_its_constant(constant: str, value: str) -> None:
    """The constant that a bound names exists, and has the value that stands beside it."""
    module, _, attribute = constant.strip("`").rpartition(".")
    matched = re.fullmatch(r"([\d,.]+) ?(\w*)", value)
    assert matched
    assert getattr(importlib.import_module(module), attribute) == float(matched[1].replace(",", "")) * UNITS[matched[2]]


def test_each_table_of_the_spool_is_there() -> None:
    """The table of what is on disk has each table and view of the spool's format."""
    conn = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(conn)
    made = {name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
    conn.close()
    named = re.findall(r"`(\w+)`", " ".join(row[0] for row in rows(sections(PAGE, 2)["On disk, and in memory"])))
    assert set(named) == made
