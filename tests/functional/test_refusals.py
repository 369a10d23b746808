"""Every refusal over a real socket: its code, what becomes of the connection, and that it hurts nobody else."""

import contextlib
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from relay.protocol.caller import SENTENCES
from tests.rig import packets
from tests.rig.agent import Agent
from tests.rig.callers import Casting, cast_all
from tests.rig.counts import count
from tests.rig.packets import Packet, Stream, request, submission
from tests.rig.rig import Rig
from tests.rig.wait import until

SUBMIT_JOB_HIGH, SUBMIT_JOB_LOW, SUBMIT_JOB_SCHED = 21, 33, 35
GET_STATUS_UNIQUE, STATUS_RES_UNIQUE = 41, 42

MAX_PAYLOAD = 65_536
SMALL = {"intake": {"max_payload": MAX_PAYLOAD}}
TIMES = 20
"""How often a caller asks for what is refused, while another casts."""
DEADLINE_S = 0.5
"""The deadline of a packet where it is shortened."""


def code_of(answer: Packet) -> str:
    """The code of an ERROR, which must have a sentence too."""
    assert answer.type == packets.ERROR, f"an answer of type {answer.type}: {answer.body[:80]!r}"
    code, sentence = answer.arguments(2)
    assert sentence
    return code.decode()


def epoch(function: bytes, unique: bytes, moment: bytes, payload: bytes) -> bytes:
    """A submission for later."""
    return request(packets.SUBMIT_JOB_EPOCH, function, unique, moment, payload)


def ways(function: bytes, unique: bytes, payload: bytes) -> list[bytes]:
    """The same cast at each priority, and for a moment that has passed."""
    return [
        *(submission(function, payload, unique, priority) for priority in packets.type_of_priority),
        epoch(function, unique, b"1000000000", payload),
    ]


BAD_FUNCTIONS = [b"", b"a\nb", b"a b", b"a\tb", b"a\x7f", b"a\x1f", b"\xc3\xa4", b"f" * 513]

#: requests that are refused alone, by their code; the connection stays usable
USABLE = {
    "foreground_not_supported": [
        request(kind, b"plain", b"", b"never") for kind in (packets.SUBMIT_JOB, SUBMIT_JOB_HIGH, SUBMIT_JOB_LOW)
    ],
    "unknown_command": [
        request(packets.CAN_DO, b"plain"),
        request(packets.GRAB_JOB_UNIQ),
        request(packets.WORK_COMPLETE, b"H:here:1", b"never"),
        request(packets.JOB_CREATED, b"H:here:1"),
        request(SUBMIT_JOB_SCHED, b"plain", b"", b"0", b"0", b"1", b"1", b"1", b"never"),
        request(0),
        request(9_999, b"never"),
        request(2**32 - 1, b"never"),
    ],
    "unknown_option": [request(packets.OPTION_REQ, option) for option in (b"teleport", b"", b"Exceptions")],
    "bad_function": [way for name in BAD_FUNCTIONS for way in ways(name, b"", b"never")],
    "unique_too_large": [
        *ways(b"plain", b"u" * 65, b"never"),
        *ways(b"plain", b"u" * 65, b"n" * MAX_PAYLOAD),
    ],
    "payload_too_large": [
        *ways(b"plain", b"", b"n" * (MAX_PAYLOAD + 1)),
        *ways(b"plain", b"", b"n" * (3 * MAX_PAYLOAD)),
        request(packets.ECHO_REQ, b"n" * (3 * MAX_PAYLOAD)),
    ],
}

#: what is no packet of a caller's: bad_packet, and the connection ends
BAD_PACKETS = {
    "magic": b"\0XYZ" + request(packets.ECHO_REQ, b"x")[4:],
    "magic-of-an-answer": b"\0RES" + request(packets.ECHO_REQ, b"x")[4:],
    "length-over-64-MiB": b"\0REQ" + (18).to_bytes(4, "big") + (2**26 + 1).to_bytes(4, "big"),
    "length-of-4-GiB": b"\0REQ" + (18).to_bytes(4, "big") + (2**32 - 1).to_bytes(4, "big"),
    "no-arguments": request(packets.SUBMIT_JOB_BG),
    "no-payload": request(packets.SUBMIT_JOB_BG, b"plain", b"never"),
    "no-moment": epoch(b"plain", b"", b"", b"never"),
    "moment-of-words": epoch(b"plain", b"", b"soon", b"never"),
    "moment-below-0": epoch(b"plain", b"", b"-1", b"never"),
    "moment-of-12-digits": epoch(b"plain", b"", b"1" * 12, b"never"),
    "endless-line": b"s" * 5_000,
}

#: codes that have a test of their own below
ALONE = {
    "bad_packet", "disk_full", "draining", "spool_error", "spool_full", "too_many_connections", "too_slow",
}  # fmt: skip


def test_each_code_is_provoked_here() -> None:
    """The codes that relay refuses with are those of these tests."""
    assert set(SENTENCES) == set(USABLE) | ALONE


class Neighbour:
    """A caller on a connection of its own, which casts while others are refused, and must not notice."""

    def __init__(self, rig: Rig, agent: Agent) -> None:
        """Begin."""
        self._go_on = True
        self.casting: Casting = rig.cast_in_background(agent, b"plain", self._payloads(), window=1)

    def _payloads(self) -> Iterator[bytes]:
        number = 0
        while self._go_on:
            yield b"neighbour-%d" % number
            number += 1

    def end(self) -> list[bytes]:
        """What it cast: all of it acknowledged, at least one cast of it."""
        self._go_on = False
        record = self.casting.finish()
        assert not record.refused
        assert not record.unanswered
        assert record.acknowledged
        return record.acknowledged


def executed(rig: Rig) -> list[bytes]:
    """The payloads that workers had, in order."""
    return sorted(execution.payload for execution in rig.ledger.tries())


# -- refused alone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", USABLE)
def test_a_refused_request_hurts_nothing_but_itself(rig: Rig, code: str) -> None:
    """Each request of the code is refused with it again and again, the connection stays usable, nothing is executed.

    Meanwhile another caller casts, and all of it is acknowledged and executed.
    """
    rig.serve("gearmand")
    rig.work(b"plain", b"a", b"f" * 512)
    agent = rig.agent(SMALL)
    neighbour = Neighbour(rig, agent)
    with agent.connect() as caller:
        for asked in USABLE[code] * (TIMES if len(USABLE[code]) < TIMES else 3):
            assert code_of(caller.ask(asked)) == code, asked[:100]
        caller.send(b"".join(USABLE[code]))
        assert {code_of(caller.read()) for _ in USABLE[code]} == {code}
        assert caller.ask(submission(b"plain", b"after")).type == packets.JOB_CREATED
    payloads = [b"after", *neighbour.end()]
    rig.ledger.await_done(payloads)
    agent.await_empty()
    assert executed(rig) == sorted(payloads)
    assert agent.status()["accepted"] == len(payloads)


def test_what_is_no_packet_ends_one_connection(rig: Rig) -> None:
    """bad_packet: what came before is kept and answered first, then ERROR, then the end; what follows is not read.

    Meanwhile another caller casts, and all of it is acknowledged and executed.
    """
    rig.serve("gearmand")
    rig.work(b"plain")
    agent = rig.agent()
    neighbour = Neighbour(rig, agent)
    for name, sent in BAD_PACKETS.items():
        with agent.connect() as caller:
            before = submission(b"plain", b"before-" + name.encode())
            with contextlib.suppress(ConnectionError):  # it may be closed before all of it is sent
                caller.send(before + sent + submission(b"plain", b"never") * 10)
            assert caller.read().type == packets.JOB_CREATED, name
            assert code_of(caller.read()) == "bad_packet", name
            assert caller.closed_by_peer(), name
    payloads = [*(b"before-" + name.encode() for name in BAD_PACKETS), *neighbour.end()]
    rig.ledger.await_done(payloads)
    agent.await_empty()
    assert executed(rig) == sorted(payloads)


def test_one_connection_too_many(rig: Rig) -> None:
    """too_many_connections: told so and closed, also when it has sent a cast, which is not executed.

    Those who are connected cast on, and when one of them leaves there is room for another.
    """
    rig.serve("gearmand")
    rig.work(b"plain")
    agent = rig.agent({"intake": {"max_connections": 2}})
    with agent.connect() as one:
        # the connection that the rig looked with may not be gone yet
        def joins() -> Stream | None:
            other = agent.connect()
            with contextlib.suppress(ConnectionError):
                if other.ask(request(packets.ECHO_REQ, b"x")).type == packets.ECHO_RES:
                    return other
            other.close()
            return None

        assert one.ask(submission(b"plain", b"one")).type == packets.JOB_CREATED
        with until(joins, "a second caller is let in") as other:
            for _ in range(TIMES):
                with agent.connect() as third:
                    with contextlib.suppress(ConnectionError):
                        third.send(submission(b"plain", b"never"))
                    assert code_of(third.read()) == "too_many_connections"
                    assert third.closed_by_peer()
                assert one.ask(request(packets.ECHO_REQ, b"x")).type == packets.ECHO_RES
            assert other.ask(submission(b"plain", b"other")).type == packets.JOB_CREATED
        with until(joins, "there is room again") as third:
            assert third.ask(submission(b"plain", b"third")).type == packets.JOB_CREATED
    rig.ledger.await_done([b"one", b"other", b"third"])
    agent.await_empty()
    assert executed(rig) == [b"one", b"other", b"third"]


def test_half_a_packet_has_a_deadline(rig: Rig) -> None:
    """too_slow: whoever does not end a packet in time is told so and closed, also when bytes go on coming.

    What it cast before is kept, what it began is not. Who has no packet begun may be silent, and others cast on.
    The program runs with a deadline of half a second in place of PACKET_S.
    """
    rig.serve("gearmand")
    rig.work(b"plain")
    short = f"from relay.intake import connection; connection.PACKET_S = {DEADLINE_S}"
    agent = rig.agent(prelude=short)
    large = submission(b"plain", b"never" * 200_000)
    begun = {
        "byte": b"\0",
        "header": large[:12],
        "line": b"stat",
        "cast": submission(b"plain", b"never")[:-1],
        "large": large[: len(large) // 2],
    }
    with agent.connect() as silent:
        assert silent.ask(submission(b"plain", b"silent")).type == packets.JOB_CREATED
        neighbour = Neighbour(rig, agent)
        callers = {name: agent.connect() for name in begun}
        for name, start in begun.items():
            callers[name].send(submission(b"plain", b"before-" + name.encode()) + start)
        trickle = agent.connect()
        end = time.monotonic() + 60
        with contextlib.suppress(ConnectionError):
            for byte in large:
                trickle.send(bytes([byte]))
                if time.monotonic() > end:
                    break
                if threading.Event().wait(0.05) or trickle._unread:
                    break
        assert code_of(trickle.read()) == "too_slow"
        assert trickle.closed_by_peer()
        trickle.close()
        for name, caller in callers.items():
            assert caller.read().type == packets.JOB_CREATED, name
            assert code_of(caller.read()) == "too_slow", name
            assert caller.closed_by_peer(), name
            caller.close()
        assert silent.ask(submission(b"plain", b"silent, still")).type == packets.JOB_CREATED
    payloads = [b"silent", b"silent, still", *(b"before-" + name.encode() for name in begun), *neighbour.end()]
    rig.ledger.await_done(payloads)
    agent.await_empty()
    assert executed(rig) == sorted(payloads)


# -- refused because of what the agent is in -----------------------------------------------------------------------


class Closing(NamedTuple):
    """How the agent is brought to refuse every new cast, and back."""

    code: str
    close: Callable[[Agent], object]
    open: Callable[[Agent], object]


def reload(agent: Agent, limits: dict[str, Any]) -> None:
    """Other limits of the spool, in force at the next batch."""
    agent.configure({"spool": limits})
    agent.signal(signal.SIGHUP)


CLOSINGS = {
    "draining": Closing("draining", lambda a: a.cli("drain", "--no-wait"), lambda a: a.cli("resume")),
    "max-casts": Closing("spool_full", lambda a: reload(a, {"max_casts": 3}), lambda a: reload(a, {"max_casts": 0})),
    "max-bytes": Closing("spool_full", lambda a: reload(a, {"max_bytes": 15}), lambda a: reload(a, {"max_bytes": 0})),
    "disk": Closing("disk_full", lambda a: reload(a, {"min_free": 2**60}), lambda a: reload(a, {"min_free": 0})),
}


@pytest.mark.parametrize("closing", CLOSINGS.values(), ids=CLOSINGS)
def test_an_agent_that_takes_nothing_new(rig: Rig, closing: Closing) -> None:
    """New casts are refused with the code on every connection, all connections stay usable, nothing refused runs.

    An equal unique of a living cast is answered with its handle all the same, before the refusal; questions are
    answered too; and when it is over the same connections cast on.
    """
    rig.serve("gearmand")
    agent = rig.agent()
    with agent.connect() as one, agent.connect() as other:
        first = [one.ask(submission(b"plain", b"first", b"u-%d" % n)) for n in range(3)]
        assert [answer.type for answer in first] == [packets.JOB_CREATED] * 3
        probes: list[bytes] = []

        def accepts() -> bool:
            probe = b"probe-%d" % len(probes)
            accepted = one.ask(submission(b"plain", probe)).type == packets.JOB_CREATED
            probes.extend([probe] if accepted else [])
            return accepted

        closing.close(agent)
        until(lambda: not accepts(), "casts are refused")
        assert not agent.status()["accepting"]
        for _ in range(TIMES):
            for caller in (one, other):
                for asked in ways(b"plain", b"", b"never") + ways(b"plain", b"new", b"never"):
                    assert code_of(caller.ask(asked)) == closing.code
            for number, asked in enumerate(ways(b"plain", b"u-1", b"never")):
                assert other.ask(asked) == first[1], number
        # in one write: the living one is answered, and the new ones around it are refused
        other.send(submission(b"plain", b"never") + submission(b"plain", b"never", b"u-2") + submission(b"p", b"never"))
        assert code_of(other.read()) == closing.code
        assert other.read() == first[2]
        assert code_of(other.read()) == closing.code
        answer = other.ask(request(packets.GET_STATUS, first[0].body))
        assert answer.arguments(5)[:2] == [first[0].body, b"1"]
        closing.open(agent)
        until(accepts, "casts are accepted again")
        assert agent.status()["accepting"]
        assert other.ask(submission(b"plain", b"other, after")).type == packets.JOB_CREATED
    rig.work(b"plain", b"p")
    agent.await_empty()
    assert executed(rig) == sorted([b"first"] * 3 + [b"other, after", *probes])


def test_a_cast_that_does_not_fit_leaves_room_for_one_that_does(rig: Rig) -> None:
    """spool_full for one that is larger than the room; another caller's smaller one is accepted."""
    rig.serve("gearmand")
    agent = rig.agent({"spool": {"max_bytes": 10_000}})
    with agent.connect() as one, agent.connect() as other:
        for number in range(TIMES):
            assert code_of(one.ask(submission(b"plain", b"n" * 10_001))) == "spool_full"
            assert other.ask(submission(b"plain", b"small-%d" % number)).type == packets.JOB_CREATED
    rig.work(b"plain")
    agent.await_empty()
    assert executed(rig) == sorted(b"small-%d" % number for number in range(TIMES))


# -- a disk that fails -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def files_end_at(agent: Agent, size: int) -> Iterator[None]:
    """While it lasts the agent cannot write a file beyond `size` bytes: write(2) fails with EFBIG."""
    assert agent.process
    _, hard = resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


def wal_size(agent: Agent) -> int:
    """The bytes of the spool's log."""
    return Path(f"{agent.spool}-wal").stat().st_size


def test_a_cast_that_the_disk_does_not_take(rig: Rig) -> None:
    """spool_error for the cast whose COMMIT fails, on a connection that stays usable; a smaller one is accepted.

    The other caller's casts are acknowledged, kept over a crash, and executed; so is what the first casts later.
    """
    rig.serve("gearmand")
    agent = rig.agent()
    with agent.connect() as one, agent.connect() as other:
        assert other.ask(submission(b"plain", b"before")).type == packets.JOB_CREATED
        with files_end_at(agent, wal_size(agent) + 500_000):
            for number in range(3):
                assert code_of(one.ask(submission(b"plain", b"n" * 1_000_000))) == "spool_error"
                assert one.ask(request(packets.ECHO_REQ, b"x")).type == packets.ECHO_RES
                assert other.ask(submission(b"plain", b"small-%d" % number)).type == packets.JOB_CREATED
        assert one.ask(submission(b"plain", b"after")).type == packets.JOB_CREATED
    agent.kill()
    agent.restart()
    rig.work(b"plain")
    agent.await_empty()
    payloads = {b"before", b"small-0", b"small-1", b"small-2", b"after"}
    assert payloads <= set(executed(rig)) <= payloads | {b"n" * 1_000_000}


def test_a_disk_that_takes_nothing(rig: Rig) -> None:
    """spool_error for everybody, nothing is acknowledged, all connections stay usable, and it ends by itself.

    Questions are answered meanwhile, and what was acknowledged before is executed.
    """
    rig.serve("gearmand")
    agent = rig.agent()
    with agent.connect() as one, agent.connect() as other:
        before = one.ask(submission(b"plain", b"before"))
        assert before.type == packets.JOB_CREATED
        with files_end_at(agent, 8_192):
            for caller in (one, other) * TIMES:
                assert code_of(caller.ask(submission(b"plain", b"lost"))) == "spool_error"
            assert other.ask(request(packets.GET_STATUS, before.body)).arguments(5)[:2] == [before.body, b"1"]
            other.send(b"version\n")
            assert line(other).startswith(b"OK ")
            assert not agent.status()["accepting"]
        until(lambda: agent.status()["accepting"], agent.status)
        for caller, payload in ((one, b"one"), (other, b"other")):
            assert caller.ask(submission(b"plain", payload)).type == packets.JOB_CREATED
    rig.work(b"plain")
    agent.await_empty()
    assert {b"before", b"one", b"other"} <= set(executed(rig)) <= {b"before", b"one", b"other", b"lost"}


# -- everything mixed ------------------------------------------------------------------------------------------------


def line(caller: Stream) -> bytes:
    """The next line of text."""
    while b"\n" not in caller._unread:
        caller._receive()
    text, _, rest = bytes(caller._unread).partition(b"\n")
    caller._unread = bytearray(rest)
    return text


class Mix:
    """Requests of every kind at random, each with what reads and checks its answer."""

    def __init__(self, seed: int, known: bytes) -> None:
        """`known` is the handle of a cast that is in the spool."""
        self.random = random.Random(seed)
        self.known = known
        self.asked: list[bytes] = []
        self.checks: list[Callable[[Stream], None]] = []
        #: (function, unique) -> the handle of its first cast, b"" until it is read
        self.first: dict[tuple[bytes, bytes], bytes] = {}
        #: handles of new casts, in the order of the answers
        self.handles: list[bytes] = []
        self.payloads: list[bytes] = []

    def fill(self, count: int) -> None:
        """So many requests."""
        kinds = [self.cast, self.named, self.later, self.echo, self.refused, self.status, self.unique, self.option]
        kinds += [self.text, self.unknown_text]
        for number in range(count):
            self.random.choice(kinds)(number)

    def ask(self, asked: bytes, check: Callable[[Stream], None]) -> None:
        """A request and its check."""
        self.asked.append(asked)
        self.checks.append(check)

    def _new(self, name: tuple[bytes, bytes] | None) -> Callable[[Stream], None]:
        def check(caller: Stream) -> None:
            answer = caller.read()
            assert answer.type == packets.JOB_CREATED
            if name is not None and self.first[name]:
                assert answer.body == self.first[name]
                return
            self.handles.append(answer.body)
            if name is not None:
                self.first[name] = answer.body

        return check

    def cast(self, number: int) -> None:
        """A cast without a unique."""
        payload = b"mixed-%d" % number
        self.payloads.append(payload)
        self.ask(submission(b"plain", payload, b"", self.random.choice(["high", "normal", "low"])), self._new(None))

    def named(self, number: int) -> None:
        """A cast with one of a few uniques."""
        name = (self.random.choice([b"plain", b"other"]), b"u-%d" % self.random.randrange(10))
        payload = b"mixed-%d" % number
        if name not in self.first:
            self.first[name] = b""
            self.payloads.append(payload)
        self.ask(submission(*name[:1], payload, name[1]), self._new(name))

    def later(self, number: int) -> None:
        """A cast for a moment that has passed."""
        payload = b"mixed-%d" % number
        self.payloads.append(payload)
        self.ask(epoch(b"plain", b"", b"1000000000", payload), self._new(None))

    def echo(self, number: int) -> None:
        """An echo, some of them large."""
        body = b"%d" % number * self.random.choice([1, 1, 1, 20_000])
        body = body[:MAX_PAYLOAD]

        def check(caller: Stream) -> None:
            assert caller.read() == (packets.ECHO_RES, body)

        self.ask(request(packets.ECHO_REQ, body), check)

    def refused(self, number: int) -> None:
        """Anything that is refused alone."""
        code = self.random.choice(sorted(USABLE))

        def check(caller: Stream) -> None:
            assert code_of(caller.read()) == code

        self.ask(self.random.choice(USABLE[code]), check)

    def status(self, number: int) -> None:
        """GET_STATUS of a cast that is here, or of none."""
        handle = self.random.choice([self.known, b"H:elsewhere:1", b""])

        def check(caller: Stream) -> None:
            here = b"1" if handle == self.known else b"0"
            answer = caller.read()
            assert answer.type == packets.STATUS_RES
            # whether it runs depends on how far the job server has got
            assert (answer.arguments(5)[:2], answer.arguments(5)[3:]) == ([handle, here], [b"0", b"0"])

        self.ask(request(packets.GET_STATUS, handle), check)

    def unique(self, number: int) -> None:
        """GET_STATUS_UNIQUE sees what was asked before it, and perhaps what comes behind it."""
        unique = b"u-%d" % self.random.randrange(10)
        before = any(given == unique for _, given in self.first)

        def check(caller: Stream) -> None:
            answer = caller.read()
            assert answer.type == STATUS_RES_UNIQUE
            named, known, _, *rest = answer.arguments(6)
            assert (named, rest) == (unique, [b"0", b"0", b"0"])
            assert known == b"1" or not before

        self.ask(request(GET_STATUS_UNIQUE, unique), check)

    def option(self, number: int) -> None:
        """The one option."""

        def check(caller: Stream) -> None:
            assert caller.read() == (packets.OPTION_RES, b"exceptions")

        self.ask(request(packets.OPTION_REQ, b"exceptions"), check)

    def text(self, number: int) -> None:
        """A text command."""
        command = self.random.choice([b"version", b"status", b"prioritystatus", b"workers"])

        def check(caller: Stream) -> None:
            if command == b"version":
                assert line(caller).startswith(b"OK ")
            else:
                lines = caller.read_text()
                assert command == b"workers" or any(text.startswith("plain\t") for text in lines)

        self.ask(command + self.random.choice([b"\n", b"\r\n"]), check)

    def unknown_text(self, number: int) -> None:
        """A line that is no command."""

        def check(caller: Stream) -> None:
            assert line(caller).startswith(b"ERR unknown_command ")

        self.ask(self.random.choice([b"shutdown", b"GET / HTTP/1.1", b""]) + b"\n", check)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_answers_keep_the_order_whatever_is_mixed(rig: Rig, seed: int) -> None:
    """500 requests of every kind, cut anywhere: each answer is that of its request, in order, and handles grow.

    All casts are executed, and nothing that was refused.
    """
    rig.serve("gearmand")
    agent = rig.agent(SMALL)
    with agent.connect() as caller:
        mix = Mix(seed, caller.ask(submission(b"plain", b"known")).body)
        mix.fill(500)
        stream, at = b"".join(mix.asked), 0
        while at < len(stream):
            size = mix.random.choice([1, 11, 100, 10_000, 200_000])
            caller.send(stream[at : at + size])
            at += size
        for number, check in enumerate(mix.checks):
            try:
                check(caller)
            except AssertionError as error:
                raise AssertionError(f"request {number}: {mix.asked[number][:80]!r}") from error
    ids = [int(handle.rpartition(b":")[2]) for handle in mix.handles]
    assert ids == sorted(set(ids))
    rig.work(b"plain", b"other")
    agent.await_empty()
    assert executed(rig) == sorted([b"known", *mix.payloads])


# -- names -------------------------------------------------------------------------------------------------------------


def test_a_nul_ends_the_name_of_a_function(rig: Rig) -> None:
    """A NUL in a function's name cannot be told from the end of it: what follows is the unique, then the payload."""
    rig.serve("gearmand")
    agent = rig.agent()
    with agent.connect() as caller:
        assert caller.ask(submission(b"a\0b", b"payload", b"unique")).type == packets.JOB_CREATED
        assert code_of(caller.ask(submission(b"\0a", b"payload", b""))) == "bad_function"
    (cast,) = agent.backlog()
    assert (cast["function"], cast["unique"], cast["bytes"]) == ("a", "b", len(b"unique\0payload"))


def test_what_makes_uniques_equal(rig: Rig) -> None:
    """All 64 bytes count, any byte but NUL may be in one, `-` is the payload's digest, an empty one is none."""
    rig.serve("gearmand")
    agent = rig.agent(SMALL)
    with agent.connect() as caller:

        def handle(unique: bytes, payload: bytes = b"x", function: bytes = b"nobody") -> bytes:
            answer = caller.ask(submission(function, payload, unique))
            assert answer.type == packets.JOB_CREATED
            return answer.body

        long = b"u" * 63
        assert handle(long + b"1") == handle(long + b"1", b"y") != handle(long + b"2")
        assert handle(bytes(range(1, 65))) == handle(bytes(range(1, 65)), b"y")
        assert handle(b"\n") == handle(b"\n") != handle(b" \n")
        assert handle(b"", b"same") != handle(b"", b"same")
        assert handle(b"-", b"same") == handle(b"-", b"same") != handle(b"-", b"other")
        assert handle(b"-", b"same") != handle(b"-", b"same", b"other")
        assert handle(b"--", b"same") == handle(b"--", b"other")
        before = len(agent.backlog())
        assert code_of(caller.ask(submission(b"nobody", b"x", b"u" * 65))) == "unique_too_large"
        assert len(agent.backlog()) == before


def test_two_callers_at_once_with_the_same_uniques(rig: Rig) -> None:
    """Four callers cast the same 200 uniques at the same time: one cast and one handle each, executed once."""
    rig.serve("gearmand")
    agent = rig.agent()
    uniques = [b"u-%d" % number for number in range(200)]
    start = threading.Barrier(4)
    handles: list[list[bytes]] = []

    def cast() -> None:
        start.wait(30)
        handles.append(cast_all(agent.socket, b"plain", uniques, window=10, uniques=uniques).handles)

    callers = [threading.Thread(target=cast) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(handles) == 4
    assert handles[0] == handles[1] == handles[2] == handles[3]
    assert len(set(handles[0])) == len(uniques)
    status = agent.status()
    assert (status["accepted"], status["coalesced"]) == (200, 600)
    rig.work(b"plain")
    agent.await_empty()
    assert executed(rig) == sorted(uniques)


def test_a_repeat_after_an_answer_that_was_lost(rig: Rig) -> None:
    """The agent is killed before the caller has read the answer: a repeat gets the handle of the first, one cast."""
    rig.serve("gearmand")
    agent = rig.agent()
    with agent.connect() as caller:
        caller.send(submission(b"plain", b"first", b"named"))
        until(agent.backlog, "the cast is on disk")
        agent.kill()
        agent.restart()
        with agent.connect() as again:
            repeat = again.ask(submission(b"plain", b"second", b"named"))
        assert repeat.type == packets.JOB_CREATED
        assert repeat == caller.read(), "the answer that was lost"
    rig.work(b"plain")
    agent.await_empty()
    assert executed(rig) == [b"first"]


def test_a_repeat_after_a_kill_at_any_moment_is_one_cast(rig: Rig) -> None:
    """Killed at once after the caller has sent: on disk or not, with the repeat there is exactly one cast."""
    rig.serve("gearmand")
    agent = rig.agent()
    kills = count("REPEATS", 3, 30)
    for number in range(kills):
        asked = submission(b"plain", b"payload-%d" % number, b"named-%d" % number)
        with agent.connect() as caller:
            caller.send(request(packets.ECHO_REQ, b"x") * number * 40 + asked)
            agent.kill()
        agent.restart()
        with agent.connect() as again:
            assert again.ask(asked).type == packets.JOB_CREATED
    assert sorted(cast["unique"] for cast in agent.backlog()) == sorted(f"named-{number}" for number in range(kills))
    rig.work(b"plain")
    agent.await_empty()
    assert executed(rig) == sorted(b"payload-%d" % number for number in range(kills))


def test_a_late_repeat_is_known_by_its_key(rig: Rig) -> None:
    """Done, and the agent killed, before the caller repeats: the repeat is a new cast, with the same key for workers.

    That is so for a unique of 32 hex digits.
    """
    rig.serve("gearmand")
    rig.work(b"plain")
    agent = rig.agent()
    unique = os.urandom(16).hex().encode()
    first = cast_all(agent.socket, b"plain", [b"x"], uniques=[unique])
    agent.await_empty()
    agent.kill()
    agent.restart()
    repeat = cast_all(agent.socket, b"plain", [b"x"], uniques=[unique])
    assert repeat.handles
    assert repeat.handles != first.handles
    agent.await_empty()
    assert {execution.key for execution in rig.ledger.tries()} == {unique}
