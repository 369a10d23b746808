"""Where callers connect: the unix socket, and a TCP port on loopback for clients that cannot speak to one.

The unix socket is made here, or taken over from the service manager, who then keeps it when the agent ends.  Who comes
over TCP has no uid.  Raises SocketUnusable (73) when it cannot listen.  Never reads from a caller; that is
`connection`.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from relay.doors import KEEP_PATH, close_door, inode, open_door
from relay.errors import SocketUnusable
from relay.intake.connection import Connection
from relay.intake.door import Door
from relay.settings import Intake, Server

#: connections that wait to be accepted
BACKLOG = 1024
#: connections accepted at a time: each takes a descriptor, also one that is too many and closed at once
ACCEPTS = 32
#: turns of the loop in which one that was accepted is made a connection, and some to spare
MAKING = 8


class _Listening(socket.socket):
    """A socket with room for BACKLOG callers that wait, whatever it is told.

    asyncio has one number for how many wait and how many it accepts at a time.  Told the second one, a socket would
    turn callers away until it is told the first again: just at the start, when a service manager's has them waiting.
    """

    def listen(self, backlog: int = BACKLOG, /) -> None:
        super().listen(BACKLOG)


class Listener:
    """The intake: `open` begins to accept, `close` ends it."""

    def __init__(self, door: Door, settings: Intake, inherited: socket.socket | None = None) -> None:
        """`inherited` is a unix socket that listens already, if the service manager has one for us."""
        self._door = door
        self._settings = settings
        self._inherited = inherited
        self._made: tuple[Path, int | None] | None = None
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        """Listen."""
        loop, settings = asyncio.get_running_loop(), self._settings
        sock = self._inherited
        if sock is None:
            sock = open_door(settings.socket, settings.socket_mode, settings.socket_group, BACKLOG)
            self._made = settings.socket, inode(settings.socket)
        made = _Listening(fileno=sock.detach())
        self._servers.append(await loop.create_unix_server(self._connection, sock=made, backlog=ACCEPTS, **KEEP_PATH))
        where = settings.tcp_listen
        if where is not None:
            for family, address in _addresses(where):
                try:
                    sock = socket.create_server(address, family=family, backlog=BACKLOG)
                except OSError as error:
                    raise SocketUnusable(f"[intake] tcp_listen {where}: {error.strerror or error}") from None
                made = _Listening(fileno=sock.detach())
                self._servers.append(await loop.create_server(self._connection, sock=made, backlog=ACCEPTS))

    def _connection(self) -> Connection:
        return Connection(self._door)

    async def close(self) -> None:
        """Accept nobody any more; who is connected stays, and so does who waits to be accepted.

        On a socket of the service manager's those who wait are the next agent's.
        """
        if self._made is not None:
            close_door(*self._made)
            self._made = None
            await _turns(BACKLOG // ACCEPTS)
        for server in self._servers:
            server.close()
        self._servers.clear()
        # who was accepted last becomes a connection
        await _turns(MAKING)


def _addresses(where: Server) -> list[tuple[int, tuple[str, int]]]:
    """Where to listen, with its family; `localhost` may be an address of each."""
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise SocketUnusable(f"[intake] tcp_listen {where}: {error.strerror or error}") from None
    return list(dict.fromkeys((family, (str(address[0]), where.port)) for family, _, _, _, address in found))


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
