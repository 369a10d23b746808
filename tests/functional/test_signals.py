"""How an agent starts and ends: signals, exit codes, and one agent to a spool."""

import itertools
import signal
from pathlib import Path

import pytest

from relay.spool.opening import LOCK_WAIT_S
from tests.rig.agent import Agent, Options
from tests.rig.callers import cast_all
from tests.rig.counts import count
from tests.rig.rig import Rig
from tests.rig.wait import until

CANNOT_OPEN, NOT_THE_OWNER, BAD_CONFIGURATION = 73, 75, 78


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stop_under_load_exits_0_and_loses_nothing(rig: Rig, unique_server_kind: str, number: int) -> None:
    """In the middle of casts: exit 0, and after the restart everything acknowledged is executed."""
    rig.serve(unique_server_kind)
    rig.work(b"plain")
    # while it waits it accepts, and one worker has to do all that
    agent = rig.agent({"agent": {"stop_timeout": 1}})
    casting = rig.cast_in_background(agent, b"plain", (b"load-%d" % n for n in itertools.count()))
    until(lambda: len(casting.record.acknowledged) >= 3000, lambda: f"{len(casting.record.acknowledged)} casts")
    agent.signal(number)
    assert agent.wait() == 0
    record = casting.finish()
    assert {refusal.code for refusal in record.refused} <= {"draining"}
    agent.restart()
    rig.ledger.await_done(record.acknowledged)
    agent.await_empty()


def test_a_stop_does_not_wait_for_a_job_that_does_not_end(rig: Rig) -> None:
    """With a job held by its worker the agent still ends with 0, and the cast is there after the restart."""
    rig.serve("gearmand")
    (worker,) = rig.work(b"held")
    worker.hold()
    agent = rig.agent({"agent": {"stop_timeout": 1}})
    cast_all(agent.socket, b"held", [b"x"])
    until(worker.holding.is_set, "the worker has the job")
    assert agent.term() == 0
    worker.let_go()
    agent.restart()
    rig.ledger.await_done([b"x"])
    agent.await_empty()


def test_a_stop_takes_its_sockets_away(rig: Rig) -> None:
    """After SIGTERM nobody can connect, and the next start needs no cleaning up; after SIGKILL neither."""
    rig.serve("gearmand")
    agent = rig.agent()
    assert agent.term() == 0
    with pytest.raises(OSError, match=r"No such file|refused"):
        agent.connect()
    agent.restart()
    agent.kill()
    agent.restart()
    assert cast_all(agent.socket, b"nobody", [b"x"]).acknowledged == [b"x"]


#: the program is told to end, or to read its configuration, as soon as callers can connect
SIGNALLED = """
import os, signal
from relay.intake.listener import Listener

opened = Listener.open

async def open_and_signal(self):
    await opened(self)
    os.kill(os.getpid(), signal.{name})

Listener.open = open_and_signal
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_stop_as_soon_as_it_listens_is_a_stop_like_any_other(rig: Rig, name: str) -> None:
    """Exit 0 in order, with the socket taken away, and nothing said of what was not to be."""
    rig.serve("gearmand")
    agent = rig.unstarted_agent()
    agent.prelude = SIGNALLED.format(name=name)
    agent.spawn()
    assert agent.wait() == 0
    assert "relay-agent stopped" in agent.log
    assert "Warning" not in agent.log
    assert not Path(agent.socket).exists()


def test_a_reload_as_soon_as_it_listens_is_done(rig: Rig) -> None:
    """SIGHUP at that moment does not end it."""
    rig.serve("gearmand")
    agent = rig.agent(prelude=SIGNALLED.format(name="SIGHUP"))
    until(lambda: "the configuration was reloaded" in agent.log, lambda: agent.log)
    assert cast_all(agent.socket, b"nobody", [b"x"]).acknowledged == [b"x"]


def test_it_says_when_it_is_ready(rig: Rig) -> None:
    """The log has the line that operators and scripts wait for."""
    rig.serve("gearmand")
    agent = rig.agent()
    until(lambda: "relay-agent ready" in agent.log, lambda: agent.log)


def test_a_second_agent_takes_over_when_the_first_one_stops(rig: Rig) -> None:
    """It waits for the spool while the first one works, and then serves what the first one accepted."""
    rig.serve("gearmand")
    first = rig.agent()
    payloads = [b"first-%d" % n for n in range(100)]
    cast_all(first.socket, b"plain", payloads)
    second = Agent(first.directory, [server.address for server in rig.servers])
    second.log_file = first.directory / "second.log"
    rig.agents.append(second)
    process = second.spawn()
    until(lambda: holds_open(process.pid, ".lock"), lambda: f"the second one is at the lock: {second.log}")
    assert cast_all(first.socket, b"plain", [b"meanwhile"]).acknowledged == [b"meanwhile"]
    assert process.poll() is None
    assert first.term() == 0
    until(second.accepts, lambda: second.log)
    rig.work(b"plain")
    rig.ledger.await_done([*payloads, b"meanwhile"])


def holds_open(pid: int, ending: str) -> bool:
    """Whether the process has a file open whose name ends so."""
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            if str(descriptor.readlink()).endswith(ending):
                return True
        except OSError:
            continue
    return False


def test_a_second_agent_gives_up_in_the_end(rig: Rig) -> None:
    """While the first one goes on working the second one exits 75, and has taken nothing from the first.

    It waits 30 seconds; in the short form its program waits for one.
    """
    assert LOCK_WAIT_S == 30
    wait_s = count("LOCK_WAIT", 1, 30)
    rig.serve("gearmand")
    first = rig.agent()
    second = Agent(first.directory, [server.address for server in rig.servers])
    second.prelude = (
        "from functools import partial; from relay.agent import service; "
        f"service.Spool = partial(service.Spool, lock_wait_s={wait_s})"
    )
    second.log_file = first.directory / "second.log"
    rig.agents.append(second)
    second.spawn()
    assert second.wait(120) == NOT_THE_OWNER
    assert cast_all(first.socket, b"nobody", [b"x"]).acknowledged == [b"x"]


def exit_of(agent: Agent) -> int:
    """How an agent that must not start ends."""
    agent.spawn()
    return agent.wait()


BAD: dict[str, tuple[Options, list[str]]] = {
    "a-number-that-is-none": ({"forwarder": {"window": "plenty"}}, ["window"]),
    "a-duration-that-is-none": ({"upstream": {"heartbeat_interval": "often"}}, ["heartbeat_interval"]),
    "an-unknown-choice": ({"forwarder": {"confirm": "maybe"}}, ["confirm"]),
    "a-server-without-a-port": ({"upstream": {"servers": "127.0.0.1:port"}}, ["servers"]),
    "an-unknown-option": (
        {"upstream": {"heartbeat_intervall": 5}},
        ["heartbeat_intervall", "heartbeat_interval"],
    ),
    "an-option-not-built": ({"upstream": {"tls_ca_fil": "/x"}}, ["tls_ca_fil"]),
}


@pytest.mark.parametrize(("options", "names"), BAD.values(), ids=BAD)
def test_a_bad_configuration_exits_78_and_names_the_option(rig: Rig, options: Options, names: list[str]) -> None:
    """One line says which option, and for an unknown one the nearest known name; the spool is not made."""
    rig.serve("gearmand")
    agent = rig.unstarted_agent(options)
    assert exit_of(agent) == BAD_CONFIGURATION
    naming = [line for line in agent.log.splitlines() if names[0] in line]
    assert len(naming) == 1, agent.log
    words = naming[0].replace("'", " ").replace('"', " ").replace(",", " ").replace("?", " ").split()
    assert all(any(name in word for word in words) for name in names)
    if len(names) > 1:
        assert any(names[1] in word and names[0] not in word for word in words), naming[0]
    assert not agent.spool.exists()


def test_a_spool_that_is_a_directory_exits_73(rig: Rig) -> None:
    """It cannot be opened, and nothing of it is touched."""
    rig.serve("gearmand")
    agent = rig.unstarted_agent()
    agent.spool.mkdir(parents=True, mode=0o700)
    (agent.spool / "kept").write_text("kept")
    assert exit_of(agent) == CANNOT_OPEN
    assert (agent.spool / "kept").read_text() == "kept"
    assert str(agent.spool) in agent.log


def test_a_directory_that_others_may_write_exits_73(rig: Rig) -> None:
    """Whoever may write beside the spool could put another one in its place: refused, and no spool is made."""
    rig.serve("gearmand")
    agent = rig.unstarted_agent()
    agent.spool.parent.mkdir()
    agent.spool.parent.chmod(0o777)
    assert exit_of(agent) == CANNOT_OPEN
    assert not agent.spool.exists()
    assert str(agent.spool.parent) in agent.log


def test_relay_makes_the_spool_s_directory_for_itself_alone(rig: Rig) -> None:
    """A directory that was not there is made 0700; a path socket is what socket_mode says."""
    rig.serve("gearmand")
    agent = rig.agent({"intake": {"socket_mode": "0600"}})
    assert agent.spool.parent.stat().st_mode & 0o777 == 0o700
    assert Path(agent.socket).stat().st_mode & 0o777 == 0o600
