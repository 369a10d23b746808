"""The fakes: the clients' signatures and checks, casts recorded, answers as told."""

import asyncio
import inspect
import threading
import time
from typing import Any

import pytest

from relay.client import (
    AsyncClient,
    BadFunction,
    Cast,
    Client,
    Draining,
    FakeAsyncClient,
    FakeClient,
    PayloadTooLarge,
    Rejected,
    SpoolError,
    TooManyConnections,
    Unanswered,
    Unavailable,
)
from relay.client.fake import MAX_PAYLOAD
from relay.conf.options import INTAKE
from relay.conf.values import Size


@pytest.mark.parametrize(("fake", "real"), [(FakeClient, Client), (FakeAsyncClient, AsyncClient)])
def test_every_public_method_has_the_client_s_signature(fake: type, real: type) -> None:
    """And every one of the client's is there."""
    for name in vars(real):
        if not name.startswith("_") or name in ("__init__", "__enter__", "__exit__", "__aenter__", "__aexit__"):
            theirs, ours = (inspect.signature(getattr(cls, name)) for cls in (real, fake))
            if name == "__init__":
                # a fake needs no path
                assert list(ours.parameters) == list(theirs.parameters)
            else:
                assert ours == theirs, name
            assert inspect.isasyncgenfunction(getattr(fake, name)) == inspect.isasyncgenfunction(getattr(real, name))


def test_it_records_casts_with_their_uniques() -> None:
    """A new UUIDv7 where none was given; handles differ."""
    fake = FakeClient()
    first = fake.cast("f", b"1")
    second = fake.cast("f", b"2", unique="u", priority="high")
    assert first != second
    assert [cast.payload for cast in fake.casts] == [b"1", b"2"]
    assert len(str(fake.casts[0].unique)) == 32
    assert fake.casts[1] == Cast("f", b"2", "u", "high")


def test_equal_uniques_are_one_cast_until_it_is_cleared() -> None:
    """As in the spool: the first payload stands for both."""
    fake = FakeClient()
    assert fake.cast("f", b"1", unique="u") == fake.cast(b"f", b"2", unique=b"u")
    assert [cast.payload for cast in fake.casts] == [b"1"]
    assert len(fake.tried) == 2
    fake.clear()
    fake.cast("f", b"3", unique="u")
    assert [cast.payload for cast in fake.casts] == [b"3"]


def test_a_dash_stands_for_the_payload() -> None:
    """As in the spool: an equal payload of the same function is the same cast, another one is another."""
    fake = FakeClient()
    first = fake.cast("f", b"1", unique="-")
    assert fake.cast("f", b"1", unique=b"-") == first
    assert first not in (fake.cast("f", b"2", unique="-"), fake.cast("g", b"1", unique="-"))
    assert len(fake.casts) == 3


class Slow(dict[tuple[bytes, ...], str]):
    """One that lets other threads run between looking and acting."""

    def get(self, key: tuple[bytes, ...], default: Any = None) -> Any:
        found = super().get(key, default)
        time.sleep(0.001)
        return found


def test_threads_share_one() -> None:
    """Each unique is one cast, whoever of them is first."""
    fake = FakeClient()
    fake._handles = Slow()
    start = threading.Barrier(4)

    def cast() -> None:
        start.wait(60)
        for number in range(20):
            fake.cast("f", b"x", unique=f"u{number}")

    threads = [threading.Thread(target=cast) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(fake.tried), len(fake.casts)) == (80, 20)


def test_it_checks_as_the_client_does() -> None:
    """Wrong arguments are no casts, nor is a payload that an agent rejects whose options nobody has set."""
    (default,) = [option.default for option in INTAKE if option.name == "max_payload"]
    assert Size()(default) == MAX_PAYLOAD
    for timeout in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            FakeClient(timeout=timeout)
    fake = FakeClient()
    with pytest.raises(PayloadTooLarge):
        fake.cast("f", bytes(MAX_PAYLOAD + 1))
    with pytest.raises(BadFunction):
        fake.cast("no good", b"")
    with pytest.raises(TypeError):
        fake.cast("f", "text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="normal"):
        fake.cast("f", b"", priority="high", delay=1)
    assert fake.casts == []


def test_it_rejects_as_told_and_accepts_again() -> None:
    """Raised by cast, yielded by cast_many, with code and unique; what is in the spool gets its handle all the same."""
    fake = FakeClient()
    handle = fake.cast("f", b"x", unique="u")
    fake.reject("draining")
    with pytest.raises(Draining) as raised:
        fake.cast("f", b"x", unique="v")
    assert raised.value.unique == "v"
    assert fake.cast("f", b"x", unique="u") == handle
    (answer,) = fake.cast_many([("f", b"x")])
    assert isinstance(answer, Rejected)
    fake.reject("spool_error", "Disk.")
    with pytest.raises(SpoolError, match=r"Disk\."):
        fake.cast("f", b"x", unique="u")
    fake.reject("too_many_connections")
    with pytest.raises(TooManyConnections):
        # nobody has read its unique
        fake.cast("f", b"x", unique="u")
    fake.accept()
    fake.cast("f", b"y")
    assert [cast.payload for cast in fake.casts] == [b"x", b"y"]


@pytest.mark.parametrize("kept", [False, True])
def test_it_leaves_casts_unanswered(kept: bool) -> None:
    """On disk or not, as the test says; trying again with the error's unique gives one cast."""
    fake = FakeClient()
    fake.unanswer(kept=kept)
    with pytest.raises(Unanswered) as raised:
        fake.cast("f", b"x")
    assert len(fake.casts) == kept
    fake.accept()
    fake.cast("f", b"x", unique=raised.value.unique)
    assert len(fake.casts) == 1


def test_it_is_away() -> None:
    """Nothing is recorded; cast_many raises."""
    fake = FakeClient()
    fake.be_unavailable()
    with pytest.raises(Unavailable):
        fake.cast("f", b"x")
    with pytest.raises(Unavailable):
        next(fake.cast_many([("f", b"x")]))
    assert fake.casts == []


def test_the_asynchronous_fake_is_its_twin() -> None:
    """cast and cast_many, over plain and asynchronous items."""

    async def story() -> FakeAsyncClient:
        async with FakeAsyncClient() as fake:
            await fake.cast("f", b"1")

            async def items():  # type: ignore[no-untyped-def]  # inferred well enough
                yield "f", b"3"

            handles = [handle async for handle in fake.cast_many([("f", b"2")])]
            handles += [handle async for handle in fake.cast_many(items())]
            assert len(set(handles)) == 2
            return fake

    assert [cast.payload for cast in asyncio.run(story()).casts] == [b"1", b"2", b"3"]
