"""Sockets from the service manager: taken when they are ours, left alone when they are not."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.agent.activation import take


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    """A unix socket that listens."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        yield sock


def test_a_listening_socket_is_taken_by_its_path(listening: socket.socket, tmp_path: Path) -> None:
    """It comes under its path, and the variables are gone, so that no child takes it for its own."""
    copy = os.dup(listening.fileno())
    environ = {"LISTEN_PID": "42", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "relay.socket", "HOME": "/"}
    found = take(environ, 42, copy)
    assert list(found) == [tmp_path / "s"]
    assert environ == {"HOME": "/"}
    assert not os.get_inheritable(copy)
    found[tmp_path / "s"].close()


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_PID": "41", "LISTEN_FDS": "1"}, {"LISTEN_PID": "42", "LISTEN_FDS": "x"}]
)
def test_what_is_not_for_this_process_is_left_alone(environ: dict[str, str], listening: socket.socket) -> None:
    """Another's pid, no number, or nothing at all: nothing is taken."""
    assert take(environ, 42, listening.fileno()) == {}


def test_what_does_not_listen_is_left_alone(tmp_path: Path) -> None:
    """A file, or a socket that is connected, is not taken, and stays open."""
    here, there = socket.socketpair()
    with here, there, (tmp_path / "f").open("w") as file:
        for descriptor in (here.fileno(), file.fileno()):
            assert take({"LISTEN_PID": "42", "LISTEN_FDS": "1"}, 42, descriptor) == {}
            os.fstat(descriptor)
