"""Gearman packets as the tests need them: build, read, and a socket that speaks them.

Written apart from relay.protocol on purpose: a wrong number there must not be wrong here too.
Promises: a packet is read whole, and a timeout in the middle of one loses nothing.
Never does: validate what it sends; a test may send anything.
Failure: `Closed` when the other end is gone, `TimeoutError` when nothing came in time, `AssertionError` on bytes that
are no answer.
"""

import select
import socket
import struct
from typing import NamedTuple, Self

CAN_DO = 1
PRE_SLEEP = 4
NOOP = 6
SUBMIT_JOB = 7
JOB_CREATED = 8
GRAB_JOB = 9
NO_JOB = 10
JOB_ASSIGN = 11
WORK_COMPLETE = 13
WORK_FAIL = 14
GET_STATUS = 15
ECHO_REQ = 16
ECHO_RES = 17
SUBMIT_JOB_BG = 18
ERROR = 19
STATUS_RES = 20
WORK_EXCEPTION = 25
OPTION_REQ = 26
OPTION_RES = 27
GRAB_JOB_UNIQ = 30
JOB_ASSIGN_UNIQ = 31
SUBMIT_JOB_HIGH_BG = 32
SUBMIT_JOB_LOW_BG = 34
SUBMIT_JOB_EPOCH = 36

HEADER = 12
READ_SIZE = 1 << 18

type_of_priority = {"high": SUBMIT_JOB_HIGH_BG, "normal": SUBMIT_JOB_BG, "low": SUBMIT_JOB_LOW_BG}


class Packet(NamedTuple):
    """One packet as it was read."""

    type: int
    body: bytes

    def arguments(self, count: int) -> list[bytes]:
        """The body cut at the first count - 1 NULs; the last argument may hold more of them."""
        return self.body.split(b"\0", count - 1)


class Closed(ConnectionError):
    """The other end closed the connection."""


def request(packet_type: int, *arguments: bytes) -> bytes:
    """The bytes of one request."""
    body = b"\0".join(arguments)
    return struct.pack(">4sII", b"\0REQ", packet_type, len(body)) + body


def submission(function: bytes, payload: bytes, unique: bytes = b"", priority: str = "normal") -> bytes:
    """The bytes of one background submission."""
    return request(type_of_priority[priority], function, unique, payload)


class Stream:
    """A connected socket that sends bytes and reads packets."""

    def __init__(self, address: str | tuple[str, int], timeout: float = 30.0) -> None:
        """Connect to a unix socket (a path) or to a port (host, port)."""
        unix = isinstance(address, str)
        self.socket = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        self._unread = bytearray()
        try:
            self.socket.settimeout(timeout)
            self.socket.connect(address)
            if not unix:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.socket.close()
            raise

    def send(self, data: bytes) -> None:
        """Send all of data, and meanwhile take what comes: two that only write would wait for each other."""
        rest = memoryview(data)
        timeout = self.socket.gettimeout()
        poll = select.poll()
        try:
            poll.register(self.socket, select.POLLIN | select.POLLOUT)
        except ValueError:
            raise Closed("closed from another thread") from None
        while rest:
            ready = poll.poll(None if timeout is None else timeout * 1000)
            if not ready:
                raise TimeoutError("the other end takes nothing")
            ((_, events),) = ready
            if events & select.POLLOUT:
                rest = rest[self.socket.send(rest) :]
            else:
                self._receive()

    def read(self) -> Packet:
        """The next packet."""
        self._await(HEADER)
        magic, packet_type, length = struct.unpack_from(">4sII", self._unread)
        assert magic == b"\0RES", f"these bytes are no answer: {bytes(self._unread[:64])!r}"
        self._await(HEADER + length)
        body = bytes(self._unread[HEADER : HEADER + length])
        del self._unread[: HEADER + length]
        return Packet(packet_type, body)

    def ask(self, data: bytes) -> Packet:
        """Send data, and the next packet."""
        self.send(data)
        return self.read()

    def read_text(self) -> list[str]:
        """The lines of an answer to a text command, up to the line that is only a dot."""
        while b"\n.\n" not in b"\n" + self._unread:
            self._receive()
        text, _, rest = (b"\n" + bytes(self._unread)).partition(b"\n.\n")
        self._unread = bytearray(rest)
        return text.decode().split("\n")[1:]

    def closed_by_peer(self) -> bool:
        """Read until the other end closes; False if it has not after the timeout."""
        try:
            while True:
                self._unread.clear()
                self._receive()
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    def close(self) -> None:
        """Close; may be called twice, and from another thread to wake a reader."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def _await(self, count: int) -> None:
        while len(self._unread) < count:
            self._receive()

    def _receive(self) -> None:
        data = self.socket.recv(READ_SIZE)
        if not data:
            raise Closed("the other end closed the connection")
        self._unread += data

    def __enter__(self) -> Self:
        """Nothing to do: it is connected already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
