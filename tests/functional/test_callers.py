"""Who calls, and how many may: the uid on each cast, and descriptors that callers cannot take from the disk."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from tests.rig import packets
from tests.rig.packets import Stream, request, submission
from tests.rig.rig import Rig
from tests.rig.wait import until

#: beside what the agent keeps for itself (256) there is room for 344 callers
OPEN_FILES = 600
CALLERS = 344
LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))"
NOBODY = 65534

CAST_AS = """
import os, sys
from relay.client import Client

os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
print(Client(sys.argv[1], timeout=60).cast("f", b"theirs"))
"""


def test_each_cast_has_its_caller_s_uid(rig: Rig) -> None:
    """As the kernel saw it connect; shown in the backlog, after a crash too, and one can ask for it."""
    if os.getuid():
        pytest.skip("only root can call as somebody else")
    rig.serve("gearmand")
    agent = rig.agent({"intake": {"socket_mode": "0666"}})
    # the rig's directories are its owner's alone
    for directory in (rig.directory, agent.directory):
        directory.chmod(0o755)
    with agent.connect() as caller:
        assert caller.ask(submission(b"f", b"ours")).type == packets.JOB_CREATED
    theirs = subprocess.run(
        [sys.executable, "-c", CAST_AS, agent.socket, str(NOBODY)], capture_output=True, text=True, check=False
    )
    assert theirs.returncode == 0, theirs.stderr
    agent.kill()
    agent.restart()
    assert [cast["uid"] for cast in agent.backlog()] == [0, NOBODY]
    (cast,) = agent.backlog("--uid", str(NOBODY))
    assert str(cast["id"]) == theirs.stdout.strip().rpartition(":")[2]


def let_in(caller: Stream) -> bool:
    """Whether it is answered, or told that there are too many."""
    with contextlib.suppress(ConnectionError):
        caller.send(request(packets.ECHO_REQ, b"x"))
    answer = caller.read()
    if answer.type == packets.ERROR:
        assert answer.arguments(2)[0] == b"too_many_connections"
    return answer.type == packets.ECHO_RES


def test_callers_cannot_take_the_last_descriptors(rig: Rig) -> None:
    """With few open files allowed as many callers are let in as leave the rest alone, and a problem says so.

    With all of them there and more knocking casts are stored, the upstream is found again, the operator answered.
    """
    (server,) = rig.serve("gearmand")
    agent = rig.agent(prelude=LIMIT.format(soft=100, hard=OPEN_FILES))
    (problem,) = [one for one in agent.status()["problems"] if one["code"] == "too_few_descriptors"]
    assert f"({CALLERS})" in problem["text"]
    with contextlib.ExitStack() as crowd:
        # the connection that the rig looked with may not be gone yet
        callers: list[Stream] = []

        def fills() -> bool:
            caller = crowd.enter_context(agent.connect())
            if let_in(caller):
                callers.append(caller)
            return len(callers) == CALLERS

        until(fills, lambda: f"{len(callers)} callers are let in", pause=0)
        # all at once, which is the worst: each takes a descriptor until it has been told
        agent.signal(signal.SIGSTOP)
        knocking = [crowd.enter_context(agent.connect()) for _ in range(400)]
        agent.signal(signal.SIGCONT)
        assert not any(let_in(caller) for caller in knocking)
        server.kill()
        for caller in callers:
            assert caller.ask(submission(b"f", b"x")).type == packets.JOB_CREATED
        server.restart()
        rig.work(b"f")
        agent.await_empty()
    assert "out of system resource" not in agent.log
    assert agent.status()["completed"] == CALLERS


def test_the_soft_limit_of_open_files_is_raised(rig: Rig) -> None:
    """Where the hard one allows it, `max_connections` callers are let in whatever the soft one was."""
    rig.serve("gearmand")
    agent = rig.agent({"intake": {"max_connections": 200}}, prelude=LIMIT.format(soft=64, hard=1000))
    assert agent.status()["problems"] == []
    with contextlib.ExitStack() as crowd:
        callers = [crowd.enter_context(agent.connect()) for _ in range(150)]
        assert all(let_in(caller) for caller in callers)
