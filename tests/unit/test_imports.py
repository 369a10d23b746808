"""What a program does not carry until somebody asks for it."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("relay.agent.main", {"prometheus_client", "curses"}),
        ("relay.cli.main", {"prometheus_client", "curses", "sqlite3", "asyncio", "oslo_log", "h11", "ssl"}),
    ],
)
def test_what_few_need_is_not_imported_by_all(module: str, heavy: set[str]) -> None:
    """The agent starts without prometheus_client; relay-cli without what only some of its verbs need."""
    code = f"import sys, {module}; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert heavy & set(printed.split()) == set()
