"""An agent that does what a test says: for each connection, in turn, one scene.

A scene is a function of a `Peer`; when it returns, its connection is closed. A connection without a scene is not
accepted. Promises: `close` ends everything, and raises what a scene raised.
"""

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from relay.protocol.framing import Framer
from relay.protocol.packets import REQ, RES, Kind, decode, encode

WHOLE = 1 << 27
#: seconds that a script may stand still before it is broken
PATIENCE_S = 60.0


class Peer:
    """The agent's end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        """Around an accepted socket."""
        self.socket = connection
        self._framer = Framer(frozenset([REQ]), WHOLE, 0)
        self._read: list[tuple[int, list[bytes]]] = []

    def read(self) -> tuple[int, list[bytes]]:
        """The next request: its type and arguments; EOFError if the client is gone."""
        while not self._read:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self._read = [(kind, decode(kind, body)) for kind, body in self._framer.feed(data)]
        return self._read.pop(0)

    def create(self, handle: str) -> None:
        """Answer JOB_CREATED."""
        self.socket.sendall(encode(RES, Kind.JOB_CREATED, handle.encode()))

    def refuse(self, code: str, text: str = "Because.") -> None:
        """Answer ERROR."""
        self.socket.sendall(encode(RES, Kind.ERROR, code.encode(), text.encode()))

    def await_end(self) -> bool:
        """Read until the client closes; True if nothing more came."""
        try:
            more = self.socket.recv(1 << 16)
        except ConnectionError:
            return True
        return not more


Scene = Callable[[Peer], None]


class Script:
    """The listener; scenes may be added while it runs."""

    def __init__(self, path: Path, *scenes: Scene) -> None:
        """Listen, and play."""
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen(128)
        self._socket.settimeout(PATIENCE_S)
        self._scenes = scenes
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def _play(self) -> None:
        try:
            for scene in self._scenes:
                connection, _ = self._socket.accept()
                connection.settimeout(PATIENCE_S)
                with connection:
                    scene(Peer(connection))
        except BaseException as error:
            self._errors.append(error)

    def close(self) -> None:
        """Wait for the last scene to end."""
        self._thread.join()
        self._socket.close()
        if self._errors:
            raise self._errors[0]

    def __enter__(self) -> Self:
        """The script."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def answering(count: int, first: int = 1) -> Scene:
    """Answer so many requests with growing handles, each with its unique in it: `H:script:<n>/<unique>`."""

    def scene(peer: Peer) -> None:
        for number in range(first, first + count):
            _, arguments = peer.read()
            peer.create(f"H:script:{number}/{arguments[1].decode()}")

    return scene
