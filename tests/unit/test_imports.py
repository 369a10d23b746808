"""What a program does not carry until somebody asks for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.spool.writing import Writer


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


def test_status_of_a_spool_needs_none_of_those_who_write_one(tmp_path: Path) -> None:
    """With the agent down it reads SQLite, and neither opens, repairs nor checks; nor does it know other verbs."""
    Writer(tmp_path / "spool.db").close()
    conf = tmp_path / "relay.conf"
    conf.write_text(f"[spool]\npath = {tmp_path}/spool.db\n[control]\nsocket = {tmp_path}/control.sock\n")
    code = (
        "import sys; from relay.cli.main import main; main(['--config-file', sys.argv[1], 'status', '-f', 'json']);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, conf], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["state"] == "down"
    writers = {"relay.spool.opening", "relay.spool.repairing", "relay.spool.checking", "relay.spool.spool"}
    rest = {"relay.cli.top", "relay.control.metrics", "logging", "asyncio", "sqlite_utils", "yaml", "oslo_config.cfg"}
    assert (writers | rest) & set(done.stderr.split()) == set()
