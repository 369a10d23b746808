"""The documents use one word for each thing."""

import re
from pathlib import Path

import pytest

from tests.docs.documents import DOCS, DOCUMENTS, name, prose, rows

GLOSSARY = DOCS / "glossary.md"
FORBIDDEN = sorted({word for row in rows(GLOSSARY.read_text()) for word in row[2].split(", ") if word})


def test_the_glossary_forbids_something() -> None:
    """Its last column has words, and none of them is a word of its first."""
    words = {word for row in rows(GLOSSARY.read_text()) for word in row[0].split(", ")}
    assert FORBIDDEN
    assert words.isdisjoint(FORBIDDEN)


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path != GLOSSARY], ids=name)
def test_no_word_that_the_glossary_forbids(document: Path) -> None:
    """Outside of code no document uses a word of the glossary's last column, singular or plural."""
    found = re.findall(rf"\b(?:{'|'.join(FORBIDDEN)})s?\b", prose(document), re.IGNORECASE)
    assert found == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_a_job_is_the_job_servers(document: Path) -> None:
    """Job and queue are words of the job server's: never `a relay job`, `our queue` or `message`."""
    wrong = r"relay'?s? (?:job|queue)s?\b|\bour (?:job|queue)s?\b|\bmessages?\b"
    found = re.findall(wrong, prose(document), re.IGNORECASE)
    assert found == []
