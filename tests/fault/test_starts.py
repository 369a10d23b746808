"""What a start may find in the place of its spool and its sockets: refused by its code, or set aside; no loop."""

import os
import socket
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.spool import quarantine, schema
from tests.rig.agent import Agent
from tests.rig.callers import cast_all, id_of
from tests.rig.rig import Rig
from tests.rig.small_disk import small_disk

FUNCTION = b"work"
NOBODY = {"upstream": {"servers": "127.0.0.1:1"}}
REFUSED = 73


@pytest.fixture
def agent(rig: Rig) -> Agent:
    """One that has stopped, with a cast in its spool."""
    agent = rig.agent(NOBODY)
    assert cast_all(agent.socket, FUNCTION, [b"x"]).acknowledged
    agent.term()
    return agent


def refused(agent: Agent, *words: str) -> None:
    """Two starts end with 73 and one line that has these words."""
    for _ in range(2):
        before = len(agent.log)
        agent.spawn()
        assert agent.wait() == REFUSED
        (line,) = agent.log[before:].splitlines()
        for word in words:
            assert word in line


def scribbled(path: Path) -> None:
    """Nonsense behind the first page."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xee" * (len(content) - 4096))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "corrupt": scribbled,
    "no database": lambda path: path.write_bytes(b"no database " * 1000),
    "cut in the middle": lambda path: os.truncate(path, path.stat().st_size // 8192 * 4096),
    "cut to a few bytes": lambda path: os.truncate(path, 100),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_spool_is_set_aside(agent: Agent, damage: str) -> None:
    """The agent starts with a new one, and says where the old one is until it is moved away; just once."""
    DAMAGES[damage](agent.spool)
    content = agent.spool.read_bytes()
    for _ in range(2):
        agent.start()
        ((directory, reason),) = quarantine.kept(agent.spool)
        assert (directory / agent.spool.name).read_bytes() == content
        (problem,) = [one for one in agent.status()["problems"] if one["code"] == "quarantined"]
        assert str(directory) in problem["text"]
        assert reason in problem["text"]
        record = cast_all(agent.socket, FUNCTION, [b"new"])
        assert id_of(record.handles[0])
        assert agent.term() == 0
        (told,) = agent.ask("status")["problems"]
        assert (told["code"], told["text"]) == ("quarantined", problem["text"])
    assert agent.log.count("a new one begins") == 1
    directory.rename(agent.directory / "seen")
    agent.start()
    assert not [one for one in agent.status()["problems"] if one["code"] == "quarantined"]
    assert len(agent.backlog()) == 2


def test_an_empty_file_becomes_a_spool(agent: Agent) -> None:
    """Nothing is in it, so nothing is to be kept."""
    os.truncate(agent.spool, 0)
    agent.start()
    assert agent.backlog() == []
    assert quarantine.kept(agent.spool) == []


def test_a_newer_spool_is_refused(agent: Agent) -> None:
    """It stays as it is."""
    conn = sqlite3.connect(agent.spool)
    conn.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    conn.close()
    content = agent.spool.read_bytes()
    refused(agent, "newer relay")
    assert agent.spool.read_bytes() == content


def test_the_spool_of_another_user_is_refused(agent: Agent) -> None:
    """By its owner's number."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system of its own")
    os.chown(agent.spool, 12345, -1)
    refused(agent, str(agent.spool), "12345")


def test_a_directory_is_refused(agent: Agent) -> None:
    """What stands in the spool's place and is no file stays."""
    agent.spool.unlink()
    agent.spool.mkdir()
    refused(agent, str(agent.spool), "not a regular file")
    assert agent.spool.is_dir()


def test_a_read_only_disk_is_refused(rig: Rig) -> None:
    """With what the kernel says."""
    with small_disk(rig, 16) as disk:
        agent = rig.unstarted_agent({"spool": {"path": disk.spool}, **NOBODY})
        agent.start()
        agent.term()
        subprocess.run(["mount", "-o", "remount,ro", disk.directory], check=True)
        refused(agent, str(disk.spool), "Read-only file system")


def test_a_stale_socket_is_replaced(agent: Agent) -> None:
    """What a crash left behind hinders nobody."""
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(agent.socket)
    agent.start()
    assert agent.status()["state"] == "running"


def test_a_dangling_symlink_in_place_of_a_socket_is_refused(agent: Agent) -> None:
    """It is not followed: nothing is made where it leads to."""
    elsewhere = agent.directory / "elsewhere"
    Path(agent.socket).symlink_to(elsewhere)
    before = len(agent.log)
    agent.spawn()
    assert agent.wait() == REFUSED
    assert agent.socket in agent.log[before:]
    assert not elsewhere.exists()
