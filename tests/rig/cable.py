"""A cable: what lies between an agent and a job server, and can be cut.

It takes connections on a port of its own and passes the bytes on to a server's, both ways. `cut` resets every
connection that it carries, as a network or a firewall does; new ones are taken as before.
Never does: change a byte.
"""

import contextlib
import socket
import struct
import threading

from .servers import HOST, JobServer

CHUNK = 1 << 16
RESET = struct.pack("ii", 1, 0)


class Cable:
    """One cable to one server; `address` is what the agent is configured with."""

    def __init__(self, server: JobServer) -> None:
        """It carries from now on."""
        self._server = server
        #: bytes at which the connection that carries them to the server is reset, as by a server that chokes on them
        self.poison: bytes | None = None
        self._listener = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._listener.getsockname()[1]}"
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset what it carries."""
        with self._lock:
            ends = set(self._ends)
        self._reset(ends)

    def _reset(self, ends: set[socket.socket]) -> None:
        with self._lock:
            self._ends -= ends
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            with contextlib.suppress(OSError):
                # wakes the thread that reads it, which closes it: a reset, because of the linger
                end.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """It carries nothing more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((HOST, self._server.port))
            except OSError:
                near.close()
                continue
            with self._lock:
                self._ends |= {near, far}
            for source, sink in ((near, far), (far, near)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(CHUNK):
                if self.poison and self.poison in data:
                    self._reset({source, sink})
                    break
                sink.sendall(data)
        except OSError:
            pass
        with self._lock:
            whole = source in self._ends
        if whole:
            # an end of one side is one of the other, not a reset
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
            with self._lock:
                self._ends.discard(source)
        source.close()
