"""How long a caller is waited for, and what it is told: each limit from both sides, and each refusal counted."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from relay.intake import door, kernel
from relay.intake.door import PACKET_S
from relay.protocol.caller import refusal
from relay.protocol.packets import REQ, RES, Kind, encode
from tests.unit.forwarder.flying import until
from tests.unit.intake.calling import ECHO, ECHO_LONG, ECHOED, GUARD_S, Intake, run, submission

#: a stop that waits so long for somebody waits for nobody
NEVER_S = 1e6


@pytest.fixture(autouse=True)
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look comes by itself."""
    monkeypatch.setattr(door, "LOOK_S", 1e6)


@pytest.mark.parametrize(("late_s", "told"), [(-0.001, False), (0.001, True)])
def test_half_a_packet_has_its_time_and_no_more(path: Path, late_s: float, told: bool) -> None:
    """Up to PACKET_S it may still be completed; beyond it the caller is told too_slow, once, and that is counted."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        connection = intake.connection
        await caller.send(ECHO[:-1])
        await until(lambda: connection._began_at is not None)
        for _ in range(2):
            connection.look(connection._began_at + PACKET_S + late_s if connection._began_at else 0.0)
        if told:
            assert await caller.read(len(refusal("too_slow")) + 1) == refusal("too_slow")
        else:
            await caller.send(ECHO[-1:])
            assert await caller.read(len(ECHOED)) == ECHOED
        assert intake.door.refused["too_slow"] == told

    run(path, scenario)


def test_a_caller_between_packets_has_all_the_time(path: Path) -> None:
    """One that has sent nothing, and one whose packet is complete."""

    async def scenario(intake: Intake) -> None:
        silent, caller = await intake.call(), await intake.call()
        await caller.send(ECHO[:5])
        await caller.send(ECHO[5:])
        assert await caller.read(len(ECHOED)) == ECHOED
        for connection in list(intake.door.connections):
            connection.look(asyncio.get_running_loop().time() + 1000 * PACKET_S)
        for one in (silent, caller):
            await one.send(ECHO)
            assert await one.read(len(ECHOED)) == ECHOED

    run(path, scenario)


def test_half_a_packet_of_a_caller_that_reads_nothing_ends_without_a_word(path: Path) -> None:
    """What it would be told it would not read: it is cut off, though there is memory to spare."""

    async def scenario(intake: Intake) -> None:
        await intake.call_deaf()
        connection = intake.connection
        connection._began_at = connection._deaf_at
        connection.look(connection._deaf_at + PACKET_S + 0.001)
        await until(lambda: not intake.door.connections)
        assert intake.door.refused["too_slow"] == 0

    run(path, scenario)


def test_what_a_late_reader_has_read_is_counted_no_longer(path: Path) -> None:
    """At once, and not at the next look: others wait for that memory."""

    async def scenario(intake: Intake) -> None:
        deaf = await intake.call_deaf(len(ECHO_LONG))
        owed = intake.door._unanswered
        assert owed > 50_000
        whole = deaf.sent // len(ECHO_LONG)
        await deaf.read(whole * len(ECHO_LONG))
        await until(lambda: intake.door._unanswered < owed / 2)

    run(path, scenario)


@pytest.mark.parametrize(("late_s", "closed"), [(-0.001, False), (0.001, True)])
def test_over_tcp_the_last_answers_have_their_time_and_no_more(path: Path, late_s: float, closed: bool) -> None:
    """A caller that reads nothing behind its end is left in the end, and one that reads has PACKET_S for it."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call_late()
        connection = intake.connection
        await caller.send(b"\0BAD" + bytes(8))
        await until(lambda: connection._over_at is not None)
        connection.look(connection._over_at + PACKET_S + late_s)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (not intake.door.connections) == closed
        while await caller.read(1 << 16):
            pass
        if not closed:
            connection.look(connection._over_at + 0.001)
            await until(lambda: not intake.door.connections)

    run(path, scenario)


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_a_stop_waits_for_nobody_who_has_said_all(path: Path, tcp: bool) -> None:
    """One that sends no more, or is owed an answer, has gone, or never said anything: none of them is waited for."""

    async def scenario(intake: Intake) -> None:
        silent, owed, ending, going = [await intake.call(tcp=tcp) for _ in range(4)]
        there, go_on = intake.stop_at_commit()
        await owed.send(submission())
        await asyncio.to_thread(there.wait, GUARD_S)
        # behind the other's, and answered with it not before the writer goes on
        await ending.send(submission())
        ending.sock.shutdown(socket.SHUT_WR)
        going.sock.close()
        await until(lambda: len(intake.door.connections) == 3)
        await intake.door.hush(NEVER_S)
        go_on.set()
        leaving = asyncio.create_task(intake.door.leave(NEVER_S))
        assert await owed.read(1000) == intake.created(0)
        assert await ending.read(1000) == intake.created(1)
        assert await silent.read(1) == b""
        await leaving

    run(path, scenario)


def test_a_stop_does_not_wait_for_who_goes_while_it_waits(path: Path) -> None:
    """A caller that has much to be read, and is cut off: the stop goes on at once."""

    async def scenario(intake: Intake) -> None:
        await intake.call_deaf()
        hushing = asyncio.create_task(intake.door.hush(NEVER_S))
        await asyncio.sleep(0)
        assert not hushing.done()
        intake.connection.cut()
        await hushing

    run(path, scenario)


def test_what_comes_behind_the_end_over_tcp_is_not_taken(path: Path) -> None:
    """A cast that comes when a stop has said its last word has no answer, so it must not be kept either."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call_late()
        connection = intake.connection
        await intake.door.hush(GUARD_S)
        leaving = asyncio.create_task(intake.door.leave(GUARD_S))
        await until(lambda: connection._over_at or not intake.door.connections)
        with contextlib.suppress(ConnectionError):
            await caller.send(submission() * 10)
        while await caller.read(1 << 16):
            pass
        await until(lambda: not kernel.untaken(connection._socket))
        connection.look(asyncio.get_running_loop().time())
        await leaving
        await intake.spool.catch_up()
        assert intake.rows("SELECT count(*) FROM casts") == [(0,)]

    run(path, scenario)


def test_each_refusal_is_counted(path: Path) -> None:
    """By its code: those that intake knows at once, those of the spool, and the connections that are too many."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        intruder = await intake.call()
        assert await intruder.read(1000) == refusal("too_many_connections")
        await intake.spool.drain()
        asked = [
            (submission() * 2, refusal("draining") * 2),
            (submission(b"two words"), refusal("bad_function")),
            (encode(REQ, Kind.OPTION_REQ, b"teleport"), refusal("unknown_option")),
            (encode(REQ, Kind.ECHO_REQ, b"bad_function"), encode(RES, Kind.ECHO_RES, b"bad_function")),
            (b"\0BAD" + bytes(8), refusal("bad_packet")),
        ]
        for request, answer in asked:
            await caller.send(request)
            assert await caller.read(len(answer)) == answer
        assert intake.door.refused == {
            "too_many_connections": 1,
            "draining": 2,
            "bad_function": 1,
            "unknown_option": 1,
            "bad_packet": 1,
        }

    run(path, scenario, connections=1)
