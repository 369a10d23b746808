"""Servers that are odd, or lie: byte for byte what was seen of those that the rig has not, and what none should send.

Each is the only server of an agent, or stands in a ring before a real one. Whatever they say, every cast is executed,
and none is retired by anything but its own completion.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from tests.rig import packets
from tests.rig.callers import cast_all
from tests.rig.rig import Rig
from tests.rig.scripted import Script, ScriptedServer, Submission, complete, created, response
from tests.rig.servers import HOST
from tests.rig.wait import until

CASTS = [b"%d" % number for number in range(60)]
QUICK = {"forwarder": {"backoff_initial": 0.05, "backoff_max": 0.1}, "upstream": {"heartbeat_timeout": 2}}


class JavaService(Script):
    """java-service: wedges on an empty ECHO, answers options, sends WORK_FAIL after WORK_EXCEPTION, then goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: set[bytes] = set()

    def echo(self, body: bytes) -> bytes | None:
        return response(packets.ECHO_RES, body) if body else None

    def submission(self, job: Submission) -> bytes:
        handle = self.handle()
        if job.payload in self.failed:
            return created(handle) + complete(handle)
        self.failed.add(job.payload)
        return (
            created(handle)
            + response(packets.WORK_EXCEPTION, handle, b"java.lang.NullPointerException")
            + response(packets.WORK_FAIL, handle)
        )


class GearmanJava(Script):
    """gearman-java: full once, and then silent about a job; known=0 always; WORK_COMPLETE before JOB_CREATED."""

    def submission(self, job: Submission) -> bytes:
        handle = self.handle()
        if self.handles == 7:
            return b""
        return complete(handle) + created(handle)


class GearmandTwo(Script):
    """gearmand 2: as 1.1, handles with a NUL behind them in WORK_FAIL, and after a restart they begin at 1 again."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: set[bytes] = set()
        self.link = 0

    def submission(self, job: Submission) -> bytes:
        if job.link != self.link:
            self.link, self.handles = job.link, 0
        handle = self.handle()
        if job.payload in self.failed:
            return created(handle) + complete(handle)
        self.failed.add(job.payload)
        return created(handle) + response(packets.WORK_FAIL, handle + b"\0")


class Geard(Script):
    """geard: no answer to options, and WORK_FAIL with the magic of a request when a worker dies."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: set[bytes] = set()

    def option(self, name: bytes) -> bytes:
        return b""

    def submission(self, job: Submission) -> bytes:
        handle = self.handle()
        if job.payload in self.failed:
            return created(handle) + response(packets.WORK_COMPLETE, handle)
        self.failed.add(job.payload)
        return created(handle) + response(packets.WORK_FAIL, handle, magic=b"\0REQ")


@pytest.fixture
def scripted() -> Iterator[list[ScriptedServer]]:
    """A place for scripted servers, which are gone when the test ends."""
    servers: list[ScriptedServer] = []
    yield servers
    for server in servers:
        server.close()


@pytest.mark.parametrize("script", [Script, JavaService, GearmanJava, GearmandTwo, Geard])
def test_what_is_odd_is_understood(rig: Rig, scripted: list[ScriptedServer], script: type[Script]) -> None:
    """All casts are done there; each failure that was told is counted, and none that was not."""
    server = ScriptedServer(script())
    scripted.append(server)
    agent = rig.agent(QUICK, servers=[server])  # type: ignore[list-item]
    cast_all(agent.socket, b"work", CASTS)
    agent.await_empty()
    status = agent.status()
    assert (status["completed"], status["dead"]) == (len(CASTS), 0)
    fails = script in (JavaService, GearmandTwo, Geard)
    assert status["failures"] == (len(CASTS) if fails else 0)
    assert set(server.payloads()) == set(CASTS)
    if fails:
        assert len(server.submitted) == 2 * len(CASTS)
    uniques = [job.unique for job in server.submitted]
    assert len(set(uniques)) == len(uniques)


class Lie(Script):
    """Takes jobs and answers each with what is wrong; what the link said before must not retire anything."""

    def __init__(self, wrong: bytes) -> None:
        super().__init__()
        self.wrong = wrong

    def submission(self, job: Submission) -> bytes:
        return self.wrong


LIES = {
    "bad magic": b"\0BAD" + b"\0" * 8,
    "text": b"ERR unknown_command Unknown+server+command\r\n" * 2,
    "length 4 GiB": b"\0RES" + b"\0\0\0\x0d" + b"\xff" * 4,
    "JOB_CREATED twice": created(b"H:x:1") + created(b"H:x:1"),
    "unknown handle, then no answer": complete(b"H:nobody:1"),
    "out of order": complete(b"H:x:1") + response(packets.STATUS_RES, b"H:relay-barrier:0", b"0", b"0", b"0", b"0"),
    "completed, and the answer is missing": response(packets.WORK_COMPLETE, b"H:x:1"),
    "a request": response(18, b"f", b"", b"", magic=b"\0REQ"),
    "a type nobody knows": response(200, b""),
    "half a packet": b"\0RES\0\0\0\x08\0\0\0\x20H:x",
}


@pytest.mark.parametrize("wrong", LIES.values(), ids=LIES.keys())
def test_a_liar_retires_nothing_and_is_left(rig: Rig, scripted: list[ScriptedServer], wrong: bytes) -> None:
    """Its link is dropped, nothing it said counts, and the next server executes all; the agent's log has no bug."""
    liar = ScriptedServer(Lie(wrong))
    scripted.append(liar)
    agent = rig.agent(QUICK, servers=[liar])  # type: ignore[list-item]
    cast_all(agent.socket, b"work", CASTS)
    until(lambda: liar.links >= 2, lambda: f"the link was dropped and tried again\n{agent.log_tail()}")
    status = agent.status()
    assert (status["completed"], status["dead"], status["failures"]) == (0, 0, 0)
    assert set(liar.payloads()) <= set(CASTS)

    (real,) = rig.serve("gearmand")
    rig.work(b"work")
    agent.configure({"upstream": {"servers": f"{liar.address}, {real.address}"}})
    agent.term()
    agent.restart()
    rig.ledger.await_done(CASTS)
    agent.await_empty()
    assert agent.status()["completed"] == len(CASTS)


class Swallower(Script):
    """Swallows its first job and answers the others; on that link it then answers no question any more."""

    def __init__(self) -> None:
        super().__init__()
        self.link = 0
        self.swallowed = b""
        self.executed: list[bytes] = []

    def connected(self, link: int) -> bytes:
        self.link = link
        return b""

    def submission(self, job: Submission) -> bytes:
        if not self.swallowed:
            self.swallowed = job.payload
            return b""
        self.executed.append(job.payload)
        return super().submission(job)

    def status(self, handle: bytes) -> bytes:
        return b"" if self.swallowed and self.link == 1 else super().status(handle)


def test_the_answer_to_another_cast_retires_none(rig: Rig, scripted: list[ScriptedServer]) -> None:
    """An answer bears no name, so one that is missing has all others stand for the wrong casts: none of them counts."""
    script = Swallower()
    server = ScriptedServer(script)
    scripted.append(server)
    agent = rig.unstarted_agent(QUICK)
    agent.configure({"upstream": {"servers": "127.0.0.1:1"}})
    agent.start()
    cast_all(agent.socket, b"work", CASTS)
    agent.term()
    # with a backlog the first of them go out together
    agent.configure({"upstream": {"servers": server.address, "heartbeat_interval": 0.2, "heartbeat_timeout": 0.6}})
    agent.start()
    agent.await_empty()
    assert server.links > 1
    assert script.swallowed in CASTS
    assert set(script.executed) == set(CASTS)


def test_a_server_that_wants_tls_gets_no_cast(rig: Rig, scripted: list[ScriptedServer]) -> None:
    """relay speaks no TLS yet, and says so at the first answer: no payload goes out in the clear, all casts are kept.

    A real TLS server, of OpenSSL; that an option for TLS is unknown and ends the start is `test_signals`' to show.
    """
    context, seen = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), bytearray()
    with socket.create_server((HOST, 0)) as listening:

        def shake_hands() -> None:
            with contextlib.suppress(OSError):
                while True:
                    near, _ = listening.accept()
                    seen.extend(near.recv(1 << 16, socket.MSG_PEEK))
                    with near, contextlib.suppress(OSError):
                        context.wrap_socket(near, server_side=True)

        threading.Thread(target=shake_hands, daemon=True).start()
        address = f"{HOST}:{listening.getsockname()[1]}"
        agent = rig.unstarted_agent(QUICK)
        agent.configure({"upstream": {"servers": address}})
        agent.start()
        payloads = [b"secret-%d" % number for number in range(50)]
        assert cast_all(agent.socket, b"work", payloads).acknowledged == payloads
        until(lambda: len(seen) > 100, lambda: f"it is tried again and again\n{agent.log_tail()}")
        status = agent.status()
        assert (status["ready"], status["completed"], status["failures"]) == (50, 0, 0)
        assert b"secret" not in seen
        listening.shutdown(socket.SHUT_RDWR)
