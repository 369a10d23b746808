"""`check` on a spool that no agent has: what it prints, and how it exits."""

import json
import os
import sqlite3
from pathlib import Path

import pytest

from relay.cli import main
from relay.spool.locking import lock
from tests.unit.spool.writing import Writer, cast


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A configuration whose spool holds ten casts."""
    conf = tmp_path / "relay.conf"
    path = tmp_path / "spool" / "spool.db"
    conf.write_text(f"[spool]\npath = {path}\n")
    writer = Writer(path)
    writer.accept(*[cast(payload=b"%d" % number) for number in range(10)])
    writer.close()
    return conf


def spool_of(conf: Path) -> Path:
    """Where it is."""
    return conf.parent / "spool" / "spool.db"


def check(conf: Path, *arguments: str) -> int:
    """The exit code."""
    return main.main(["--config-file", str(conf), "check", *arguments])


def spoil(conf: Path) -> None:
    """One cast is not what it was."""
    conn = sqlite3.connect(spool_of(conf), isolation_level=None)
    conn.execute("UPDATE casts SET payload = x'00' WHERE id = (SELECT max(id) FROM casts)")
    conn.close()


def test_a_sound_spool_is_0(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No findings, and it says so beside them."""
    assert check(conf, "-f", "json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == []
    assert printed.err == f"{spool_of(conf)} is sound\n"
    assert check(conf) == 0
    assert capsys.readouterr().out == "", "a table of nothing is nothing"


def test_a_spool_that_is_not_is_1(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each finding, and nothing is changed."""
    spoil(conf)
    before = spool_of(conf).read_bytes()
    assert check(conf, "-f", "json") == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["check"], row["where"].split()[0]) == ("checksum", "cast")
    assert spool_of(conf).read_bytes() == before


def test_a_repair_is_0_and_then_it_is_sound(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what it did and where the old one is."""
    spoil(conf)
    assert check(conf, "--repair") == 0
    printed = capsys.readouterr().out
    assert "repaired: 10 casts, 1 of them dead as damaged; the old spool is kept in " in printed
    assert Path(printed.strip().rpartition(" ")[2]).joinpath("spool.db").is_file()
    assert check(conf) == 0


def test_a_repair_says_what_is_missing(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Casts that the spool counts, and of which it has nothing any more."""
    conn = sqlite3.connect(spool_of(conf), isolation_level=None)
    conn.execute("DELETE FROM casts WHERE id IN (SELECT id FROM casts LIMIT 3)")
    conn.close()
    assert check(conf, "--repair") == 0
    assert "missing: 3 casts were counted of which nothing is left\n" in capsys.readouterr().out
    assert check(conf) == 0


def test_a_sound_spool_is_not_repaired(conf: Path) -> None:
    """--repair changes nothing where nothing is wrong."""
    before = spool_of(conf).stat()
    assert check(conf, "--repair") == 0
    after = spool_of(conf).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_agent_that_owns_it_is_75(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its pid; the check waits for nobody."""
    held = lock(spool_of(conf), 0)
    assert check(conf) == os.EX_TEMPFAIL
    os.close(held)
    assert f"pid {os.getpid()}" in capsys.readouterr().err
    assert check(conf) == 0


def test_another_database_may_be_named(conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is no spool, or not there, is 1 with a sentence."""
    (tmp_path / "other.db").write_bytes(b"no database " * 100)
    assert check(conf, str(tmp_path / "other.db")) == 1
    assert "not a database" in capsys.readouterr().err
    assert check(conf, str(tmp_path / "none.db")) == 1
    assert "there is no spool" in capsys.readouterr().err
    assert check(conf, str(spool_of(conf))) == 0
