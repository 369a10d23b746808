"""Ways in beside the agent's own socket: one that the service manager keeps, and TCP on loopback."""

import os
import socket
import subprocess
import sys

from tests.rig.agent import program
from tests.rig.callers import cast_all
from tests.rig.packets import JOB_CREATED, Stream, submission
from tests.rig.rig import Rig
from tests.rig.wait import until

#: puts the inherited socket where systemd would, in the agent's own process
LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_no_caller_is_refused_while_the_agent_restarts(rig: Rig) -> None:
    """With a socket of the service manager's, a cast that is sent between two agents is taken by the second."""
    rig.serve("gearmand")
    agent = rig.unstarted_agent()
    with socket.socket(socket.AF_UNIX) as kept:
        kept.bind(agent.socket)
        kept.listen(16)

        def launch() -> "subprocess.Popen[bytes]":
            command = [sys.executable, "-c", LAUNCH, str(kept.fileno()), program("relay-agent")]
            command += ["--config-file", str(agent.conf)]
            with agent.log_file.open("ab") as log:
                return subprocess.Popen(command, pass_fds=[kept.fileno()], stdout=log, stderr=log, env=dict(os.environ))

        first = launch()
        try:
            assert cast_all(agent.socket, b"f", [b"first"]).acknowledged == [b"first"]
        finally:
            first.terminate()
            assert first.wait(30) == 0
        with Stream(agent.socket) as between:
            between.send(submission(b"f", b"between"))
            second = launch()
            try:
                assert between.read().type == JOB_CREATED
            finally:
                second.terminate()
                assert second.wait(30) == 0
    assert agent.log.count("relay-agent ready") == 2


def test_casts_come_in_over_loopback_too(rig: Rig) -> None:
    """With tcp_listen a caller without unix sockets casts, and has no uid."""
    rig.serve("gearmand")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    agent = rig.agent({"intake": {"tcp_listen": f"127.0.0.1:{port}"}})
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(submission(b"f", b"over tcp"))
        until(lambda: agent.status()["accepted"] == 1, agent.log_tail)
    assert agent.backlog()[0]["uid"] is None
