"""A change of the spool itself leaves a line in the host's log, as an agent's own would have.

Syslog is a fake here: the real one is the host's, and what it keeps is nothing that a test may write to.
"""

import io
import sqlite3
import sys
import syslog
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay.cli import export, offline
from relay.cli.main import main
from relay.errors import SpoolUnusable
from relay.spool.offline import Spooled
from tests.unit.spool.writing import Writer, cast


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """The configuration of a spool with three casts, and no agent."""
    writer = Writer(tmp_path / "spool" / "spool.db")
    writer.accept(cast(payload=b"1", unique=b"u"), cast(payload=b"2"), cast(b"g"))
    writer.close()
    made = tmp_path / "relay.conf"
    made.write_text(f"[spool]\npath = {writer.path}\n[control]\nsocket = {tmp_path}/control.sock\n")
    return made


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reached syslog, as INFO; uid 7 does all."""
    lines: list[str] = []
    monkeypatch.setattr(syslog, "syslog", lambda level, text: lines.append(text) if level == syslog.LOG_INFO else None)
    monkeypatch.setattr(offline.os, "getuid", lambda: 7)
    return lines


def test_each_change_is_a_line(conf: Path, logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who, what, which casts, and how many; nothing of a dry run, or of who only looks."""
    names = io.StringIO("u\n")
    monkeypatch.setattr(sys, "stdin", names)
    for arguments in (
        ("hold", "u"),
        ("release", "-"),
        ("bury", "--function", "f*", "--limit", "1", "--yes"),
        ("bury", "--all", "--dry-run"),
        ("purge", "--all", "--yes"),
        ("hold", "--function", "g", "--new", "--until", "@9999999999", "--yes"),
        ("export", "--hold"),
        ("backlog",),
        ("status",),
        ("check",),
    ):
        main(["--config-file", str(conf), *arguments])
    assert logged == [
        "uid 7: hold 1 named cast (u): matched 1, changed 1, skipped 0",
        "uid 7: release casts named on stdin: matched 1, changed 1, skipped 0",
        "uid 7: bury function='f*' limit=1: matched 1, changed 1, skipped 0",
        "uid 7: purge all: matched 1, changed 1, skipped 0",
        "uid 7: hold new function='g' until=@9999999999",
        "uid 7: hold function='g': matched 1, changed 1, skipped 0",
        "uid 7: export and hold all: wrote 2",
    ]


def test_an_export_that_breaks_off_is_a_line(conf: Path, logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What it held by then is held."""

    def broken(lines: Iterator[bytes]) -> None:
        next(lines)
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "_write", broken)
    main(["--config-file", str(conf), "export", "--hold"])
    assert logged == ["uid 7: export and hold all: broken off"]


def test_an_import_is_a_line_a_piece(conf: Path, logged: list[str], tmp_path: Path) -> None:
    """What came new, what was there, and none of a dry run."""
    file = tmp_path / "lines"
    file.write_text('{"function": "h", "payload": "x", "key": "k"}\n' * 2)
    for more in (["--dry-run"], []):
        assert main(["--config-file", str(conf), "import", str(file), *more]) == 0
    assert logged == ["uid 7: import: new 1, repeated 1, twins 0"]


def test_a_repair_is_a_line(conf: Path, logged: list[str]) -> None:
    """Of a spool that was rebuilt, with what it came to."""
    spool = conf.parent / "spool" / "spool.db"
    with closing(sqlite3.connect(spool)) as conn, conn:
        conn.execute("UPDATE casts SET crc = crc + 1 WHERE id = (SELECT min(id) FROM casts)")
    assert main(["--config-file", str(conf), "check", "--repair"]) == 0
    assert logged == [f"uid 7: check --repair {spool}: casts 3, damaged 1, lost 0"]


def test_what_broke_off_is_told_too(conf: Path, logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With what had been changed by then."""
    edit = Spooled.edit

    def failing(*arguments: object, **more: object):  # type: ignore[no-untyped-def]
        yield from edit(*arguments, **more)  # type: ignore[arg-type]
        raise SpoolUnusable("the disk failed")

    monkeypatch.setattr(Spooled, "edit", failing)
    assert main(["--config-file", str(conf), "bury", "--all", "--yes"]) == 1
    assert logged == ["uid 7: bury all: matched 3, changed 3, skipped 0; broken off"]


def test_a_name_cannot_forge_a_line(conf: Path, logged: list[str]) -> None:
    """No line break, nothing unprintable, and no more than a handle has."""
    main(["--config-file", str(conf), "hold", "u\nuid 0: purge all", "x" * 600])
    (line,) = logged
    assert line.startswith("uid 7: hold 2 named casts (u\\nuid 0: purge all, xxx")
    assert len(line) < 400
