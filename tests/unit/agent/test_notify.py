"""The service manager is told in its own protocol, or not at all."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.agent.notify import READY, STOPPING, notify, reloading, status


@pytest.fixture
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What a service manager listens on, by path or (with an indirect parameter) under an abstract name."""
    name = getattr(request, "param", None) or str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name[1:] if name.startswith("@") else name)
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listening


@pytest.mark.parametrize("manager", [None, "@relay-test-notify"], indirect=True, ids=["path", "abstract"])
def test_the_states_arrive_in_one_datagram(manager: socket.socket) -> None:
    """Several states are one datagram, a line each, to a path and to an abstract socket."""
    assert notify(READY, status("running"))
    assert manager.recv(1024) == b"READY=1\nSTATUS=running"


def test_a_reload_carries_its_moment(manager: socket.socket) -> None:
    """systemd takes RELOADING=1 only with MONOTONIC_USEC beside it."""
    assert notify(reloading())
    first, second = manager.recv(1024).decode().split("\n")
    assert first == "RELOADING=1"
    assert second.removeprefix("MONOTONIC_USEC=").isdigit()


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without NOTIFY_SOCKET, or with an empty one, nothing is sent and nothing raised."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY)
    monkeypatch.setenv("NOTIFY_SOCKET", "")
    assert not notify(READY)


def test_a_manager_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A socket that nobody reads, or a name that is too long, is told by the return value only."""
    for name in (str(tmp_path / "gone"), "/" + "x" * 200):
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        assert not notify(STOPPING)


def test_a_manager_that_does_not_read_never_blocks(manager: socket.socket) -> None:
    """When its queue is full the state is dropped."""
    sent = [notify(status("x" * 1000)) for _ in range(5000)]
    assert sent[0]
    assert not sent[-1]
