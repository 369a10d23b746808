"""The unix socket that callers connect to: made with its permissions, removed at the end.

Promises: the socket never exists with more permissions than `socket_mode`; a stale one is removed only after a probe
found nobody behind it, and only a socket is ever removed.  Raises SocketUnusable (73), one line, when it cannot listen.

Never does: read from a caller; that is `connection`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import stat
from pathlib import Path

from relay.errors import RelayError
from relay.intake.connection import Connection, Door

#: connections that wait to be accepted
BACKLOG = 1024


class SocketUnusable(RelayError):
    """The intake's socket cannot be opened (73)."""

    exit_code = os.EX_CANTCREAT


class Listener:
    """The intake: `open` begins to accept, `close` ends it."""

    def __init__(self, door: Door, path: Path, mode: int, group: str | None) -> None:
        self._door = door
        self._path = path
        self._mode = mode
        self._group = group
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen."""
        sock = bind(self._path, self._mode, self._group)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Connection(self._door), sock=sock, backlog=BACKLOG)

    def close(self) -> None:
        """Accept nobody any more; who is connected stays."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
            self._server = None


def bind(path: Path, mode: int, group: str | None) -> socket.socket:
    """A unix socket bound to `path` with these permissions; SocketUnusable where that cannot be."""
    try:
        _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o777)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        if group is not None:
            shutil.chown(path, group=group)
        os.chmod(path, mode)
    except (OSError, LookupError) as error:
        raise SocketUnusable(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    return sock


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on; OSError for anything else that stands there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "something that is no socket stands there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "somebody else listens there")
