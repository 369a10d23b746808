"""docs/lifecycle.md is drawn from the table."""

import subprocess
import sys

from relay.cli.main import VERBS
from relay.lifecycle import TABLE
from tests.docs.documents import DOCS, rows, sections

PAGE = DOCS / "lifecycle.md"


def generate() -> str:
    """What docs/generate.py would write."""
    asked = [sys.executable, str(DOCS / "generate.py"), "--print"]
    return subprocess.run(asked, stdout=subprocess.PIPE, check=True, text=True).stdout


def test_the_page_is_what_its_generator_writes() -> None:
    """The committed page is what `python docs/generate.py` writes."""
    assert PAGE.read_text() == generate(), "run: python docs/generate.py"


def test_the_page_has_each_move_of_the_table() -> None:
    """Its table has each move of lifecycle.TABLE, and no other."""
    moves = {
        tuple(cell.removesuffix(" (not yet caused)") for cell in row) for row in rows(sections(PAGE, 2)["The table"])
    }
    assert moves == {(state.value, event.value, to.value) for (state, event), to in TABLE.items()}


def test_what_nothing_causes_has_no_verb() -> None:
    """An event that the page calls not yet caused is no verb of relay-cli."""
    idle = {row[0] for row in rows(sections(PAGE, 2)["What causes an event"]) if row[1] == "nothing causes it yet"}
    assert idle & set(VERBS) == set()
