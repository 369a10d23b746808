"""Tells the service manager how the agent is, by systemd's notification protocol (sd_notify).

What it is: one function; a datagram to the socket that NOTIFY_SOCKET names, by path or abstract (`@name`).

Promises: without NOTIFY_SOCKET it does nothing; it never blocks.

Never does: keep the socket open, or remove the variable (a child such as a hook may notify too).

When it fails: the state is dropped and False returned; an agent that cannot tell its manager still does its work.
"""

import os
import socket
import time

READY = "READY=1"
STOPPING = "STOPPING=1"


def status(text: str) -> str:
    """One line for `systemctl status`."""
    return f"STATUS={text}"


def reloading() -> str:
    """A reload begins; READY ends it. systemd wants the moment too, on the monotonic clock."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def notify(*states: str) -> bool:
    """Send the states in one datagram; True if the service manager's socket took it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto("\n".join(states).encode(), address)
    except OSError:
        return False
    return True
