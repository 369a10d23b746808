"""Root at the spool of another user, with the agent down: what it does, it does as that user."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.spool.writing import Writer, cast

NOBODY = 65534
#: relay-cli where the owner of the spool can read none of Python's modules, as when they lie below /root
UNREADABLE = """
import os, sys

class Unreadable:
    def find_spec(self, name, path=None, target=None):
        if os.geteuid() != 0:
            raise ImportError(f"{name} cannot be read by uid {os.geteuid()}")

sys.meta_path.insert(0, Unreadable())
from relay.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def theirs() -> Iterator[Path]:
    """The configuration of a spool with three casts that belongs to nobody."""
    if os.getuid():
        pytest.skip("only root can act as somebody else")
    root = Path(tempfile.mkdtemp(prefix="relay-root-"))
    root.chmod(0o755)
    home = root / "spool"
    writer = Writer(home / "spool.db")
    writer.accept(cast(payload=b"1"), cast(payload=b"2"), cast(payload=b"3"))
    writer.close()
    for path in (home, *home.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    conf = root / "relay.conf"
    conf.write_text(f"[spool]\npath = {home / 'spool.db'}\n[control]\nsocket = {root / 'control.sock'}\n")
    yield conf
    left = [path.name for path in (home, *home.rglob("*")) if path.stat().st_uid != NOBODY]
    shutil.rmtree(root)
    assert not left, "what root leaves there, the agent could not open"


def run(conf: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """relay-cli, to its end."""
    command = [sys.executable, "-c", UNREADABLE, "--config-file", str(conf), *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def test_each_verb_works_as_the_owner(theirs: Path) -> None:
    """It succeeds though the owner can import nothing, and what it leaves is the owner's."""
    for arguments in (
        ("hold", "--all", "--yes", "-f", "csv"),
        ("hold", "--function", "f", "--new", "--until", "1h", "--yes", "-f", "yaml"),
        ("release", "--all", "--yes"),
        ("retry", "--all", "--yes", "-f", "json"),
        ("bury", "--all", "--yes", "-f", "value"),
        ("revive", "--all", "--yes", "-f", "yaml"),
        ("export", "--hold"),
        ("import",),
        ("purge", "--exported", "--yes", "-f", "jsonl"),
        ("check",),
        ("check", "-f", "csv"),
        ("check", "-f", "yaml"),
    ):
        finished = run(theirs, *arguments)
        assert finished.returncode == 0, (arguments, finished.stderr)


def test_a_repair_works_as_the_owner(theirs: Path) -> None:
    """The new spool and the one that is kept are the owner's; the new one is sound."""
    path = theirs.parent / "spool" / "spool.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("UPDATE casts SET crc = crc + 1 WHERE id = (SELECT max(id) FROM casts)")
    for left in path.parent.iterdir():
        os.chown(left, NOBODY, NOBODY)
    finished = run(theirs, "check", "--repair")
    assert "repaired: " in finished.stdout, finished.stderr
    assert run(theirs, "check").returncode == 0
