"""Asking a job server what it can do, without giving it anything to do.

Each question goes on a connection of its own, because a server that trips over one must not spoil the next: the text
commands `version` and `status`, a GET_STATUS about a handle that nobody has (relay's heartbeat and barrier), and an
ECHO_REQ with a byte in it (an empty one wedges a server that is known).  No job is submitted: one of a function without
workers would stay in the server's memory, and the name of its function for ever.  So what only a submission shows,
whether it takes the low priority, is not probed.

Bounds: ANSWER_S a question, ANSWER_BYTES an answer.  Never raises: what went wrong is told as text.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from relay.protocol.packets import REQ, RES, Kind, encode
from relay.settings import Server

#: seconds for an answer, and its longest size in bytes
ANSWER_S, ANSWER_BYTES = 2.0, 4 * 1024 * 1024
_HANDLE = b"H:relay-doctor:0"


class Profile(NamedTuple):
    """What a server answered: `error` is why it could not be connected to, and then there is nothing else.

    `version` is its own word for itself, or empty; `workers` by function, None where it has no usable `status`.
    """

    error: str = ""
    version: str = ""
    workers: dict[str, int] | None = None
    heartbeat: bool = False
    echo: bool = False


def profile(server: Server, connect_s: float) -> Profile:
    """Ask it everything."""
    try:
        _connect(server, connect_s).close()
    except TimeoutError:
        return Profile(error=f"no connection within {connect_s:g} s")
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None)
        spoken = os.strerror(number) if isinstance(number, int) and number > 0 else str(error)
        return Profile(error=spoken)

    def ask(request: bytes, complete: Callable[[bytes], bool]) -> bytes:
        return _ask(server, connect_s, request, complete)

    version = ask(b"version\n", lambda answer: answer.endswith(b"\n"))
    status = ask(b"status\n", lambda answer: answer == b".\n" or answer.endswith(b"\n.\n"))
    heartbeat = ask(encode(REQ, Kind.GET_STATUS, _HANDLE), _whole)
    echo = ask(encode(REQ, Kind.ECHO_REQ, b"relay"), _whole)
    return Profile(
        version=version.decode("utf-8", "backslashreplace").strip(),
        workers=_workers(status),
        heartbeat=heartbeat[:8] == RES + int(Kind.STATUS_RES).to_bytes(4, "big"),
        echo=echo[:8] == RES + int(Kind.ECHO_RES).to_bytes(4, "big"),
    )


def _connect(server: Server, connect_s: float) -> socket.socket:
    return socket.create_connection((server.host, server.port), timeout=connect_s)


def _ask(server: Server, connect_s: float, request: bytes, complete: Callable[[bytes], bool]) -> bytes:
    """What came until it is complete, or as far as it came in time."""
    answer, deadline = b"", time.monotonic() + ANSWER_S
    try:
        with _connect(server, connect_s) as connection:
            connection.sendall(request)
            while not complete(answer) and len(answer) < ANSWER_BYTES:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                piece = connection.recv(65536)
                if not piece:
                    break
                answer += piece
    except OSError:
        # an answer that does not come is what is to be found out
        return answer
    return answer


def _whole(answer: bytes) -> bool:
    return len(answer) >= 12 and len(answer) >= 12 + int.from_bytes(answer[8:12], "big")


def _workers(answer: bytes) -> dict[str, int] | None:
    """Workers by function, as the agent reads them too."""
    lines = answer.splitlines()
    if not lines or lines[-1] != b".":
        return None
    found = {}
    for line in lines[:-1]:
        columns = line.split(b"\t")
        if len(columns) != 4 or not columns[3].isdigit():
            return None
        found[columns[0].decode("utf-8", "backslashreplace")] = int(columns[3])
    return found
