"""Unix sockets that relay listens on: made so that nobody can use one before its permissions are what they will be.

Promises: a socket that somebody answers on is left alone; a stale one is removed; another kind of file never is.  At
the close only our own socket is removed, not one that has taken its place.

When it fails: SocketUnusable (73), one line that names the path and why.
"""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import Any

from relay.errors import SocketUnusable

_PROBE_S = 2.0
#: what keeps asyncio from removing a socket's path at the close: `close_door` does, where it is ours to remove
KEEP_PATH: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


def open_door(path: Path, mode: int, group: str | None, backlog: int) -> socket.socket:
    """A listening socket at `path` with these permissions; blocks for a moment at most."""
    try:
        _make_way(path)
        return _bind(path, mode, group, backlog)
    except OSError as error:
        raise SocketUnusable(f"{path}: {error.strerror or error}") from None


def close_door(path: Path, made: int | None) -> None:
    """Remove the socket at `path` if it is still the one whose inode is `made`."""
    if made is not None and inode(path) == made:
        path.unlink(missing_ok=True)


def inode(path: Path) -> int | None:
    """The inode of what is at `path`, None when there is nothing."""
    try:
        return path.lstat().st_ino
    except OSError:
        return None


def peer_uid(connection: socket.socket) -> int | None:
    """The uid at the other end of a unix socket, as the kernel saw it connect; None for other sockets."""
    if connection.family != socket.AF_UNIX:
        return None
    # struct ucred: pid, uid, gid
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("=iII", raw)
    return int(uid)


def _make_way(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SocketUnusable(f"{path} is there and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(str(path))
        except (BlockingIOError, TimeoutError):
            raise SocketUnusable(f"{path}: another process listens there, and is busy") from None
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise
        else:
            raise SocketUnusable(f"{path}: another process answers there")
    path.unlink()


def _bind(path: Path, mode: int, group: str | None, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        # for nobody but ourselves, until group and mode are set
        umask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(umask)
        if group is not None:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        path.chmod(mode)
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException as error:
        listener.close()
        if isinstance(error, KeyError):
            raise SocketUnusable(f"{path}: this host has no group {group!r}") from None
        raise
    return listener
