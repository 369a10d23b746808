"""The documented way to read the spool, by sqlite3 and by sqlite-utils, beside an agent under load."""

import itertools
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.rig.agent import Agent
from tests.rig.callers import Casting
from tests.rig.rig import Rig
from tests.rig.wait import until

FUNCTION = b"work"
COUNT = "SELECT count(*) FROM backlog WHERE state = 'ready' AND priority = 'normal'"


def by_the_shell(spool: Path, statement: str) -> int:
    """What sqlite3 prints."""
    command = ["sqlite3", f"file:{spool}?mode=ro", statement]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def by_sqlite_utils(spool: Path, statement: str) -> int:
    """What a script gets."""
    from sqlite_utils import Database

    with closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True)) as conn:
        database = Database(conn)
        assert database.view_names() == ["backlog"]
        (row,) = database.query(statement)
        return int(row["count(*)"])


@pytest.fixture
def loaded(rig: Rig) -> Iterator[tuple[Agent, Casting]]:
    """An agent that casts are handed to all the time, and that nobody takes them from."""
    agent = rig.agent({"upstream": {"servers": "127.0.0.1:1"}})
    casting = rig.cast_in_background(agent, FUNCTION, (b"%d" % number for number in itertools.count()))
    until(lambda: casting.record.acknowledged, "casts are accepted")
    yield agent, casting
    casting.stop()


@pytest.mark.parametrize("count", [by_the_shell, by_sqlite_utils])
def test_the_view_is_read_under_load(loaded: tuple[Agent, Casting], count: Callable[[Path, str], int]) -> None:
    """Each look sees all that was acknowledged before it, and the agent goes on."""
    agent, casting = loaded
    for _ in range(5):
        before = len(casting.record.acknowledged)
        assert count(agent.spool, COUNT) >= before
        until(lambda so_far=before: len(casting.record.acknowledged) > so_far, "casts are accepted")  # type: ignore[misc]
    assert not casting.record.refused
    assert agent.status()["problems"] == [] or "upstreams_down" in str(agent.status()["problems"])


def test_a_reader_can_change_nothing(loaded: tuple[Agent, Casting]) -> None:
    """mode=ro means it."""
    agent, _ = loaded
    command = ["sqlite3", f"file:{agent.spool}?mode=ro", "DELETE FROM casts"]
    refused = subprocess.run(command, capture_output=True, check=False, text=True)
    assert refused.returncode != 0
    assert "readonly" in refused.stderr
