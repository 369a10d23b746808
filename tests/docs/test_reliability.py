"""docs/reliability.md names tests that there are."""

import re

import pytest

from tests.docs.documents import DOCS, ROOT, rows, sections
from tests.fault.powercut.mutants import MUTANTS
from tests.rig.mutants import OTHERS

PAGE = DOCS / "reliability.md"
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
}
FAULTS = rows(sections(PAGE, 2)["Faults and bad input"])


def test_no_fault_is_left_out() -> None:
    """The table has its 29 rows, in order."""
    assert [row[0] for row in FAULTS] == [str(number) for number in range(1, 30)]


@pytest.mark.parametrize("row", FAULTS, ids=lambda row: row[0])
def test_a_row_has_tests_or_says_that_they_are_missing(row: list[str]) -> None:
    """Each test that a row names exists, and a row without any says so."""
    named = set(re.findall(r"`(test_\w+)`", row[3]))
    assert named <= TESTS, f"there is no {named - TESTS}"
    assert named or row[3].startswith("missing")


def test_each_mutant_is_explained() -> None:
    """Those that RELAY_MUTANT may name, and no others."""
    named = {
        name
        for row in rows(sections(PAGE, 2)["Agents made wrong on purpose"])
        for name in re.findall(r"`(\w+)`", row[0])
    }
    assert named == {*MUTANTS, *OTHERS}


def test_the_tests_that_the_text_names_exist() -> None:
    """Outside of the table, too."""
    assert set(re.findall(r"`(test_\w+)`", PAGE.read_text())) <= TESTS
