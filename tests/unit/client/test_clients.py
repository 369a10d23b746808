"""Both clients over real sockets: connections kept, lost, dropped and shared, as the docstrings say."""

import asyncio
import itertools
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import relay.client
from relay.client import (
    AsyncClient,
    Cast,
    Client,
    Draining,
    Rejected,
    TooManyConnections,
    Unanswered,
    Unavailable,
    aio,
    blocking,
    source,
)

from .script import Peer, Scene, Script, answering
from .twins import Awaited, Twin, both

#: a timeout that is waited for in full, and that a script which answers does not reach on a loaded machine
SHORT_S = 1.0
#: one that never is
LONG_S = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the script listens."""
    return tmp_path / "relay.sock"


def silent(seen: list[bytes]) -> Scene:
    """A scene that reads a cast, answers nothing, and sees the client close the connection."""

    def scene(peer: Peer) -> None:
        seen.append(peer.read()[1][1])
        assert peer.await_end()

    return scene


def dying(seen: list[bytes], count: int = 1) -> Scene:
    """A scene that reads so many casts and closes the connection."""

    def scene(peer: Peer) -> None:
        seen.extend(peer.read()[1][1] for _ in range(count))

    return scene


@both
def test_casts_one_after_the_other_share_a_connection(path: Path, twin: Twin) -> None:
    """The script accepts one, and every handle is that of its cast."""
    with Script(path, answering(5)), twin(str(path), timeout=LONG_S) as client:
        handles = [client.cast("f", b"x", unique=f"u{number}") for number in range(5)]
    assert handles == [f"H:script:{number + 1}/u{number}" for number in range(5)]


@both
def test_a_large_payload_arrives_as_it_was(path: Path, twin: Twin) -> None:
    """Also where the socket takes it in many parts, because the agent reads slowly."""
    payload, seen = bytes(range(1, 252)) * 20_000, list[bytes]()

    def scene(peer: Peer) -> None:
        seen.append(peer.read()[1][2])
        peer.create("H:script:1")

    with Script(path, scene), twin(str(path), timeout=LONG_S) as client:
        assert client.cast("f", payload) == "H:script:1"
    unchanged = seen == [payload]
    assert unchanged


@both
def test_a_kept_connection_that_is_dead_is_replaced(path: Path, twin: Twin) -> None:
    """The agent closed it between two casts: the second one does not notice."""
    with Script(path, answering(1), answering(1)), twin(str(path), timeout=LONG_S) as client:
        assert client.cast("f", b"", unique="u1") == "H:script:1/u1"
        assert client.cast("f", b"", unique="u2") == "H:script:1/u2"


@both
def test_a_cast_whose_connection_is_lost_is_sent_again_under_its_unique(path: Path, twin: Twin) -> None:
    """The agent that may have stored it sees the same unique once more."""
    seen: list[bytes] = []
    with Script(path, dying(seen), answering(1)), twin(str(path), timeout=LONG_S) as client:
        handle = client.cast("f", b"")
    assert handle == f"H:script:1/{seen[0].decode()}"
    assert len(seen[0]) == 32


@both
def test_a_cast_lost_twice_is_unanswered(path: Path, twin: Twin) -> None:
    """Long before its time is up, and under one unique, which the error carries."""
    seen: list[bytes] = []
    with (
        Script(path, dying(seen), dying(seen)),
        twin(str(path), timeout=LONG_S) as client,
        pytest.raises(Unanswered) as raised,
    ):
        client.cast("f", b"x")
    assert {unique.decode() for unique in seen} == {raised.value.unique}
    assert len(seen) == 2


@both
def test_no_answer_is_unanswered_and_ends_the_connection(path: Path, twin: Twin) -> None:
    """The next cast goes over another one, so that a late answer meets nobody."""
    seen: list[bytes] = []
    with Script(path, silent(seen), answering(1)), twin(str(path), timeout=SHORT_S) as client:
        with pytest.raises(Unanswered) as raised:
            client.cast("f", b"x")
        assert raised.value.casts == (Cast("f", b"x", seen[0].decode()),)
        assert client.cast("f", b"x", unique="u") == "H:script:1/u"


@both
def test_an_agent_that_dies_and_stays_away_is_unanswered(path: Path, twin: Twin) -> None:
    """The cast was sent: it may be on disk, so it is not Unavailable."""
    seen: list[bytes] = []

    def last(peer: Peer) -> None:
        peer.read()
        path.unlink()

    with Script(path, last), twin(str(path), timeout=SHORT_S) as client, pytest.raises(Unanswered):
        client.cast("f", b"x")
    assert seen == []


@both
def test_nobody_there_is_unavailable(path: Path, twin: Twin) -> None:
    """No socket, no directory, a file that is no socket, a path that no socket can have: the cause is kept."""
    file = path.with_name("file")
    file.touch()
    for nowhere in (path, path / "deeper", file, path.with_name("x" * 200)):
        with twin(str(nowhere), timeout=LONG_S) as client:
            with pytest.raises(Unavailable) as raised:
                client.cast("f", b"x")
            assert isinstance(raised.value.__cause__, OSError)
            assert raised.value.casts[0].function == "f"
            with pytest.raises(Unavailable):
                next(client.cast_many([("f", b"x")]))


@both
def test_a_rejection_is_raised_and_the_connection_kept(path: Path, twin: Twin) -> None:
    """The next cast goes over it."""

    def scene(peer: Peer) -> None:
        peer.read()
        peer.refuse("draining", "No more.")
        answering(1)(peer)

    with Script(path, scene), twin(str(path), timeout=LONG_S) as client:
        with pytest.raises(Draining, match=r"draining: No more\.") as raised:
            client.cast("f", b"x", unique="u")
        assert raised.value.unique == "u"
        assert client.cast("f", b"x", unique="v") == "H:script:1/v"


@both
@pytest.mark.parametrize("size", [0, 5_000_000], ids=["small", "large"])
def test_a_refused_connection_is_told_apart_from_a_lost_one(path: Path, twin: Twin, size: int) -> None:
    """The agent answers before it reads, and closes: also in the middle of sending its answer is found."""
    with (
        Script(path, lambda peer: peer.refuse("too_many_connections")),
        twin(str(path), timeout=LONG_S) as client,
        pytest.raises(TooManyConnections),
    ):
        client.cast("f", bytes(size))


@both
def test_many_casts_survive_a_lost_connection(path: Path, twin: Twin) -> None:
    """The second connection gets exactly what the first one left without an answer."""

    def scene(peer: Peer) -> None:
        answering(300)(peer)
        peer.read()

    items = [("f", b"x" * 100, f"u{number}") for number in range(2000)]
    with Script(path, scene, answering(1700, 301)), twin(str(path), timeout=LONG_S) as client:
        answers = list(client.cast_many(items))
    assert answers == [f"H:script:{number + 1}/u{number}" for number in range(2000)]


@both
def test_many_casts_unanswered_name_all_that_is_open(path: Path, twin: Twin) -> None:
    """First come the handles there are, then the error with the rest of what was taken, in order."""
    taken: list[str] = []

    def items() -> Iterator[tuple[str, bytes, str]]:
        for number in itertools.count():
            taken.append(f"u{number}")
            yield "f", b"", taken[-1]

    def scene(peer: Peer) -> None:
        answering(100)(peer)
        while not peer.await_end():
            pass

    got: list[object] = []
    with Script(path, scene), twin(str(path), timeout=SHORT_S) as client, pytest.raises(Unanswered) as raised:
        got.extend(client.cast_many(items()))
    assert len(got) == 100
    assert [cast.unique for cast in raised.value.casts] == taken[100:]


@both
@pytest.mark.parametrize("wrong", [("f", "text"), ("f",), ("f", b"", "u", "urgent")])
def test_a_wrong_item_is_raised_in_its_turn(path: Path, twin: Twin, wrong: tuple[object, ...]) -> None:
    """After the handles of all before it; nothing after it is cast."""
    got: list[object] = []
    with Script(path, answering(10)), twin(str(path), timeout=LONG_S) as client:
        items = [*[("f", b"", f"u{number}") for number in range(10)], wrong, ("f", b"never")]
        with pytest.raises((TypeError, ValueError)):
            got.extend(client.cast_many(items))
    assert len(got) == 10


@both
def test_what_items_raises_is_raised_in_its_turn(path: Path, twin: Twin) -> None:
    """The caller's own error, untouched."""

    def items() -> Iterator[tuple[str, bytes]]:
        yield "f", b"1"
        raise LookupError("mine")

    with Script(path, answering(1)), twin(str(path), timeout=LONG_S) as client:
        answers = client.cast_many(items())
        assert str(next(answers)).startswith("H:script:1/")
        with pytest.raises(LookupError, match="mine"):
            next(answers)


@both
def test_slow_items_are_not_held_back(path: Path, twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an item takes longer than a write to disk, its handle is there before the next one is asked for."""
    monkeypatch.setattr(source, "LINGER_S", -1.0)
    got: list[object] = []

    def items() -> Iterator[tuple[str, bytes]]:
        for number in range(5):
            assert len(got) == number
            yield "f", b""

    with Script(path, answering(5)), twin(str(path), timeout=LONG_S) as client:
        for answer in client.cast_many(items()):
            got.append(answer)  # noqa: PERF402  # items looks at it
    assert len(got) == 5


@both
def test_nothing_to_cast_is_no_work(path: Path, twin: Twin) -> None:
    """Not even an agent is needed; nor for what is rejected before it is sent."""
    with twin(str(path), timeout=LONG_S) as client:
        assert list(client.cast_many([])) == []
        (answer,) = client.cast_many([("no good", b"")])
        assert isinstance(answer, Rejected)


@both
def test_leaving_early_ends_the_connection(path: Path, twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that nobody waits for any more are never another's."""
    # on a machine that is busy the first item alone may take longer, and with its answer nothing would be open
    monkeypatch.setattr(source, "LINGER_S", LONG_S)

    def scene(peer: Peer) -> None:
        answering(1)(peer)
        peer.read()
        while not peer.await_end():
            pass

    with Script(path, scene, answering(1)), twin(str(path), timeout=LONG_S) as client:
        for _ in client.cast_many(("f", b"") for _ in range(50)):
            break
        assert client.cast("f", b"", unique="u") == "H:script:1/u"


@both
def test_connections_are_bounded(path: Path, twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    """While all are in use another caller waits within its timeout; nothing of it was sent."""
    monkeypatch.setattr(blocking, "CONNECTIONS", 1)
    monkeypatch.setattr(aio, "CONNECTIONS", 1)
    with Script(path, answering(2)), twin(str(path), timeout=SHORT_S) as client:
        answers = client.cast_many([("f", b"", "u")])
        assert next(answers) == "H:script:1/u"
        with pytest.raises(Unavailable, match="in use"):
            client.cast("f", b"x")
        assert list(answers) == []
        assert client.cast("f", b"x", unique="v") == "H:script:2/v"


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
@pytest.mark.parametrize("twin", [Client, AsyncClient])
def test_a_timeout_is_over_0(twin: type[Client] | type[AsyncClient], timeout: float) -> None:
    """Neither 0, which could never succeed, nor for ever."""
    with pytest.raises(ValueError, match="timeout"):
        twin("/nowhere", timeout=timeout)


def test_a_cancelled_task_ends_its_connection(path: Path) -> None:
    """Its late answer meets nobody."""
    read = threading.Event()

    def scene(peer: Peer) -> None:
        peer.read()
        read.set()
        assert peer.await_end()

    async def story() -> str:
        async with AsyncClient(path, timeout=LONG_S) as client:
            task = asyncio.create_task(client.cast("f", b"x"))
            await asyncio.to_thread(read.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await client.cast("f", b"x", unique="u")

    with Script(path, scene, answering(1)):
        assert asyncio.run(story()) == "H:script:1/u"


def test_items_may_be_asynchronous(path: Path) -> None:
    """As those of a plain iterable, errors in their turn too."""

    async def story() -> list[object]:
        async def items() -> AsyncIterator[tuple[str, bytes, str]]:
            for number in range(200):
                yield "f", b"", f"u{number}"
            raise LookupError("mine")

        got: list[object] = []
        async with AsyncClient(path, timeout=LONG_S) as client:
            try:
                async for answer in client.cast_many(items()):
                    got.append(answer)  # noqa: PERF401  # what came before the error counts
            except LookupError as error:
                got.append(str(error))
        return got

    with Script(path, answering(200)):
        got = asyncio.run(story())
    assert got == [*(f"H:script:{number + 1}/u{number}" for number in range(200)), "mine"]


def test_an_async_client_begins_anew_in_another_loop(path: Path) -> None:
    """What belonged to the old loop is closed."""
    client = AsyncClient(path, timeout=LONG_S)
    with Script(path, answering(1), answering(1)):
        assert asyncio.run(client.cast("f", b"", unique="u")) == "H:script:1/u"
        assert asyncio.run(client.cast("f", b"", unique="v")) == "H:script:1/v"
    client.close()


def test_importing_it_is_light() -> None:
    """No asyncio, logging, ssl or the like; asking for AsyncClient brings asyncio."""
    heavy = {"asyncio", "dataclasses", "inspect", "logging", "ssl", "subprocess", "sqlite3", "eventlet", "relay.spool"}
    code = (
        "import sys; before = set(sys.modules); import relay.client; print(*(set(sys.modules) - before));"
        "relay.client.AsyncClient; assert 'asyncio' in sys.modules"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy.isdisjoint(finished.stdout.split())


def test_every_public_name_is_there() -> None:
    """What __all__ lists can be imported; what it does not is no attribute."""
    for name in relay.client.__all__:
        assert getattr(relay.client, name).__name__ == name
    with pytest.raises(AttributeError):
        relay.client.Server  # noqa: B018  # looking is the test


def test_awaited_is_what_it_stands_for() -> None:
    """The face for AsyncClient in these tests really has one behind it."""
    with Awaited("/nowhere") as client:
        assert isinstance(client.client, AsyncClient)
