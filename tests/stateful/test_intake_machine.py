"""Several callers' connections under small budgets, against a model: each caller's answers, byte for byte.

Real connections on real sockets in a real loop; only the spool is a fake, which settles what it was given when the
model says so, with ids or refusals.  Callers send in pieces, read late or not, close their side, go away.  At each
moment what a caller has read is a beginning of what it is owed; in the end, once all callers have sent and read and the
spool has settled everything, each has just that, the end of its connection if it is due, and nothing counts as
unanswered any more.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.cast import Arrival
from relay.facts import Facts
from relay.intake.door import Door
from relay.protocol.caller import refusal
from relay.protocol.packets import REQ, RES, Kind, encode
from tests.stateful.examples import examples

MAX_PAYLOAD = 6000
#: the bounds of the intake, so small that a few requests reach them; no look comes by itself, and no
#: deadline ends
BOUNDS = {
    "relay.intake.connection.UNANSWERED_BYTES": 4000,
    "relay.intake.door.UNANSWERED_BYTES_IN_ALL": 7000,
    "relay.intake.connection.SLICE_BYTES": 1000,
    "relay.intake.connection.SHARE_CASTS": 2,
    "relay.intake.connection.SHARE_BYTES": 2500,
    "relay.intake.door.SHARED_READ_BYTES": 1500,
    "relay.intake.owed.WRITE_BYTES": 3000,
    "relay.intake.connection.SMALL": 2000,
    "relay.intake.room.HALF_BYTES": 8000,
    "relay.intake.door.LOOK_S": 1e6,
    "relay.intake.connection.DEAF_S": 1e6,
    "relay.intake.connection.PACKET_S": 1e6,
}
TRANSPORT_BYTES = 2000
SOCKET_BYTES = 4608
#: turns of the loop in which all is done that can be done
TURNS = 12
SIZES = st.sampled_from([0, 1, 30, 300, 1500, 4000])


class FakeSpool:
    """Keeps what it is given until it is told to settle it."""

    def __init__(self) -> None:
        self.counts: dict[object, object] = {}
        self.given: list[Arrival | Callable[[int | None], None]] = []
        self.ids = itertools.count(1)
        #: the payload of a cast -> its answer
        self.answers: dict[bytes, bytes] = {}

    def append(self, arrival: Arrival) -> None:
        self.given.append(arrival)

    def find(self, cast_id: int, found: Callable[[int | None], None]) -> None:
        self.given.append(found)

    def find_unique(self, unique: bytes, found: Callable[[int | None], None]) -> None:
        self.given.append(found)

    def settle(self, accept: bool) -> None:
        """A batch: all that it was given."""
        given, self.given = self.given, []
        for one in given:
            if not isinstance(one, Arrival):
                one(None)
                continue
            outcome = [next(self.ids) if accept else "draining" for _ in one.casts]
            for cast, result in zip(one.casts, outcome, strict=True):
                created = encode(RES, Kind.JOB_CREATED, b"H:vm:%d" % result) if accept else refusal("draining")
                self.answers[cast[2]] = created
            one.outcome = range(outcome[0], outcome[-1] + 1) if accept else outcome
            one.answered = True
        for one in given:
            if isinstance(one, Arrival):
                one.settled(one)


class FakeForwarder:
    """Nothing is in flight."""

    def facts(self) -> Facts:
        return Facts()

    def is_in_flight(self, cast_id: int) -> bool:
        return False


class Caller:
    """One caller: what it has still to send, what it is owed, what it has read."""

    def __init__(self, machine: IntakeMachine) -> None:
        ours, self.sock = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        self.sock.setblocking(False)
        self.sent_all = False
        self.broken = False
        self.ended = False
        self.to_send = b""
        #: answers, and payloads of casts whose answers the spool gives
        self.owed: list[tuple[str, bytes]] = []
        self.got = b""

        async def connect() -> None:
            # imported here, under the small bounds
            from relay.intake.connection import Connection

            loop = asyncio.get_running_loop()
            transport, self.connection = await loop.connect_accepted_socket(lambda: Connection(machine.door), ours)
            transport.set_write_buffer_limits(high=TRANSPORT_BYTES)

        machine.loop.run_until_complete(connect())

    def send(self, size: int) -> bool:
        """Some of what is to be sent; True if anything left."""
        try:
            taken = self.sock.send(self.to_send[:size])
        except (BlockingIOError, ConnectionError):
            return False
        self.to_send = self.to_send[taken:]
        return taken > 0

    def read(self, size: int) -> bool:
        """Some of what has come; True if anything did."""
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            return False
        except ConnectionError:
            # it was closed with something unread in it, behind a bad packet
            data = b""
        if not data:
            changed, self.ended = not self.ended, True
            return changed
        self.got += data
        return True

    def due(self, answers: dict[bytes, bytes]) -> bytes:
        """What it is owed, up to the first cast that is not settled."""
        known = itertools.takewhile(
            lambda answer: answer is not None,
            (about if what == "answer" else answers.get(about) for what, about in self.owed),
        )
        return b"".join(answer for answer in known if answer is not None)


class IntakeMachine(RuleBasedStateMachine):
    """See the module."""

    @initialize()
    def begin(self) -> None:
        """An intake, and one caller."""
        self.patches = [mock.patch(name, bound) for name, bound in BOUNDS.items()]
        for patch in self.patches:
            patch.start()
        self.loop = asyncio.new_event_loop()
        self.broken: list[Any] = []
        self.loop.set_exception_handler(lambda _, context: self.broken.append(context))
        self.spool = FakeSpool()
        self.numbers = itertools.count()

        async def make() -> Door:
            return Door(self.spool, FakeForwarder(), "vm", "1", MAX_PAYLOAD, 100)  # type: ignore[arg-type]  # a fake

        self.door = self.loop.run_until_complete(make())
        self.callers = [Caller(self)]

    def turn(self) -> None:
        """Let the loop do what it can."""

        async def turns() -> None:
            for _ in range(TURNS):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def pick(self, number: int) -> Caller:
        """One of the callers."""
        return self.callers[number % len(self.callers)]

    def ask(self, number: int, request: bytes, answer: bytes, what: str = "answer") -> None:
        """Have a caller send a request, if it still may."""
        caller = self.pick(number)
        if not caller.sent_all and not caller.broken:
            caller.to_send += request
            caller.owed.append((what, answer))

    def payload(self, size: int) -> bytes:
        """One that no other cast has."""
        return (b"%d-" % next(self.numbers)).ljust(size, b".")

    # -- requests ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.callers) < 4)
    @rule()
    def connect(self) -> None:
        """One caller more."""
        self.callers.append(Caller(self))

    @rule(number=st.integers(0, 3), size=SIZES, count=st.integers(1, 8))
    def cast(self, number: int, size: int, count: int) -> None:
        """Casts at once."""
        for _ in range(count):
            payload = self.payload(size)
            self.ask(number, encode(REQ, Kind.SUBMIT_JOB_BG, b"f", b"", payload), payload, "cast")

    @rule(number=st.integers(0, 3), size=SIZES)
    def cast_for_later(self, number: int, size: int) -> None:
        """A cast for a moment."""
        payload = self.payload(size)
        self.ask(number, encode(REQ, Kind.SUBMIT_JOB_EPOCH, b"f", b"", b"99", payload), payload, "cast")

    @rule(number=st.integers(0, 3), size=SIZES, count=st.integers(1, 8))
    def echo(self, number: int, size: int, count: int) -> None:
        """Echoes, answered at once."""
        for _ in range(count):
            body = self.payload(size)
            self.ask(number, encode(REQ, Kind.ECHO_REQ, body), encode(RES, Kind.ECHO_RES, body))

    @rule(number=st.integers(0, 3), code=st.sampled_from(["bad_function", "payload_too_large", "unknown_command"]))
    def refused(self, number: int, code: str) -> None:
        """What is refused alone."""
        function, payload = b"a b" if code == "bad_function" else b"f", b"x"
        if code == "payload_too_large":
            payload = bytes(3 * MAX_PAYLOAD)
        kind = 9999 if code == "unknown_command" else Kind.SUBMIT_JOB_BG
        self.ask(number, encode(REQ, kind, function, b"", payload), refusal(code))

    @rule(number=st.integers(0, 3), text=st.booleans())
    def question(self, number: int, text: bool) -> None:
        """A question to the spool, or a text command."""
        if text:
            self.ask(number, b"status\nversion\n", b".\nOK 1\n")
        else:
            answer = encode(RES, Kind.STATUS_RES, b"H:vm:1", b"0", b"0", b"0", b"0")
            self.ask(number, encode(REQ, Kind.GET_STATUS, b"H:vm:1"), answer)

    @rule(number=st.integers(0, 3), garbage=st.sampled_from([b"\0BAD" + bytes(8), encode(REQ, Kind.SUBMIT_JOB_BG)]))
    def garbage(self, number: int, garbage: bytes) -> None:
        """The last that it is answered."""
        self.ask(number, garbage, refusal("bad_packet"))
        caller = self.pick(number)
        if not caller.sent_all and not caller.broken:
            caller.broken = True
            caller.to_send += b"never read" * 200

    # -- what happens ------------------------------------------------------------------------------------------------

    @rule(number=st.integers(0, 3), size=st.sampled_from([1, 500, 3000, 100_000]))
    def send(self, number: int, size: int) -> None:
        """A caller sends some of it."""
        self.pick(number).send(size)
        self.turn()

    @rule(number=st.integers(0, 3), size=st.sampled_from([1, 500, 3000, 100_000]))
    def read(self, number: int, size: int) -> None:
        """A caller reads some of its answers."""
        self.pick(number).read(size)
        self.turn()

    @rule(accept=st.booleans())
    def settle(self, accept: bool) -> None:
        """The spool's next batch."""
        self.loop.run_until_complete(self._settle(accept))
        self.turn()

    async def _settle(self, accept: bool) -> None:
        self.spool.settle(accept)

    async def _look(self) -> None:
        for connection in list(self.door.connections):
            connection.look(self.loop.time())

    @rule(number=st.integers(0, 3))
    def send_no_more(self, number: int) -> None:
        """A caller closes its side, once all of it has left."""
        caller = self.pick(number)
        if not caller.to_send and not caller.sent_all:
            caller.sock.shutdown(socket.SHUT_WR)
            caller.sent_all = True
            self.turn()

    @precondition(lambda self: len(self.callers) > 1)
    @rule(number=st.integers(0, 3))
    def go_away(self, number: int) -> None:
        """A caller is gone."""
        caller = self.pick(number)
        self.callers.remove(caller)
        caller.sock.close()
        self.turn()

    @invariant()
    def every_answer_is_in_its_place(self) -> None:
        """What was read is a beginning of what is owed."""
        for caller in getattr(self, "callers", ()):
            assert caller.due(self.spool.answers).startswith(caller.got)
        assert getattr(self, "broken", []) == []

    def _all_move(self) -> Iterator[bool]:
        for caller in self.callers:
            yield caller.send(1 << 20)
            yield caller.read(1 << 20)

    def teardown(self) -> None:
        """Everybody sends and reads, the spool settles, until nothing moves: then all is answered, nothing counts."""
        if not hasattr(self, "callers"):
            return
        try:
            moved = True
            while moved:
                moved = any(list(self._all_move())) or bool(self.spool.given)
                self.loop.run_until_complete(self._settle(True))
                self.loop.run_until_complete(self._look())
                self.turn()
            for caller in self.callers:
                assert caller.broken or not caller.to_send
                assert caller.got == caller.due(self.spool.answers)
                assert all(what == "answer" or about in self.spool.answers for what, about in caller.owed)
                assert caller.ended == (caller.broken or caller.sent_all)
            assert self.door._unanswered == 0
            for caller in self.callers:
                caller.sock.close()
            self.turn()
            self.turn()
            assert not self.door.connections
            assert self.broken == []
        finally:
            if self.door._timer is not None:
                self.door._timer.cancel()
            self.loop.close()
            for patch in self.patches:
                patch.stop()


TestIntake = IntakeMachine.TestCase
TestIntake.settings = examples(100, 40)
