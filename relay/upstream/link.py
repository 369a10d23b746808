"""One connection to one job server: an asyncio shell around protocol.upstream.

Life: connect, open (the server must answer a GET_STATUS before anything is submitted), then submit and read until it is
lost or closed.  A loss is told once, with the reason and every submission that has no verdict: those are in doubt.

Dropped on any doubt: what the protocol raises, a connection reset, and silence, that is `heartbeat_timeout` seconds in
which the server owes an answer and neither a byte was read nor the send queue shrank.  Bytes without an answer are
borne for ANSWER_TIMES as long.

Never decides what to submit, and keeps no queue of its own: what may be outstanding is the forwarder's window.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Collection, Iterable
from typing import Generic, Protocol, TypeVar

from relay.protocol.packets import ProtocolError
from relay.protocol.upstream import Conversation, Job, News
from relay.settings import Server, Upstream

Token = TypeVar("Token")

#: how many times `heartbeat_timeout` a server may go on without answering anything, whatever bytes pass meanwhile: so
#: long that the largest packet gets through a narrow line
ANSWER_TIMES = 20


class Listener(Protocol[Token]):
    """Who is told about a link; all in the event loop's thread."""

    def opened(self, link: Link[Token]) -> None:
        """Submissions may be sent."""

    def told(self, link: Link[Token], news: News[Token]) -> None:
        """The server said something about submissions."""

    def lost(self, link: Link[Token], reason: str, doubtful: list[Token]) -> None:
        """The link is gone, or never came to be."""


class Link(asyncio.Protocol, Generic[Token]):
    """See the module's contract; `start` begins to connect."""

    def __init__(self, server: Server, settings: Upstream, listener: Listener[Token]) -> None:
        self.server = server
        self._settings = settings
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._conversation: Conversation[Token] = Conversation()
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._progress_at = 0.0
        self._unsent = 0
        #: when it was last seen to answer or to owe no answer, and the conversation's mark then
        self._answered_at = 0.0
        self._mark: tuple[int, object] = (0, None)
        self._over = False
        #: packets of a priority that the server has refused: none is sent any more
        self.refused: set[int] = set()
        self._reason = "the server closed the connection"

    @property
    def is_open(self) -> bool:
        """True while submissions may be sent."""
        return self._conversation.is_open and not self._over

    def outstanding(self) -> list[Token]:
        """Every submission without a verdict."""
        return self._conversation.outstanding()

    def let_go(self, tokens: Collection[Token]) -> list[Token]:
        """Give up submissions that the server has accepted; those that were outstanding, and are no longer."""
        return self._conversation.let_go(tokens)

    def start(self) -> None:
        """Connect; `opened` or `lost` follows."""
        self._connecting = self._loop.create_task(self._connect())

    def submit(self, jobs: Iterable[Job[Token]]) -> None:
        """Send submissions, in order, as one write."""
        assert self._transport is not None
        if not self._conversation.waiting:
            self._progress_at = self._loop.time()
        self._transport.write(self._conversation.submit(jobs))

    @property
    def trusted(self) -> bool:
        """True once the server has shown that it tells jobs that it knows from others."""
        return self._conversation.trusted

    def audit(self, old: Callable[[Token], bool], most: int) -> None:
        """Ask about submissions that are `old`, `most` at a time; see Conversation.audit."""
        assert self._transport is not None
        if not self._conversation.waiting:
            self._progress_at = self._loop.time()
        self._transport.write(self._conversation.audit(old, most))

    def configure(self, settings: Upstream) -> None:
        """Other times are in force, from the next beat on."""
        self._settings = settings

    def close(self) -> None:
        """End it on purpose; what has no verdict is told as lost."""
        self._drop("closed by relay")

    async def _connect(self) -> None:
        reason = None
        try:
            await asyncio.wait_for(
                self._loop.create_connection(lambda: self, self.server.host, self.server.port),
                self._settings.connect_timeout,
            )
        except TimeoutError:
            reason = f"no connection within {self._settings.connect_timeout:g} s"
        except (OSError, UnicodeError) as error:
            reason = spoken(error)
        # told outside the handlers: what is logged while an exception is in the air carries its traceback's last line
        if reason is not None:
            self._end(reason)

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the conversation."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._over:
            transport.abort()
            return
        try:
            self._tune(transport.get_extra_info("socket"))
        except OSError as error:
            self._reason = spoken(error)
            transport.abort()
            return
        self._progress_at = self._answered_at = self._loop.time()
        transport.write(self._conversation.open())
        self._tick()

    def data_received(self, data: bytes) -> None:
        """Read, and tell what was said."""
        self._progress_at = self._loop.time()
        try:
            news = self._conversation.feed(data)
        except ProtocolError as error:
            self._drop(str(error))
            return
        if news.opened:
            self._listener.opened(self)
        if news.done or news.troubles or news.vanished or news.late:
            self._listener.told(self, news)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer or the network ended it."""
        if isinstance(exc, OSError):
            self._reason = spoken(exc)
        self._end(self._reason)

    # -- the inside ------------------------------------------------------------------------------------------------

    def _tune(self, sock: socket.socket) -> None:
        timeout_ms = min(int(self._settings.heartbeat_timeout * 1000), 2**31 - 1)
        # without NODELAY a request and its follow-up wait 40 ms for each other; the timeout ends silent networks
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
        # a network that is silent while nothing is unanswered: half the time idle, then three probes in the other half
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, min(32767, max(1, timeout_ms // 2000)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, min(32767, max(1, timeout_ms // 6000)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

    def _tick(self) -> None:
        """Every heartbeat_interval: is there progress, and a heartbeat where nothing else is out."""
        assert self._transport is not None
        now, unsent = self._loop.time(), self._transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._progress_at = now
        self._unsent = unsent
        mark = self._conversation.mark
        if mark != self._mark:
            self._answered_at, self._mark = now, mark
        if not self._conversation.waiting:
            self._progress_at = self._answered_at = now
            self._transport.write(self._conversation.heartbeat())
        elif now - self._answered_at >= ANSWER_TIMES * self._settings.heartbeat_timeout:
            self._drop(f"no answer for {now - self._answered_at:.0f} s")
            return
        elif now - self._progress_at >= self._settings.heartbeat_timeout:
            self._drop(f"silent for {now - self._progress_at:.0f} s")
            return
        self._timer = self._loop.call_later(self._settings.heartbeat_interval, self._tick)

    def _drop(self, reason: str) -> None:
        self._reason = reason
        if self._connecting is not None:
            self._connecting.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._end(reason)

    def _end(self, reason: str) -> None:
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._listener.lost(self, reason, self._conversation.outstanding())


def spoken(error: Exception) -> str:
    """An error of the network in a few words: `Connection refused`."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    return str(error) or type(error).__name__
