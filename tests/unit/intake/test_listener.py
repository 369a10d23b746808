"""The listener: what it tells the kernel, with real sockets and no spool behind them."""

import _socket
import asyncio
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from relay.errors import SocketUnusable
from relay.intake.door import Door
from relay.intake.listener import BACKLOG, Listener
from relay.settings import Intake, Server
from tests.rig.servers import free_port


def settings(path: Path, tcp: Server | None = None) -> Intake:
    """An intake at that path."""
    return Intake(path, 0o600, None, 1000, 10, tcp)


def door() -> Door:
    """One that nobody comes through."""
    return Door(cast(Any, None), cast(Any, None), "vm", "1", 1000, 10)


@pytest.mark.parametrize("inherited", [True, False], ids=["inherited", "made"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_as_many_may_wait_at_each_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inherited: bool, host: str
) -> None:
    """No socket is ever told to keep fewer waiting: who came meanwhile would be turned away."""
    told: list[int] = []

    def listen(sock: socket.socket, backlog: int) -> None:
        told.append(backlog)
        _socket.socket.listen(sock, backlog)

    async def story() -> None:
        kept = None
        if inherited:
            kept = socket.socket(socket.AF_UNIX)
            kept.bind(str(tmp_path / "sock"))
            kept.listen(BACKLOG)
        port = free_port()
        listener = Listener(door(), settings(tmp_path / "sock", Server(host, port)), kept)
        monkeypatch.setattr(socket.socket, "listen", listen)
        await listener.open()
        for family, address in (
            (socket.AF_UNIX, str(tmp_path / "sock")),
            (socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port)),
        ):
            with socket.socket(family) as caller:
                caller.connect(address)
        await listener.close()

    asyncio.run(story())
    assert len(told) >= 2
    assert set(told) == {BACKLOG}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_named(tmp_path: Path, host: str) -> None:
    """With its option and the reason; what was opened before it is closed again."""

    async def story() -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as other:
            where = Server(host, other.getsockname()[1])
            listener = Listener(door(), settings(tmp_path / "sock", where))
            with pytest.raises(SocketUnusable, match=r"tcp_listen .*in use"):
                await listener.open()
            await listener.close()
        assert not (tmp_path / "sock").exists()

    asyncio.run(story())


def test_localhost_is_each_address_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a host has two, callers may use either."""
    port = free_port()
    families = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
    found = [(family, kind, 6, "", (host, port)) for family, host in families.items() for kind in (1, 1)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    async def story() -> None:
        listener = Listener(door(), settings(tmp_path / "sock", Server("localhost", port)))
        await listener.open()
        for family, host in families.items():
            with socket.socket(family) as caller:
                caller.connect((host, port))
        await listener.close()

    asyncio.run(story())


def test_a_name_of_no_address_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the option and the reason."""

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)

    async def story() -> None:
        listener = Listener(door(), settings(tmp_path / "sock", Server("localhost", 4731)))
        with pytest.raises(SocketUnusable, match="tcp_listen localhost:4731: Name or service not known"):
            await listener.open()
        await listener.close()

    asyncio.run(story())
