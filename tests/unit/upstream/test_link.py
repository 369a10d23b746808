"""A link against a server on loopback: how it connects, what it takes for silence, and what it tells of its end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from relay.protocol.packets import RES, Kind, encode
from relay.protocol.upstream import SUBMIT, News
from relay.settings import Server, Upstream
from relay.upstream import link
from relay.upstream.link import Link

BARRIER = encode(RES, Kind.STATUS_RES, b"H:relay-barrier:0", b"0", b"0", b"0", b"0")
SETTINGS = Upstream(servers=(), connect_timeout=5, heartbeat_interval=0.02, heartbeat_timeout=30)
JOB = ("job", b"f", b"unique", b"payload", SUBMIT[1])
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Ear:
    """Who is told."""

    def __init__(self) -> None:
        self.open, self.over = asyncio.Event(), asyncio.Event()
        self.done: list[str] = []
        self.ends: list[tuple[str, list[str]]] = []

    def opened(self, link: Link[str]) -> None:
        self.open.set()

    def told(self, link: Link[str], news: News[str]) -> None:
        self.done += news.done

    def lost(self, link: Link[str], reason: str, doubtful: list[str]) -> None:
        self.ends.append((reason, doubtful))
        self.over.set()


def conversing(serve: Serve, scenario: Callable[[Link[str], Ear], Awaitable[None]], **settings: float) -> None:
    """A scenario with a link to a server that serves so, from its start on."""

    served: list[asyncio.Task[None]] = []

    async def serving(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task
        served.append(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    async def whole() -> None:
        server = await asyncio.start_server(serving, "127.0.0.1", 0)
        async with server:
            ear = Ear()
            port = server.sockets[0].getsockname()[1]
            one: Link[str] = Link(Server("127.0.0.1", port), replace(SETTINGS, **settings), ear)
            one.start()
            await scenario(one, ear)
            one.close()
            await asyncio.gather(*served)

    asyncio.run(asyncio.wait_for(whole(), 60))


async def opens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers what opens a link, and nothing else."""
    await reader.readexactly(22)
    writer.write(BARRIER)
    await reader.read()


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every question."""
    while data := await reader.read(65536):
        writer.write(BARRIER * data.count(b"H:relay-barrier:0"))


def test_its_socket_delays_nothing_and_notices_a_network_that_is_silent() -> None:
    """TCP_NODELAY, keepalive within the heartbeat's timeout, and the same for what is not acknowledged."""

    async def scenario(one: Link[str], ear: Ear) -> None:
        await ear.open.wait()
        assert one._transport is not None
        sock = one._transport.get_extra_info("socket")

        def option(name: int) -> int:
            value: int = sock.getsockopt(socket.IPPROTO_TCP, name)
            return value

        assert option(socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert option(socket.TCP_USER_TIMEOUT) == 30_000
        idle, between, probes = map(option, (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT))
        assert idle + between * probes <= 30

    conversing(answers, scenario)


def test_it_is_open_once_the_server_has_answered_and_stays_so_while_it_does() -> None:
    """Nothing may be sent before; then heartbeats go out where nothing else does, and keep the link."""
    beats = asyncio.Semaphore(0)

    async def counts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            for _ in range(data.count(b"H:relay-barrier:0")):
                writer.write(BARRIER)
                beats.release()

    async def scenario(one: Link[str], ear: Ear) -> None:
        assert not one.is_open
        await ear.open.wait()
        for _ in range(10):
            await beats.acquire()
        assert one.is_open
        assert ear.ends == []

    conversing(counts, scenario)


def test_silence_ends_it_with_what_is_in_doubt() -> None:
    """An answer is owed, and no byte comes: told once, with the submission that has no verdict."""

    async def scenario(one: Link[str], ear: Ear) -> None:
        await ear.open.wait()
        one.submit([JOB])
        await ear.over.wait()
        one.close()
        ((reason, doubtful),) = ear.ends
        assert reason.startswith("silent for")
        assert doubtful == ["job"]

    conversing(opens, scenario, heartbeat_timeout=0.1)


def test_bytes_without_an_answer_end_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a byte now and then of a packet without an end is left, too."""
    monkeypatch.setattr(link, "ANSWER_TIMES", 1)

    async def trickles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(22)
        writer.write(BARRIER)
        endless = encode(RES, Kind.WORK_DATA, b"H:nobody:1", b"")[:8] + (1 << 25).to_bytes(4, "big")
        for byte in itertools.chain(endless, itertools.repeat(0)):
            if writer.is_closing():
                return
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)

    async def scenario(one: Link[str], ear: Ear) -> None:
        await ear.open.wait()
        began = asyncio.get_running_loop().time()
        one.submit([JOB])
        await ear.over.wait()
        ((reason, doubtful),) = ear.ends
        assert reason.startswith("no answer for")
        assert doubtful == ["job"]
        assert asyncio.get_running_loop().time() - began >= 2 - 0.02

    conversing(trickles, scenario, heartbeat_timeout=2)


def test_answers_keep_it_however_slow_the_last_of_them_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many submissions one is answered now and then: that is an answer, though the barrier's is long in coming."""
    monkeypatch.setattr(link, "ANSWER_TIMES", 1)
    count = 20

    async def takes_its_time(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(22)
        writer.write(BARRIER)
        await reader.read(65536)
        for number in range(count):
            await asyncio.sleep(0.15)
            handle = b"H:slow:%d" % number
            writer.write(encode(RES, Kind.JOB_CREATED, handle) + encode(RES, Kind.WORK_COMPLETE, handle, b""))
        writer.write(BARRIER)
        await reader.read()

    async def scenario(one: Link[str], ear: Ear) -> None:
        await ear.open.wait()
        one.submit([(f"job {number}", *JOB[1:]) for number in range(count)])
        while len(ear.done) < count:
            assert ear.ends == []
            await asyncio.sleep(0.01)

    conversing(takes_its_time, scenario, heartbeat_timeout=2)


def test_nobody_who_listens_is_told_in_the_networks_words() -> None:
    """A refused connection and a name that does not exist are losses with nothing in doubt."""

    async def whole() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            for server in (Server("127.0.0.1", port), Server("no such host", 4730)):
                ear = Ear()
                Link(server, SETTINGS, ear).start()
                await asyncio.wait_for(ear.over.wait(), 60)
                ((reason, doubtful),) = ear.ends
                assert reason
                assert doubtful == []
                if server.host == "127.0.0.1":
                    assert reason == "Connection refused"

    asyncio.run(whole())
