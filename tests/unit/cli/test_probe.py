"""What a probe makes of a server's answers, and that it gives none anything to do."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from relay.cli import doctor, probe
from relay.protocol.packets import RES, Kind, encode
from relay.settings import Server

Say = Callable[[bytes], bytes]


@contextmanager
def server(say: Say) -> Iterator[tuple[Server, list[bytes]]]:
    """A server that answers each connection's first read, and what it was asked."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                request = connection.recv(4096)
                if request:
                    asked.append(request)
                    connection.sendall(say(request))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Server("127.0.0.1", listener.getsockname()[1]), asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def well(request: bytes) -> bytes:
    """A server that knows everything."""
    if request == b"version\n":
        return b"OK 1.1.20\n"
    if request == b"status\n":
        return b"f\t0\t0\t2\ng\t1\t0\t0\n.\n"
    kind = Kind.STATUS_RES if request[7] == Kind.GET_STATUS else Kind.ECHO_RES
    return encode(RES, kind, b"H", b"0", b"0", b"0", b"0")


def test_a_server_that_is_well_is_profiled() -> None:
    """Its version, its workers, heartbeat and echo."""
    with server(well) as (where, _):
        assert probe.profile(where, 5.0) == probe.Profile("", "OK 1.1.20", {"f": 2, "g": 0}, True, True)


def test_nothing_is_submitted() -> None:
    """Only text, GET_STATUS and an ECHO with something in it: none of them leaves anything at the server."""
    with server(well) as (where, asked):
        probe.profile(where, 5.0)
    kinds = [request[7] for request in asked if request.startswith(b"\0REQ")]
    assert kinds == [Kind.GET_STATUS, Kind.ECHO_REQ]
    assert [request for request in asked if not request.startswith(b"\0REQ")] == [b"version\n", b"status\n"]
    assert asked[-1][8:12] != b"\0\0\0\0"


def test_what_it_does_not_answer_is_told() -> None:
    """A server that closes without a word has no version, status, heartbeat or echo, and is no error."""
    with server(lambda request: b"") as (where, _):
        assert probe.profile(where, 5.0) == probe.Profile()


@pytest.mark.parametrize("status", [b"f\t0\t0\n.\n", b"OK\n", b"f\t0\t0\tmany\n.\n"])
def test_a_status_that_is_none_is_no_census(status: bytes) -> None:
    """Fewer columns, no end, no number: None, as the agent takes it."""
    with server(lambda request: status if request == b"status\n" else well(request)) as (where, _):
        assert probe.profile(where, 5.0).workers is None


def test_a_server_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of the system."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert probe.profile(Server("127.0.0.1", port), 5.0).error == "Connection refused"
    assert probe.profile(Server("no.such.host.invalid", 1), 5.0).error


def test_the_file_system_is_that_of_the_nearest_mount() -> None:
    """The longest path wins, the later of equal ones, and a space is a space."""
    mounts = "/dev/a / ext4 rw 0 0\nb /srv xfs rw 0 0\nc /srv nfs4 rw 0 0\nd /srv/a\\040b tmpfs rw 0 0\n"
    from pathlib import Path

    kinds = [doctor.file_system(Path(path), mounts) for path in ("/var", "/srv/x", "/srv/a b/c", "/srvx")]
    assert kinds == ["ext4", "nfs4", "tmpfs", "ext4"]
    assert doctor.file_system(Path("/"), "") == "unknown"
