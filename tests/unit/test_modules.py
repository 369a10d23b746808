"""What holds for every module of relay."""

import ast
from pathlib import Path

import pytest

import relay

ROOT = Path(relay.__file__).parent
# An empty __init__.py has nothing to promise.
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path.stat().st_size)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_opens_with_its_contract(module: Path) -> None:
    """Every module begins with a docstring whose first line is a sentence."""
    docstring = ast.get_docstring(ast.parse((ROOT / module).read_text()))
    assert docstring, f"{module} has no contract"
    assert docstring.split("\n\n")[0].rstrip().endswith((".", ":")), f"{module}: {docstring.splitlines()[0]!r}"
