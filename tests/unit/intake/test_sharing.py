"""One writer for all callers: who has much to say leaves room for others while they cast too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.cast import Arrival
from relay.intake import connection, door
from relay.intake.connection import SHARE_BYTES, SHARE_CASTS
from relay.intake.door import SHARED_READ_BYTES
from tests.unit.forwarder.flying import until
from tests.unit.intake.calling import GUARD_S, Caller, Intake, idle, run, submission

REQUEST = submission(payload=bytes(60))
MANY = 1000
#: one read more always fits
MOST = SHARE_CASTS + SHARED_READ_BYTES // len(REQUEST) + 1

assert MOST < MANY


class Handed:
    """How many casts the writer was given, behind the COMMIT that it stands at."""

    def __init__(self, intake: Intake) -> None:
        self.casts = 0
        self._append = intake.spool.append
        intake.spool.append = self.append  # type: ignore[method-assign]

    def append(self, arrival: Arrival) -> None:
        self.casts += len(arrival.casts)
        self._append(arrival)


async def answered(intake: Intake, caller: Caller, first: int, casts: int) -> None:
    """All of them are, in order."""
    expected = b"".join([intake.created(number) for number in range(first, first + casts)])
    assert await caller.read(len(expected)) == expected


@asynccontextmanager
async def at_a_commit(intake: Intake, caller: Caller, others: int) -> AsyncIterator[Handed]:
    """Within, the writer stands at the COMMIT of a cast of this caller's; `others` have had one cast each before.

    Afterwards it goes on.
    """
    for number in range(others):
        other = await intake.call()
        await other.send(REQUEST)
        await answered(intake, other, number, 1)
    there, go_on = intake.stop_at_commit()
    await caller.send(REQUEST)
    await until(there.is_set)
    try:
        yield Handed(intake)
    finally:
        go_on.set()


def test_a_caller_alone_has_all_that_it_sends_in_one_commit(path: Path) -> None:
    """Nobody is kept waiting by it."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        async with at_a_commit(intake, caller, others=0) as handed:
            await caller.send(REQUEST * MANY)
            await until(lambda: handed.casts == MANY)
        await answered(intake, caller, 0, 1 + MANY)

    run(path, scenario)


def test_while_others_cast_it_has_its_share_of_a_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one caller has with the writer is bounded then, and all of it is written in the end."""
    monkeypatch.setattr(door, "LOOK_S", 1e6)

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        async with at_a_commit(intake, caller, others=1) as handed:
            await caller.send(REQUEST * MANY)
            await until(lambda: handed.casts >= SHARE_CASTS)
            await idle()
            assert handed.casts <= MOST
        await answered(intake, caller, 1, 1 + MANY)

    run(path, scenario)


def test_it_has_all_again_when_nobody_else_has_cast_for_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look without a turn of another's ends the sharing."""
    monkeypatch.setattr(door, "LOOK_S", 0.01)

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        async with at_a_commit(intake, caller, others=1) as handed:
            await until(lambda: not intake.door.shared)
            await caller.send(REQUEST * MANY)
            await until(lambda: handed.casts == MANY)

    run(path, scenario)


def test_large_casts_share_by_their_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few of them are as much for the writer as many small ones."""
    monkeypatch.setattr(door, "LOOK_S", 1e6)
    size, many = 60_000, 40

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        async with at_a_commit(intake, caller, others=1) as handed:
            sending = asyncio.create_task(caller.send(submission(payload=bytes(size)) * many))
            await until(lambda: handed.casts * size >= SHARE_BYTES - size)
            await idle()
            # one read more, and the rest of what had begun
            assert handed.casts * size <= SHARE_BYTES + 2 * size
        await sending
        await answered(intake, caller, 1, 1 + many)

    run(path, scenario)


def test_last_words_are_not_kept_by_a_share(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop reads what callers have sent as fast as it can, though all of them wait for their share."""
    monkeypatch.setattr(door, "LOOK_S", 1e6)

    async def scenario(intake: Intake) -> None:
        callers = [await intake.call() for _ in range(3)]
        async with at_a_commit(intake, callers[0], others=1) as handed:
            for caller in callers:
                await caller.send(REQUEST * MANY)
            await until(lambda: handed.casts >= len(callers) * SHARE_CASTS)
            hushing = asyncio.create_task(intake.door.hush(GUARD_S))
            await until(lambda: handed.casts == len(callers) * MANY)
            await hushing
        for caller in callers:
            size = len(intake.created(0)) * MANY
            assert len(await caller.read(size)) == size

    run(path, scenario)


def test_time_that_a_caller_waits_for_its_share_is_not_its_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a large packet behind many casts has not moved because it was not read: it has a look's time once it is."""
    monkeypatch.setattr(door, "LOOK_S", 1e6)
    monkeypatch.setattr(connection, "LOOK_S", 1e6)

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        ours = intake.connection
        async with at_a_commit(intake, caller, others=1):
            await caller.send(REQUEST * SHARE_CASTS + submission(payload=bytes(2_000_000))[:SHARED_READ_BYTES])
            await until(lambda: ours._paused and ours._large)
            # it has room since long ago, and has not moved since
            ours._room_at -= 1e6
        await until(lambda: not ours._paused and not ours.eager)
        ours.look(asyncio.get_running_loop().time())
        ours.look(asyncio.get_running_loop().time())
        assert not ours.lags

    run(path, scenario)


def test_a_caller_that_has_left_shares_nothing(path: Path) -> None:
    """One that comes after it is alone."""

    async def scenario(intake: Intake) -> None:
        first = await intake.call()
        await first.send(REQUEST)
        await answered(intake, first, 0, 1)
        first.sock.close()
        await until(lambda: not intake.door.connections)
        second = await intake.call()
        await second.send(REQUEST)
        await answered(intake, second, 1, 1)
        assert not intake.door.shared

    run(path, scenario)


def test_nobody_shares_with_those_of_long_ago(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that cast in turn and left do not count when, after however long, another one comes."""
    monkeypatch.setattr(door, "LOOK_S", 0.01)

    async def scenario(intake: Intake) -> None:
        callers = [await intake.call(), await intake.call()]
        for number, caller in enumerate(callers):
            await caller.send(REQUEST)
            await answered(intake, caller, number, 1)
        for caller in callers:
            caller.sock.close()
        await until(lambda: not intake.door.connections and intake.door._timer is None)
        assert not intake.door.shared

    run(path, scenario)
