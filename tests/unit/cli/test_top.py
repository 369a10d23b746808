"""top on terminals that it cannot draw on, and lines for terminals that cannot show everything."""

import os
import pty
import subprocess
import sys

import pytest

from relay.cli import screen
from relay.cli.screen import fitted
from tests.unit.cli.test_screen import function, look


@pytest.mark.parametrize("term", ["dumb", "no-such-terminal"])
def test_a_terminal_that_cannot_be_drawn_on_is_said(term: str) -> None:
    """One line that names what to do instead, and nothing is drawn."""
    ours, theirs = pty.openpty()
    run = "import sys; from relay.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", run, "--control", "/nowhere/control.sock", "top"]
    ended = subprocess.run(
        command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=os.environ | {"TERM": term}, check=False
    )
    os.set_blocking(ours, False)
    with pytest.raises(BlockingIOError):
        os.read(ours, 1)
    os.close(ours)
    os.close(theirs)
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"relay-cli: this terminal cannot be drawn on (")
    assert b"-n 1 prints text" in ended.stderr


@pytest.mark.parametrize(
    ("text", "width", "encoding", "line"),
    [
        ("plain", 3, "utf-8", "pla"),
        ("\x1b[2Jevil\x07", 20, "utf-8", "?[2Jevil?"),
        ("日本語", 5, "utf-8", "日本"),
        ("日本語", 6, "utf-8", "日本語"),
        ("e\u0301e\u0301e", 2, "utf-8", "e\u0301e\u0301"),
        ("naïve 日", 20, "latin-1", "naïve ?"),
        ("naïve 日", 20, "ascii", "na?ve ?"),
        ("right\u202eleft", 20, "utf-8", "right?left"),
    ],
)
def test_a_line_fits_and_can_be_shown(text: str, width: int, encoding: str, line: str) -> None:
    """In columns, not in letters; what the encoding has not is a question mark, and so is what a terminal obeys."""
    assert fitted(text, width, encoding) == line


def test_a_narrow_screen_has_its_lines_cut() -> None:
    """Twenty columns, or two lines: no line is longer, and no more lines come."""
    now = look(1.0, function("mail", backlog=3))
    for size in ((20, 24), (80, 2), (1, 1)):
        lines = screen.screen(None, now, "backlog", "", size, "note")
        assert len(lines) <= size[1]
        assert max(map(len, lines)) <= size[0]
