"""The documents, cut into what tests look at.

Promises: `DOCUMENTS` is every document that the public reads, but for the release notes; what is cut out of one is as
it stands there. Failure: a document that is missing raises.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
DOCUMENTS = sorted([README, *DOCS.rglob("*.md")])

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    """A document as a test's id names it."""
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks in a language, in order."""
    return [text for kind, text in _BLOCK.findall(path.read_text()) if kind == language]


def prose(path: Path) -> str:
    """A document without its code, and without the addresses of its links."""
    text = _BLOCK.sub("", path.read_text())
    text = re.sub(r"`[^`]*`", "", text)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", text)


def sections(path: Path, level: int) -> dict[str, str]:
    """The text under each heading of a level, by the heading."""
    found: dict[str, str] = {}
    heading = None
    for line in path.read_text().splitlines():
        if line.startswith("#") and len(line.split()[0]) <= level:
            heading = line.lstrip("# ") if len(line.split()[0]) == level else None
            continue
        if heading is not None:
            found[heading] = found.get(heading, "") + line + "\n"
    return found


def rows(text: str) -> list[list[str]]:
    """The rows of all Markdown tables in a text, heads and lines left out."""
    found: list[list[str]] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        after = lines[number + 1] if number + 1 < len(lines) else ""
        if line.startswith("|") and not line.startswith("|-") and not after.startswith("|-"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found
