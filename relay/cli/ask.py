"""Asking the agent: HTTP/1.1 over its control socket, one request a connection.

A reader of our own for the answers of our own server, because http.client costs as much to import as Python
takes to start.  It knows what `relay.control.server` sends, and no more: a length or chunks.

When it fails: NotRunning where no agent listens or it ends before it answers, NotPermitted where this user
may not, Failed with the agent's own code and sentence for every other refusal.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from relay.cli.exits import Failed, NotPermitted, NotRunning

#: seconds without a byte of an answer
PATIENCE_S = 60.0


class Agent:
    """The agent behind a control socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        patience_s: float | None = PATIENCE_S,
    ) -> dict[str, Any]:
        """The object that is answered."""
        answer: dict[str, Any] = json.loads(b"".join(self._pieces(method, path, query or {}, patience_s)))
        return answer

    def lines(self, path: str, query: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        """The objects of JSON Lines, as they come."""
        rest = b""
        for piece in self._pieces("GET", path, query, PATIENCE_S):
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield json.loads(line)

    def _pieces(self, method: str, path: str, query: Mapping[str, object], patience_s: float | None) -> Iterator[bytes]:
        with self._connect(patience_s) as connection, connection.makefile("rb") as stream:
            try:
                connection.sendall(_request(method, path, query))
                status, headers = _head(stream)
                pieces = _body(stream, headers)
                if status >= 400:
                    raise _refusal(status, b"".join(pieces))
                yield from pieces
            except TimeoutError:
                raise Failed(f"the agent at {self._path} has not answered for {patience_s:.0f} s") from None
            except (ConnectionError, EOFError):
                raise NotRunning(f"the agent at {self._path} ended before its answer did") from None

    def _connect(self, patience_s: float | None) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(patience_s)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise unreachable(self._path, error) from None
        return connection


def unreachable(path: Path, error: OSError) -> Failed:
    """Why a socket of the agent's could not be connected to."""
    if isinstance(error, FileNotFoundError | ConnectionRefusedError | NotADirectoryError):
        return NotRunning(f"no agent listens at {path}")
    if isinstance(error, PermissionError):
        return NotPermitted(f"{path}: this user may not connect")
    return Failed(f"{path}: {error.strerror or error}")


def _request(method: str, path: str, query: Mapping[str, object]) -> bytes:
    target = path
    if query:
        from urllib.parse import urlencode

        target += "?" + urlencode(query)
    lines = [f"{method} {target} HTTP/1.1", "Host: relay", "Connection: close", "Content-Length: 0", "", ""]
    return "\r\n".join(lines).encode("ascii")


def _head(stream: BinaryIO) -> tuple[int, dict[str, str]]:
    line = stream.readline()
    if not line:
        raise EOFError
    status = int(line.split()[1])
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return status, headers


def _body(stream: BinaryIO, headers: Mapping[str, str]) -> Iterator[bytes]:
    if headers.get("transfer-encoding") != "chunked":
        yield _exactly(stream, int(headers.get("content-length", "0")))
        return
    while size := int(stream.readline() or _end(), 16):
        yield _exactly(stream, size)
        stream.readline()
    stream.readline()


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    return data if len(data) == size else _end()


def _end() -> bytes:
    raise EOFError


def _refusal(status: int, body: bytes) -> Failed:
    try:
        answer = json.loads(body)
        text = f"{answer['error']}: {answer['text']}"
    except (ValueError, KeyError, TypeError):
        text = f"the agent answered {status}"
    return NotPermitted(text) if status == 403 else Failed(text)
