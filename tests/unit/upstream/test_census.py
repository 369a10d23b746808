"""Counting workers: what an answer says, and what a server that does not answer costs."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.settings import Server
from relay.upstream import census
from relay.upstream.census import Census

ANSWER = b"f\t10\t2\t3\ng.h\t0\t0\t0\n.\n"
WORKERS = {b"f": 3, b"g.h": 0}

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def asked(serve: Serve, how: Callable[[Server], Awaitable[Census]] = census.ask) -> Census:
    """What a real server's answer on a real socket comes to."""

    async def whole() -> Census:
        served = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            finally:
                writer.close()
                served.set()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            answer = await how(Server(host, port))
            await served.wait()
            return answer

    return asyncio.run(whole())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b".\n", {}),
        (ANSWER, WORKERS),
        (ANSWER.replace(b"\n", b"\r\n"), WORKERS),
        (b"", None),
        (b"f\t1\t2\t3\n", None),
        (b"f\t1\t2\n.\n", None),
        (b"f\t1\t2\t3\t4\n.\n", None),
        (b"f\t1\t2\tmany\n.\n", None),
        (b"f\t1\t2\t-1\n.\n", None),
        (b"ERR unknown_command Unknown+server+command\r\n", None),
    ],
)
def test_an_answer_is_read_whole_or_not_at_all(answer: bytes, expected: dict[bytes, int] | None) -> None:
    """A line a function and a dot; anything else is no answer, and nothing of it is believed."""
    assert census.read(answer) == expected


@given(st.binary(max_size=200))
def test_no_answer_makes_it_raise(answer: bytes) -> None:
    """Whatever a server says: workers by function, or None."""
    found = census.read(answer + b"\n.\n")
    assert found is None or all(count >= 0 for count in found.values())


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_answer_may_come_in_pieces(size: int) -> None:
    """However the network cuts it, the answer is the same; the question was `status`."""
    questions: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        questions.append(await reader.readline())
        for at in range(0, len(ANSWER), size):
            writer.write(ANSWER[at : at + size])
            await writer.drain()
            await asyncio.sleep(0)

    assert asked(serve).workers == WORKERS
    assert questions == [b"status\n"]


def test_a_function_that_ends_in_a_dot_does_not_end_the_answer() -> None:
    """A piece that ends in a dot and a line end in the midst of a line is not the end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        for piece in (b"f\t0\t0\t1\n", b"..\t1\t1\t1\n", b".", b"\n"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    assert asked(serve).workers == {b"f": 1, b"..": 1}


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence ends with the timeout: nothing is known, nothing raised."""
    monkeypatch.setattr(census, "TIMEOUT_S", 0.05)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    assert asked(serve).workers is None


def test_a_server_that_hangs_up_is_no_answer() -> None:
    """Half an answer is none."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(ANSWER[:-2])
        await writer.drain()

    assert asked(serve).workers is None


def test_an_endless_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never stops costs no more than the longest answer that is read."""
    monkeypatch.setattr(census, "ANSWER_BYTES", 10_000)
    written = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        while not writer.is_closing() and written < 100 * 1024 * 1024:
            writer.write(b"f\t1\t2\t3\n" * 1000)
            written += 8000
            try:
                await writer.drain()
            except ConnectionError:
                return

    assert asked(serve).workers is None
    assert written < 100 * 1024 * 1024


@pytest.mark.parametrize("how", [census.ask, census.knock])
@pytest.mark.parametrize(("server", "refused"), [(Server("127.0.0.1", 1), True), (Server("a" * 300, 4730), False)])
def test_a_server_that_cannot_be_reached_is_no_answer(
    how: Callable[[Server], Awaitable[Census]], server: Server, refused: bool
) -> None:
    """Refused, which is told apart, or with a name that is none."""

    async def whole() -> Census:
        return await how(server)

    assert asyncio.run(whole()) == Census(None, refused)


def test_a_knock_is_no_question() -> None:
    """A server that takes the connection is not refused, and is asked nothing."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())

    assert asked(serve, census.knock) == Census(None)
    assert heard == [b""]
