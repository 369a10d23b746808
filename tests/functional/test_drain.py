"""A drain as in maintenance: what stands in its way, what comes back meanwhile, and what its end means."""

import json
import os
import pty
import re
import subprocess
import time

import pytest

from tests.rig.agent import Agent, program
from tests.rig.callers import cast_all
from tests.rig.rig import Rig
from tests.rig.wait import until
from tests.rig.workers import FAIL

DONE, NOT_RUNNING, NOT_DRAINED = 0, 69, 75


def blockers(agent: Agent) -> dict[str, tuple[int, str]]:
    """Function -> (count, reason), as a dry run names them."""
    finished = agent.cli("drain", "--dry-run", "-f", "json")
    assert finished.returncode == DONE, finished.stderr
    return {one["function"]: (one["count"], one["reason"]) for one in json.loads(finished.stdout)["blockers"]}


def draining(agent: Agent, *arguments: str) -> "subprocess.Popen[str]":
    """A drain that waits, in the background."""
    return subprocess.Popen(
        [program("relay-cli"), "--config-file", str(agent.conf), "drain", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_dry_run_names_each_thing_that_stands_in_the_way(rig: Rig) -> None:
    """No workers, a failing function with its error, a moment that the caller chose; and nothing was changed."""
    rig.serve("gearmand")
    rig.work(b"broken", act=lambda _payload, _tries: FAIL)
    agent = rig.agent({"forwarder": {"backoff_initial": "1h", "backoff_max": "1h"}})
    cast_all(agent.socket, b"nobody", [b"a", b"b"])
    cast_all(agent.socket, b"broken", [b"c"])
    from relay.client import Client

    with Client(agent.socket) as client:
        client.cast("later", b"d", delay=3600)
    until(lambda: blockers(agent).get("broken", (0, ""))[1].startswith("failing: "), lambda: blockers(agent))
    until(lambda: blockers(agent).get("nobody", (0, ""))[1] == "no workers", lambda: blockers(agent))
    said = blockers(agent)
    assert said["nobody"] == (2, "no workers")
    assert said["broken"] == (1, "failing: the worker failed")
    assert said["later"] == (1, "scheduled by the caller")
    assert agent.status()["draining"] is False


def test_with_all_servers_down_it_says_so_and_ends_when_one_is_back(rig: Rig) -> None:
    """75 with the servers' error when time is up; asked again it waits, and everything is executed."""
    (server,) = rig.serve("gearmand")
    rig.work(b"plain")
    agent = rig.agent()
    server.kill()
    until(lambda: agent.status()["problems"], agent.status)
    cast_all(agent.socket, b"plain", [b"a", b"b"])
    finished = agent.cli("drain", "--timeout", "500ms", "-f", "json")
    assert finished.returncode == NOT_DRAINED, finished.stderr
    answer = json.loads(finished.stdout)
    assert [one["reason"] for one in answer["blockers"]] == ["upstreams down: Connection refused"]
    waiting = draining(agent)
    server.restart()
    out, err = waiting.communicate(timeout=120)
    assert waiting.returncode == DONE, err
    assert "safe to power off" in out
    assert sorted(rig.ledger.done()) == [b"a", b"b"]


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "killed"])
def test_it_goes_on_over_a_restart_of_the_agent(rig: Rig, crash: bool) -> None:
    """A drain that waits is not ended by it: it says that it waits, the new agent drains, nothing is lost, exit 0."""
    rig.serve("gearmand")
    agent = rig.agent()
    cast_all(agent.socket, b"nobody", [b"a", b"b"])
    waiting = draining(agent)
    until(lambda: agent.status()["draining"], agent.status)
    if crash:
        agent.kill()
    else:
        agent.term()
    assert waiting.stderr
    for line in waiting.stderr:
        if "waiting for it to come back" in line:
            break
    agent.restart()
    assert [refusal.code for refusal in cast_all(agent.socket, b"nobody", [b"late"]).refused] == ["draining"]
    rig.work(b"nobody")
    out, err = waiting.communicate(timeout=120)
    assert waiting.returncode == DONE, err
    assert out.startswith("Drained: nothing but 0 dead and 0 held casts is left here")
    assert sorted(rig.ledger.done()) == [b"a", b"b"]


def test_an_agent_that_stays_away_ends_it_when_time_is_up(rig: Rig) -> None:
    """69, not a wait for ever."""
    rig.serve("gearmand")
    agent = rig.agent()
    cast_all(agent.socket, b"nobody", [b"a"])
    waiting = draining(agent, "--timeout", "3s")
    until(lambda: agent.status()["draining"], agent.status)
    agent.term()
    _, err = waiting.communicate(timeout=120)
    assert waiting.returncode == NOT_RUNNING
    assert "no agent listens" in err


def test_on_a_terminal_progress_is_one_line(rig: Rig) -> None:
    """It is written over and over, with what is left and why, and is gone at the end; the result stands below."""
    rig.serve("gearmand")
    agent = rig.agent()
    cast_all(agent.socket, b"nobody", [b"a", b"b"])
    until(lambda: blockers(agent)["nobody"][1] == "no workers", lambda: blockers(agent))
    screen, terminal = pty.openpty()
    command = [program("relay-cli"), "--config-file", str(agent.conf), "drain"]
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, close_fds=True)
    os.close(terminal)
    seen = b""

    def read_until(mark: bytes) -> None:
        nonlocal seen
        end = time.monotonic() + 120
        while mark not in seen and time.monotonic() < end:
            seen += os.read(screen, 4096)

    try:
        read_until(b"\r\x1b[K2 casts to go; nothing moves; most of nobody (2): no workers")
        rig.work(b"nobody")
        read_until(b"safe to power off.")
        assert process.wait(60) == DONE
    finally:
        process.kill()
        process.wait()
        os.close(screen)
    assert re.search(rb"\r\x1b\[KDrained: nothing but 0 dead and 0 held casts is left here", seen), seen
