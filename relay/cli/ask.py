"""Asking the agent: HTTP/1.1 over its control socket, one request a connection.

A reader of our own for the answers of our own server, because http.client costs as much to import as Python
takes to start.  It knows what `relay.control.server` sends, and no more: a length or chunks.

When it fails: NotRunning where no agent listens or it ends before it answers, NotPermitted where this user
may not, Failed with the agent's own code and sentence for every other refusal.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from relay.cli.exits import Failed, NotPermitted, NotRunning

#: seconds without a byte of an answer
PATIENCE_S = 60.0


class Agent:
    """The agent behind a control socket; `patience_s` is how long it may be silent before that is an error."""

    def __init__(self, path: Path, patience_s: float | None = None) -> None:
        self._path = path
        self._patience_s = patience_s or PATIENCE_S

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        at_length: bool = False,
        body: bytes | Mapping[str, object] = b"",
    ) -> dict[str, Any]:
        """The object that is answered; `at_length` for work that takes as long as it takes."""
        patience_s = None if at_length else self._patience_s
        answer: dict[str, Any] = json.loads(b"".join(self._pieces(method, path, query or {}, patience_s, body)))
        return answer

    def text(self, path: str) -> str:
        """The text that is answered."""
        return b"".join(self._pieces("GET", path, {}, self._patience_s)).decode()

    def lines(
        self, path: str, query: Mapping[str, object], body: Mapping[str, object] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The objects of JSON Lines, as they come; with a body they are asked for by POST."""
        yield from map(json.loads, self.raw_lines(path, query, body))

    def raw_lines(
        self, path: str, query: Mapping[str, object], body: Mapping[str, object] | None = None
    ) -> Iterator[bytes]:
        """The same, unread; an empty one says no more than that the agent is still looking."""
        rest = b""
        method = "GET" if body is None else "POST"
        for piece in self._pieces(method, path, query, self._patience_s, body or b""):
            *whole, rest = (rest + piece).split(b"\n")
            yield from filter(None, whole)

    def _pieces(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        patience_s: float | None,
        body: bytes | Mapping[str, object] = b"",
    ) -> Iterator[bytes]:
        with self._connect(patience_s) as connection, connection.makefile("rb") as stream:
            try:
                connection.sendall(_request(method, path, query, body))
                status, headers = _head(stream)
                pieces = _body(stream, headers)
                if status >= 400:
                    raise _refusal(status, b"".join(pieces))
                yield from pieces
            except TimeoutError:
                raise Failed(
                    f"the agent at {self._path} (pid {_pid(connection)}) has not answered for {patience_s:g} s:"
                    " it hangs, or is busy"
                ) from None
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


def _pid(connection: socket.socket) -> int:
    """The process that listens at the other end."""
    # struct ucred: pid, uid, gid
    return int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)


def unreachable(path: Path, error: OSError) -> Failed:
    """Why a socket of the agent's could not be connected to."""
    if isinstance(error, FileNotFoundError | ConnectionRefusedError | NotADirectoryError):
        return NotRunning(f"no agent listens at {path}")
    if isinstance(error, PermissionError):
        return NotPermitted(f"{path}: this user may not connect")
    return Failed(f"{path}: {error.strerror or error}")


def _request(method: str, path: str, query: Mapping[str, object], body: bytes | Mapping[str, object]) -> bytes:
    target = path
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    if query:
        from urllib.parse import urlencode

        target += "?" + urlencode(query)
    lines = [f"{method} {target} HTTP/1.1", "Host: relay", "Connection: close", f"Content-Length: {len(data)}", "", ""]
    return "\r\n".join(lines).encode("ascii") + data


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
