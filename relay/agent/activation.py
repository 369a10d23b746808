"""Sockets that the service manager opened for us (systemd's socket activation, LISTEN_FDS).

A socket that lives longer than the agent keeps callers waiting in its backlog while the agent is restarted or
upgraded, instead of refusing them.  Only a listening unix socket is taken; `take` removes the variables, so that no
child believes they are its own.  Never fails: what is no such socket is left alone, and said in the log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import MutableMapping
from pathlib import Path

log = logging.getLogger(__name__)

#: the first descriptor that is handed over
FIRST = 3


def take(environ: MutableMapping[str, str], pid: int, first: int = FIRST) -> dict[Path, socket.socket]:
    """The listening unix sockets that were handed to process `pid`, by their paths."""
    given_to, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if given_to != str(pid) or not count.isdigit():
        return {}
    found: dict[Path, socket.socket] = {}
    for descriptor in range(first, first + int(count)):
        path = None
        with contextlib.suppress(OSError):
            sock = socket.socket(fileno=descriptor)
            path = _path_of(sock)
            if path is None:
                sock.detach()
        if path is None:
            log.warning("descriptor %d, handed over by the service manager, is no listening unix socket", descriptor)
            continue
        os.set_inheritable(descriptor, False)
        sock.setblocking(False)
        found[path] = sock
    return found


def _path_of(sock: socket.socket) -> Path | None:
    if (
        sock.family != socket.AF_UNIX
        or sock.type != socket.SOCK_STREAM
        or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        return None
    name = sock.getsockname()
    return Path(name) if isinstance(name, str) and name.startswith("/") else None
