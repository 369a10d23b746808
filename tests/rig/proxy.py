"""A proxy before a job server: it delays, and it cuts a connection after so many bytes.

Both directions are counted, over connections in the binary protocol only; a census (which asks in text) passes.
Promises: a cut takes effect exactly once, after the byte that was named, and then both ends see the connection gone.
Never does: outlive `close`.
"""

import contextlib
import socket
import threading
import time
from typing import NamedTuple

from .servers import HOST, free_port

READ = 1 << 16


class Cut(NamedTuple):
    """Where to cut: after `after` bytes of what the caller sends (`up`), or of what the server answers."""

    up: bool
    after: int


class Proxy:
    """Threads between a port of its own and a server's."""

    def __init__(self, port: int, delay_s: float = 0.0) -> None:
        """Listen, and pass on, each piece `delay_s` later in each direction."""
        self.target, self.delay_s = port, delay_s
        self.port = free_port()
        #: what is to be cut on the next connection, and how many were cut
        self.next_cut: Cut | None = None
        self.cuts = 0
        #: bytes that the newest connection carried, up and down
        self.carried = {True: 0, False: 0}
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listening = socket.create_server((HOST, self.port))
        self._closed = False
        self._threads: list[threading.Thread] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """As relay's configuration wants it."""
        return f"{HOST}:{self.port}"

    def close(self) -> None:
        """End it."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.drop()
        for thread in self._threads:
            thread.join()

    def drop(self) -> None:
        """End all connections there are."""
        for pair in self._pairs[:]:
            _shut(*pair)

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listening.accept()
                far = socket.create_connection((HOST, self.target), 5)
            except OSError:
                if self._closed:
                    return
                with contextlib.suppress(OSError, UnboundLocalError):
                    near.close()
                continue
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(None)
            self._pairs.append((near, far))
            self._threads.append(threading.Thread(target=self._begin, args=(near, far), daemon=True))
            self._threads[-1].start()

    def _begin(self, near: socket.socket, far: socket.socket) -> None:
        """The first bytes say whether this is a link."""
        try:
            first = near.recv(READ)
        except OSError:
            first = b""
        cut = None
        if first[:1] == b"\0":
            cut, self.next_cut = self.next_cut, None
            self.carried = {True: 0, False: 0}
        down = threading.Thread(target=self._pump, args=(far, near, False, b"", cut), daemon=True)
        down.start()
        self._pump(near, far, True, first, cut)
        down.join()
        near.close()
        far.close()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool, data: bytes, cut: Cut | None) -> None:
        limit = cut.after if cut is not None and cut.up is up else None
        passed = 0
        try:
            if limit == 0:
                self.cuts += 1
                return
            while data or (data := source.recv(READ)):
                piece = data if limit is None else data[: limit - passed]
                # what comes meanwhile gathers, and goes on as one piece
                time.sleep(self.delay_s)
                sink.sendall(piece)
                passed += len(piece)
                self.carried[up] += len(piece)
                if limit is not None and passed >= limit:
                    self.cuts += 1
                    return
                data = b""
        except OSError:
            pass
        finally:
            _shut(source, sink)


def _shut(*socks: socket.socket) -> None:
    for sock in socks:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
