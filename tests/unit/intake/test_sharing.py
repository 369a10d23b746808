"""One writer for all callers: who has much to say leaves room for others while they cast too."""

import asyncio
from pathlib import Path

import pytest

from relay.cast import Arrival
from relay.intake import door
from relay.intake.connection import SHARE_BYTES, SHARE_CASTS
from relay.intake.door import SHARED_READ_BYTES
from tests.unit.forwarder.flying import until
from tests.unit.intake.calling import Caller, Intake, idle, run, submission

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


def test_a_caller_alone_has_all_that_it_sends_in_one_commit(path: Path) -> None:
    """Nobody is kept waiting by it."""

    async def scenario(intake: Intake) -> None:
        caller = await intake.call()
        there, go_on = intake.stop_at_commit()
        await caller.send(REQUEST)
        await until(there.is_set)
        handed = Handed(intake)
        await caller.send(REQUEST * MANY)
        await until(lambda: handed.casts == MANY)
        go_on.set()
        await answered(intake, caller, 0, 1 + MANY)

    run(path, scenario)


@pytest.mark.parametrize("later", [False, True])
def test_while_others_cast_it_has_its_share_of_a_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    """What one caller has with the writer is bounded then, until nobody else has cast for a while."""
    monkeypatch.setattr(door, "LOOK_S", 0.01 if later else 1e6)

    async def scenario(intake: Intake) -> None:
        one, other = await intake.call(), await intake.call()
        await other.send(REQUEST)
        await answered(intake, other, 0, 1)
        there, go_on = intake.stop_at_commit()
        await one.send(REQUEST)
        await until(there.is_set)
        handed = Handed(intake)
        if later:
            await until(lambda: not intake.door.shared)
        await one.send(REQUEST * MANY)
        await until(lambda: handed.casts >= (MANY if later else SHARE_CASTS))
        await idle()
        assert handed.casts == MANY if later else handed.casts <= MOST
        go_on.set()
        await answered(intake, one, 1, 1 + MANY)

    run(path, scenario)


def test_large_casts_share_by_their_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few of them are as much for the writer as many small ones."""
    monkeypatch.setattr(door, "LOOK_S", 1e6)
    size, many = 60_000, 40

    async def scenario(intake: Intake) -> None:
        one, other = await intake.call(), await intake.call()
        await other.send(REQUEST)
        await answered(intake, other, 0, 1)
        there, go_on = intake.stop_at_commit()
        await one.send(REQUEST)
        await until(there.is_set)
        handed = Handed(intake)
        sending = asyncio.create_task(one.send(submission(payload=bytes(size)) * many))
        await until(lambda: handed.casts * size >= SHARE_BYTES - size)
        await idle()
        # one read more, and the rest of what had begun
        assert handed.casts * size <= SHARE_BYTES + 2 * size
        go_on.set()
        await sending
        await answered(intake, one, 1, 1 + many)

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
