"""Ways in beside the agent's own socket: one that the service manager keeps, and TCP on loopback."""

import os
import socket
import subprocess
import sys
import threading
from typing import Self

from tests.rig.agent import Agent
from tests.rig.callers import cast_all
from tests.rig.packets import JOB_CREATED, Closed, Packet, Stream, submission
from tests.rig.rig import Rig
from tests.rig.servers import free_port
from tests.rig.wait import until

#: puts the inherited socket where systemd would, in the agent's own process
LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


class Kept:
    """A listening socket that outlives its agents, and what starts one on it, as a service manager does."""

    def __init__(self, agent: Agent) -> None:
        """Listen; start nothing."""
        self.agent = agent
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(agent.socket)
        self.socket.listen(64)
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start an agent."""
        command = [sys.executable, "-c", LAUNCH, str(self.socket.fileno())]
        command += [*self.agent.command(), "--config-file", str(self.agent.conf)]
        with self.agent.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, pass_fds=[self.socket.fileno()], stdout=log, stderr=log, env=dict(os.environ)
            )

    def stop(self) -> None:
        """SIGTERM; it must exit 0."""
        assert self.process
        self.process.terminate()
        assert self.process.wait(60) == 0

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left running."""
        if self.process:
            self.process.kill()
            self.process.wait()
        self.socket.close()


def test_no_caller_is_refused_while_the_agent_restarts(rig: Rig) -> None:
    """With a socket of the service manager's, a cast that is sent between two agents is taken by the second."""
    rig.serve("gearmand")
    agent = rig.unstarted_agent()
    with Kept(agent) as kept:
        kept.launch()
        assert cast_all(agent.socket, b"f", [b"first"]).acknowledged == [b"first"]
        kept.stop()
        with Stream(agent.socket) as between:
            between.send(submission(b"f", b"between"))
            kept.launch()
            assert between.read().type == JOB_CREATED
            kept.stop()
    assert agent.log.count("relay-agent ready") == 2


class Stormer(threading.Thread):
    """Casts without a pause, over one connection after the other, and counts what the kernel took and what came back.

    It sends as much as is taken and reads as much as there is; when the agent takes no more, it reads to the end. A
    connection that is refused is an exception, which `finish` raises.
    """

    def __init__(self, path: str, name: bytes) -> None:
        super().__init__(daemon=True)
        self.path, self.tag = path, name
        self.sent = 0
        self.answered: list[Packet] = []
        self.acknowledged: list[bytes] = []
        self.connections = 0
        self.error: BaseException | None = None
        self.stopping = threading.Event()
        self.start()

    def run(self) -> None:
        """Until it is stopped."""
        try:
            while not self.stopping.is_set():
                self.storm()
        except BaseException as error:  # told by `finish`
            self.error = error

    def storm(self) -> None:
        """One connection, from its beginning to its end."""
        with Stream(self.path, timeout=60) as stream:
            self.connections += 1
            payloads: list[bytes] = []
            answers: list[Packet] = []
            rest = b""
            try:
                while not self.stopping.is_set():
                    if not rest:
                        payloads += [b"%s-%d" % (self.tag, self.sent + n) for n in range(10)]
                        rest = b"".join(submission(b"f", payload) for payload in payloads[-10:])
                        self.sent += 10
                    rest = rest[stream.socket.send(rest) :]
                    if len(payloads) - len(answers) > 500:
                        answers.append(stream.read())
            except (BrokenPipeError, ConnectionResetError, Closed):
                pass
            else:
                stream.send(rest)
                rest = b""
            # what is left of the last write never went out
            whole = len(b"".join(submission(b"f", payload) for payload in payloads)) - len(rest)
            count = 0
            for payload in payloads:
                whole -= len(submission(b"f", payload))
                if whole < 0:
                    break
                count += 1
            while len(answers) < count:
                answers.append(stream.read())
            self.answered += answers
            self.acknowledged += [p for p, a in zip(payloads, answers, strict=False) if a.type == JOB_CREATED]

    def finish(self) -> None:
        """Stop, and raise what went wrong."""
        self.stopping.set()
        self.join()
        if self.error:
            raise self.error


def test_an_upgrade_under_load_answers_every_cast(rig: Rig) -> None:
    """One agent after the other on one socket, stopped in the middle of load: nobody is refused a connection, each cast
    that a caller got rid of is answered before its connection ends, and just the acknowledged ones are on disk."""
    rig.serve("gearmand")
    agent = rig.unstarted_agent({"agent": {"stop_timeout": 1}})
    with Kept(agent) as kept:
        kept.launch()
        callers = [Stormer(agent.socket, b"caller-%d" % number) for number in range(3)]
        for _ in range(3):
            seen = [caller.connections for caller in callers]
            more = [caller.sent + 1000 for caller in callers]
            until(lambda: all(c.sent >= m for c, m in zip(callers, more, strict=True)), agent.log_tail)  # noqa: B023
            kept.stop()
            kept.launch()
            until(
                lambda: all(c.error or c.connections > s for c, s in zip(callers, seen, strict=True)),  # noqa: B023
                agent.log_tail,
            )
        for caller in callers:
            caller.finish()
        acknowledged = [payload for caller in callers for payload in caller.acknowledged]
        assert acknowledged
        assert agent.status()["accepted"] == len(acknowledged) == len(set(acknowledged))
        kept.stop()


def test_casts_come_in_over_loopback_too(rig: Rig) -> None:
    """With tcp_listen a caller without unix sockets casts, and has no uid."""
    rig.serve("gearmand")
    port = free_port()
    agent = rig.agent({"intake": {"tcp_listen": f"127.0.0.1:{port}"}})
    # the port is opened behind the unix socket, which is all that was waited for
    until(lambda: "relay-agent ready" in agent.log, agent.log_tail)
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(submission(b"f", b"over tcp"))
        until(lambda: agent.status()["accepted"] == 1, agent.log_tail)
    assert agent.backlog()[0]["uid"] is None
