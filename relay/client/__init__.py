"""What services import to hand casts over to the relay-agent of their host.

    from relay.client import Client

    relay = Client("/run/relay/relay.sock")
    handle = relay.cast("mail.send", b"...")

`cast` returns once the cast is on disk: relay then keeps it until a worker has finished it.  What holds when there is
no handle:

    Rejected      relay answered no; the cast is not on disk and is never executed (after SpoolError alone it may be)
    Unavailable   nothing of the cast was sent: no socket, or nobody behind it
    Unanswered    no answer within `timeout`: it may be on disk; cast again with the same unique, and it is one cast

All of them carry the unique and the cast itself, ready to be tried again.  Wrong arguments (a payload that is no bytes,
an unknown priority, a delay beside one) are TypeError and ValueError, before anything is sent.

A unique is sent with every cast, from the first try.  A connection that was kept and turns out dead (the agent was
restarted) is replaced, and the cast sent once more under its unique, within the timeout.

Stands on the standard library and relay.protocol only.  Importing it imports no asyncio: `AsyncClient` and the fakes
are loaded when they are first asked for.  No thread, no signal, no exit function; nothing is logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.client.blocking import Client
from relay.client.errors import (
    BadFunction,
    BadPacket,
    CastError,
    DiskFull,
    Draining,
    ForegroundNotSupported,
    PayloadTooLarge,
    Rejected,
    SpoolError,
    SpoolFull,
    TooManyConnections,
    TooSlow,
    Unanswered,
    Unavailable,
    UniqueTooLarge,
    UnknownCommand,
    UnknownOption,
)
from relay.client.submission import Cast

if TYPE_CHECKING:
    from relay.client.aio import AsyncClient
    from relay.client.fake import FakeAsyncClient, FakeClient

__all__ = [
    "AsyncClient",
    "BadFunction",
    "BadPacket",
    "Cast",
    "CastError",
    "Client",
    "DiskFull",
    "Draining",
    "FakeAsyncClient",
    "FakeClient",
    "ForegroundNotSupported",
    "PayloadTooLarge",
    "Rejected",
    "SpoolError",
    "SpoolFull",
    "TooManyConnections",
    "TooSlow",
    "Unanswered",
    "Unavailable",
    "UniqueTooLarge",
    "UnknownCommand",
    "UnknownOption",
]


def __getattr__(name: str) -> object:
    if name == "AsyncClient":
        from relay.client.aio import AsyncClient

        return AsyncClient
    if name in ("FakeClient", "FakeAsyncClient"):
        from relay.client import fake

        return getattr(fake, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
