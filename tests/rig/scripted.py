"""A job server that plays what a script says: a fake, and why.

Of gearmand, geard and Perl's server the rig has the real ones. Of others only what was seen of them on the wire can be
had here (java-service, gearman-java, gearmand 2), and no real server answers garbage when a test wants it to. So this
is a thread behind a socket that reads packets as a job server does, and answers byte for byte what a `Script` decides.

Promises: every submission that was read stands in `submitted`, in order, before its answer is made; a script that
raises ends the connection, and `until_idle` raises what it raised. Never does: execute anything, or outlive `close`.
"""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable
from typing import NamedTuple

from . import packets
from .servers import HOST, free_port

GET_STATUS_ANSWER = (b"0", b"0", b"0", b"0")
SUBMISSIONS = {7: "normal", 21: "high", 33: "low", 18: "normal", 32: "high", 34: "low"}


class Submission(NamedTuple):
    """A job as it was submitted; `link` counts the connections, from 1."""

    link: int
    type: int
    function: bytes
    unique: bytes
    payload: bytes


def response(packet_type: int, *arguments: bytes, magic: bytes = b"\0RES") -> bytes:
    """The bytes of an answer."""
    body = b"\0".join(arguments)
    return struct.pack(">4sII", magic, packet_type, len(body)) + body


def created(handle: bytes) -> bytes:
    """JOB_CREATED."""
    return response(packets.JOB_CREATED, handle)


def complete(handle: bytes) -> bytes:
    """WORK_COMPLETE."""
    return response(packets.WORK_COMPLETE, handle, b"")


class Script:
    """An honest server that completes what it is given at once; a subclass says what is to be otherwise."""

    def __init__(self) -> None:
        """One for each server, over all its connections."""
        self.handles = 0

    def connected(self, link: int) -> bytes:
        """What is said first."""
        return b""

    def workers(self) -> bytes:
        """The answer to the text command `status`: somebody works on `work`."""
        return b"work\t0\t0\t1\n.\n"

    def submission(self, job: Submission) -> bytes:
        """The answer to a submission."""
        handle = self.handle()
        return created(handle) + complete(handle)

    def status(self, handle: bytes) -> bytes:
        """The answer to GET_STATUS."""
        return response(packets.STATUS_RES, handle, *GET_STATUS_ANSWER)

    def option(self, name: bytes) -> bytes:
        """The answer to OPTION_REQ."""
        return response(packets.OPTION_RES, name)

    def echo(self, body: bytes) -> bytes | None:
        """The answer to ECHO_REQ; None: the connection is read no further."""
        return response(packets.ECHO_RES, body)

    def handle(self) -> bytes:
        """The next handle."""
        self.handles += 1
        return b"H:scripted:%d" % self.handles


class ScriptedServer:
    """The thread behind the port."""

    def __init__(self, script: Script) -> None:
        """Listen, and serve from now on."""
        self.script = script
        self.port = free_port()
        self.submitted: list[Submission] = []
        self.links = 0
        self._lock = threading.Lock()
        self._listening = socket.create_server((HOST, self.port))
        self._open: set[socket.socket] = set()
        self._stopping = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        """As relay's configuration wants it."""
        return f"{HOST}:{self.port}"

    def payloads(self) -> list[bytes]:
        """What was submitted, in order."""
        return [job.payload for job in self.submitted[:]]

    def close(self) -> None:
        """End it, with its connections."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            self._open.add(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock:
                self._converse(sock)
        except OSError:
            pass
        finally:
            self._open.discard(sock)

    def _converse(self, sock: socket.socket) -> None:
        unread, link = bytearray(), 0
        while data := sock.recv(1 << 18):
            unread += data
            if unread[:1] != b"\0":
                # the text command `status`, which relay asks over a connection of its own
                sock.sendall(self.script.workers())
                return
            if not link:
                with self._lock:
                    self.links += 1
                    link = self.links
                    sock.sendall(self.script.connected(link))
            answers = []
            while len(unread) >= packets.HEADER:
                _, kind, length = struct.unpack_from(">4sII", unread)
                if len(unread) < packets.HEADER + length:
                    break
                body = bytes(unread[packets.HEADER : packets.HEADER + length])
                del unread[: packets.HEADER + length]
                with self._lock:
                    answer = self._answer(link, kind, body)
                if answer is None:
                    self._wedge(sock)
                    return
                answers.append(answer)
            sock.sendall(b"".join(answers))

    def _answer(self, link: int, kind: int, body: bytes) -> bytes | None:
        if kind in SUBMISSIONS:
            job = Submission(link, kind, *body.split(b"\0", 2))
            self.submitted.append(job)
            return self.script.submission(job)
        if kind == packets.GET_STATUS:
            return self.script.status(body)
        if kind == packets.OPTION_REQ:
            return self.script.option(body)
        if kind == packets.ECHO_REQ:
            return self.script.echo(body)
        raise AssertionError(f"relay sent a packet of type {kind}")

    def _wedge(self, sock: socket.socket) -> None:
        """Nothing is answered any more, until the other end goes."""
        while not self._stopping:
            if select.select([sock], [], [], 0.1)[0] and not sock.recv(1 << 16):
                return


Make = Callable[[], Script]
