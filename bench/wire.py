"""How each peer is asked to keep something, and how its good answers are told: bytes in, counts out; no I/O but for
the greeting.

All requests of a run are of equal size.  Answers are counted by a mark that each good answer holds exactly once and a
bad one never; RabbitMQ's, which may confirm many at a time, by their numbers.
"""

import random
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

FUNCTION = b"bench"
FUNCTIONS = 10_000  # of those that nobody works on

SUBMIT_JOB, SUBMIT_JOB_BG = 7, 18
JOB_CREATED = b"RES\0\0\0\x08"
WORK_COMPLETE = b"RES\0\0\0\x0d"


class Counting(Protocol):
    """Counts good answers."""

    count: int
    last: bytes

    def feed(self, data: bytes) -> None: ...


class Answers:
    """Counts the marks in what was read; a mark cut in two by a read is counted once."""

    def __init__(self, mark: bytes) -> None:
        self.mark, self.count, self.last = mark, 0, b""
        self._carry = b""

    def feed(self, data: bytes) -> None:
        self.last = data
        if len(self.mark) > 1:
            data = self._carry + data
            self._carry = data[1 - len(self.mark) :]
        self.count += data.count(self.mark)


class Confirms:
    """Counts what RabbitMQ confirms: one delivery, or all up to one."""

    ACK = re.compile(rb"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50(.{8})(.)\xce", re.DOTALL)
    SIZE = 21

    def __init__(self) -> None:
        self.count, self.last = 0, b""
        self._carry = b""
        self._all_to = 0
        self._single: set[int] = set()

    def feed(self, data: bytes) -> None:
        self.last = data
        data, end = self._carry + data, 0
        for found in self.ACK.finditer(data):
            end = found.end()
            tag = int.from_bytes(found[1], "big")
            if found[2] == b"\1":
                self._all_to = max(self._all_to, tag)
                self._single = {one for one in self._single if one > tag}
            else:
                self._single.add(tag)
        self._carry = data[max(end, len(data) - self.SIZE + 1) :]
        self.count = self._all_to + len(self._single)


class Request(NamedTuple):
    build: Callable[[int, int, bytes, bytes], bytes]  # caller, number, unique, payload -> bytes
    answers: Callable[[], Counting]
    uniques: Callable[[], Iterator[bytes]]
    greet: Callable[[socket.socket, int], None]  # its number, too


def no_uniques() -> Iterator[bytes]:
    while True:
        yield b""


def uuid7_uniques(per_ms: int = 300) -> Iterator[bytes]:
    """UUIDv7 in hex as one caller makes them at some 300,000 a second: the time grows, the rest is chance."""
    now, number = time.time_ns() // 1_000_000, 0
    while True:
        high = (now + number // per_ms) << 16 | 0x7000 | random.getrandbits(12)
        yield b"%016x%016x" % (high, 1 << 63 | random.getrandbits(62))
        number += 1


def random_uniques() -> Iterator[bytes]:
    while True:
        yield b"%032x" % random.getrandbits(128)


def no_greeting(_sock: socket.socket, _caller: int) -> None:
    """Nothing is said before the first request."""


# -- Gearman: relay and gearmand -------------------------------------------------------------------------------------


def gearman(kind: int, *args: bytes) -> bytes:
    body = b"\0".join(args)
    return struct.pack(">4sII", b"\0REQ", kind, len(body)) + body


def background(_caller: int, _number: int, unique: bytes, payload: bytes) -> bytes:
    return gearman(SUBMIT_JOB_BG, FUNCTION, unique, payload)


def quiet(_caller: int, number: int, unique: bytes, payload: bytes) -> bytes:
    return gearman(SUBMIT_JOB_BG, b"quiet.%05d" % (number % FUNCTIONS), unique, payload)


def foreground(_caller: int, _number: int, unique: bytes, payload: bytes) -> bytes:
    return gearman(SUBMIT_JOB, FUNCTION, unique, payload)


# -- Redis and beanstalkd --------------------------------------------------------------------------------------------


def xadd(_caller: int, _number: int, _unique: bytes, payload: bytes) -> bytes:
    words = (b"XADD", b"casts", b"*", b"p", payload)
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def put(_caller: int, _number: int, _unique: bytes, payload: bytes) -> bytes:
    return b"put 0 0 60 %d\r\n%b\r\n" % (len(payload), payload)


# -- MQTT: a publication of QoS 1, answered with PUBACK and its number -----------------------------------------------


def mqtt(kind: int, body: bytes) -> bytes:
    left, size = len(body), b""
    while True:
        left, digit = left >> 7, left & 127
        size += bytes([digit | 128 if left else digit])
        if not left:
            return bytes([kind]) + size + body


def mqtt_text(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text


def publish(_caller: int, number: int, _unique: bytes, payload: bytes) -> bytes:
    # both bytes of the number are over 0x7f, so that none of them is the mark's
    packet_id = bytes([128 | number & 127, 128 | number >> 7 & 127])
    return mqtt(0x32, mqtt_text(b"casts") + packet_id + payload)


def mqtt_connect(sock: socket.socket, _caller: int = 0, name: bytes = b"", *, clean: bool = True) -> None:
    sock.sendall(mqtt(0x10, mqtt_text(b"MQTT") + bytes([4, 2 if clean else 0, 0, 0]) + mqtt_text(name)))
    answer = sock.recv(4)
    if answer[:2] != b"\x20\x02" or answer[3]:
        raise ConnectionError(f"MQTT: {answer!r} to CONNECT")


# -- NATS: JetStream answers a publication on the subject that it names ----------------------------------------------


def nats_publish(caller: int, _number: int, _unique: bytes, payload: bytes) -> bytes:
    return b"PUB casts answers.%04d %d\r\n%b\r\n" % (caller, len(payload), payload)


def nats_connect(sock: socket.socket, caller: int) -> None:
    sock.recv(4096)
    sock.sendall(b'CONNECT {"verbose":false}\r\nSUB answers.%04d 1\r\nPING\r\n' % caller)
    while b"PONG" not in sock.recv(4096):
        pass


# -- AMQP 0-9-1: RabbitMQ with publisher confirms --------------------------------------------------------------------


def amqp_frame(kind: int, channel: int, body: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(body)) + body + b"\xce"


def amqp_method(channel: int, method: tuple[int, int], arguments: bytes) -> bytes:
    return amqp_frame(1, channel, struct.pack(">HH", *method) + arguments)


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def long(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def basic_publish(_caller: int, _number: int, _unique: bytes, payload: bytes) -> bytes:
    """To the queue `casts` by the default exchange; delivery mode 2 is persistent."""
    return (
        amqp_method(1, (60, 40), b"\0\0" + short(b"") + short(b"casts") + b"\0")
        + amqp_frame(2, 1, struct.pack(">HHQH", 60, 0, len(payload), 0x1000) + b"\2")
        + amqp_frame(3, 1, payload)
    )


class Amqp:
    """The little of a client that is not on the measured path: each call sends a method and waits for its answer."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = b""
        sock.sendall(b"AMQP\0\0\x09\x01")
        self._wait((10, 10))
        login = struct.pack(">I", 0) + short(b"PLAIN") + long(b"\0guest\0guest") + short(b"C")
        self.call(0, (10, 11), login, (10, 30))
        sock.sendall(amqp_method(0, (10, 31), struct.pack(">HIH", 100, 1 << 17, 0)))
        self.call(0, (10, 40), short(b"/") + short(b"") + b"\0", (10, 41))
        self.call(1, (20, 10), short(b""), (20, 11))

    def call(self, channel: int, method: tuple[int, int], arguments: bytes, answer: tuple[int, int]) -> bytes:
        self._sock.sendall(amqp_method(channel, method, arguments))
        return self._wait(answer)

    def declare(self, kind: bytes) -> int:
        """The durable queue `casts`; how many messages it holds."""
        table = short(b"x-queue-type") + b"S" + long(kind)
        body = self.call(1, (50, 10), b"\0\0" + short(b"casts") + b"\2" + long(table), (50, 11))
        count: int = struct.unpack(">I", body[6:10])[0]
        return count

    def _wait(self, answer: tuple[int, int]) -> bytes:
        while True:
            while len(self._data) < 7 or len(self._data) < 8 + int.from_bytes(self._data[3:7], "big"):
                data = self._sock.recv(65536)
                if not data:
                    raise ConnectionError(f"RabbitMQ closed the connection instead of saying {answer}")
                self._data += data
            end = 8 + int.from_bytes(self._data[3:7], "big")
            frame, self._data = self._data[:end], self._data[end:]
            said = struct.unpack(">HH", frame[7:11])
            if said == answer:
                return frame[11:-1]
            if said in ((10, 50), (20, 40)):
                raise ConnectionError(f"RabbitMQ: {frame!r}")


def amqp_connect(sock: socket.socket, _caller: int) -> None:
    Amqp(sock).call(1, (85, 10), b"\0", (85, 11))


REQUESTS = {
    "relay": Request(background, lambda: Answers(JOB_CREATED), no_uniques, no_greeting),
    "relay-quiet": Request(quiet, lambda: Answers(JOB_CREATED), no_uniques, no_greeting),
    "relay-uuid7": Request(background, lambda: Answers(JOB_CREATED), uuid7_uniques, no_greeting),
    "relay-random": Request(background, lambda: Answers(JOB_CREATED), random_uniques, no_greeting),
    # `$15\r\n<time>-<sequence>\r\n`; an error starts with `-`
    "redis": Request(xadd, lambda: Answers(b"$"), no_uniques, no_greeting),
    "gearmand": Request(foreground, lambda: Answers(WORK_COMPLETE), no_uniques, no_greeting),
    "gearmand-background": Request(background, lambda: Answers(JOB_CREATED), random_uniques, no_greeting),
    "beanstalkd": Request(put, lambda: Answers(b"INSERTED"), no_uniques, no_greeting),
    "mosquitto": Request(publish, lambda: Answers(b"\x40\x02"), no_uniques, mqtt_connect),
    "nats": Request(nats_publish, lambda: Answers(b'{"stream":"casts"'), no_uniques, nats_connect),
    "rabbitmq": Request(basic_publish, Confirms, no_uniques, amqp_connect),
}
