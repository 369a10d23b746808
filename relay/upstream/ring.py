"""Rotation: which upstream a host prefers, and who is next when one fails.

The order is a rendezvous hash of the spool's id and the server's name: hosts of one fleet start at different servers,
a host stays with its own, and a server that is added or removed moves only the hosts that are its own.  The ring is
sticky: whoever is in use stays in use until it fails.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

from relay.settings import Server


def preference(servers: Sequence[Server], spool_id: bytes) -> tuple[Server, ...]:
    """The servers in this host's order; one that is listed twice counts once."""

    def weight(server: Server) -> bytes:
        return blake2b(b"%b %b" % (spool_id, str(server).encode()), digest_size=8).digest()

    return tuple(sorted(set(servers), key=weight))


class Ring:
    """The servers in order, and the one whose turn it is."""

    def __init__(self, order: Sequence[Server]) -> None:
        self.order = tuple(order)
        self._at = 0

    @property
    def current(self) -> Server:
        """The one in use."""
        return self.order[self._at]

    def turn(self, usable: Callable[[Server], bool]) -> Server | None:
        """The first usable server from the current one on, which becomes current; None when none is usable."""
        for step in range(len(self.order)):
            at = (self._at + step) % len(self.order)
            if usable(self.order[at]):
                self._at = at
                return self.order[at]
        return None

    def rotate(self) -> None:
        """The current one failed: the next one's turn."""
        self._at = (self._at + 1) % len(self.order)

    def stay_with(self, server: Server) -> None:
        """Keep `server` current, if it is (still) in the ring."""
        if server in self.order:
            self._at = self.order.index(server)
