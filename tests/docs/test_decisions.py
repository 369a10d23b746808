"""docs/decisions is complete and of one form."""

import re
from pathlib import Path

import pytest

from tests.docs.documents import DOCS, rows

DECISIONS = DOCS / "decisions"
PAGES = sorted(DECISIONS.glob("[0-9]*.md"))


def test_the_index_lists_each_page() -> None:
    """The index has each page once, in order, under its title."""
    index = [
        re.fullmatch(r"\[(\d{4})\]\((.*)\)", row[0]) for row in rows((DECISIONS / "README.md").read_text()) if row[0]
    ]
    listed = [(entry[2], entry[1]) for entry in index if entry]
    assert listed == [(page.name, page.name[:4]) for page in PAGES]
    titles = [row[1] for row in rows((DECISIONS / "README.md").read_text()) if row[0]]
    for page, title in zip(PAGES, titles, strict=True):
        head = page.read_text().splitlines()[0]
        assert head.startswith(f"# {page.name[:4]} ")
        assert title.split(",")[0].split(";")[0] in head, title


def test_the_numbers_have_no_gap() -> None:
    """Pages are numbered from 0001 on."""
    assert [int(page.name[:4]) for page in PAGES] == list(range(1, len(PAGES) + 1))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_says_what_and_why(page: Path) -> None:
    """A page has its context, the decision, what it costs and what lost, in this order."""
    heads = re.findall(r"^\*\*(.+?)\.\*\*", page.read_text(), re.MULTILINE)
    assert heads == ["Context", "Decision", "What it costs", "What lost"]
