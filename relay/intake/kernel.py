"""What the kernel still holds of a caller's connection: of what came from it, and of what goes to it.

Asks only, never blocks.  Raises OSError or ValueError for a socket that is closed.
"""

from __future__ import annotations

import fcntl
import socket
import sys
import termios


def unread(sock: socket.socket) -> int:
    """Bytes that have come from the other end and are not read yet."""
    return _asked(sock, termios.FIONREAD)


def untaken(sock: socket.socket) -> int:
    """Bytes that were written and have not reached the other end's kernel; on a unix socket, are not read there."""
    return _asked(sock, termios.TIOCOUTQ)


def _asked(sock: socket.socket, question: int) -> int:
    return int.from_bytes(fcntl.ioctl(sock.fileno(), question, bytes(4)), sys.byteorder)
