"""What an import says when it breaks off: the line, and how far it had come."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from relay.cli import imports
from relay.cli.exits import Failed

LATER = (
    f" (counted from line {imports.LINES + 1} on; before it {imports.LINES} were imported, and may be imported again)"
)


@pytest.mark.parametrize(("bad", "more"), [(2, ""), (imports.LINES + 2, LATER)], ids=["in the first piece", "later"])
def test_the_line_that_ends_it_can_be_found(tmp_path: Path, bad: int, more: str) -> None:
    """Lines are sent in pieces, and an error counts within its piece: the rest is said where there is one."""
    file = tmp_path / "lines"
    file.write_bytes(b"".join(b"bad\n" if number + 1 == bad else b"good\n" for number in range(imports.LINES * 2)))

    def send(piece: bytes) -> dict[str, Any]:
        lines = piece.splitlines()
        if b"bad" in lines:
            raise ValueError(f"line {lines.index(b'bad') + 1}: it was cut short")
        return {"imported": len(lines), "repeated": 0, "twins": 0}

    with pytest.raises(Failed) as raised:
        imports._import(argparse.Namespace(files=[str(file)]), send)
    assert str(raised.value) == f"line 2: it was cut short{more}"
