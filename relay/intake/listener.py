"""Where callers connect: the unix socket, opened when the agent is ready for them, closed when it stops.

Raises SocketUnusable (73) when it cannot listen.  Never reads from a caller; that is `connection`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from relay.doors import close_door, inode, open_door
from relay.intake.connection import Connection
from relay.intake.door import Door

#: connections that wait to be accepted
BACKLOG = 1024


class Listener:
    """The intake: `open` begins to accept, `close` ends it."""

    def __init__(self, door: Door, path: Path, mode: int, group: str | None) -> None:
        self._door = door
        self._path = path
        self._mode = mode
        self._group = group
        self._made: int | None = None
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen."""
        sock = open_door(self._path, self._mode, self._group, BACKLOG)
        self._made = inode(self._path)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Connection(self._door), sock=sock, backlog=BACKLOG)

    def close(self) -> None:
        """Accept nobody any more; who is connected stays."""
        if self._server is not None:
            self._server.close()
            self._server = None
            close_door(self._path, self._made)
