"""The shell of the operator's door: a unix socket, h11, and the routes behind them; and, where it is configured, a TCP
port on which anybody may read metrics and health.

Promises: everything a peer may send is bounded: HEADER_LIMIT bytes of header, BODY_LIMIT of body, REQUEST_S
for a whole request, MAX_CONNECTIONS at a time (on each, so that the port cannot shut the socket); a peer that
reads slowly is waited for, up to WRITE_S without progress (PUBLIC_WRITE_S on the port), and costs one piece of an
answer; then the connection is cut.  A connection is kept for the next request.

Never does: read the disk or decide what an answer is; `routes` does.

When it fails: `start` raises SocketUnusable.  A request that cannot be read is answered 4xx and its
connection closed; a bug in a route is logged with its traceback and answered 500; an answer that breaks off
in the middle closes the connection before its end is marked, so that the reader knows.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

from relay import settings
from relay.clock import Clock
from relay.control.requests import Answer, Refused, Request, Text, may_change
from relay.control.routes import Routes
from relay.control.sources import Sources
from relay.doors import KEEP_PATH, close_door, inode, open_door, peer_uid
from relay.errors import RelayError, SocketUnusable
from relay.facts import Facts, Problem
from relay.spool.spool import Spool

log = logging.getLogger(__name__)

HEADER_LIMIT = 16 * 1024
BODY_LIMIT = 64 * 1024
#: the same for an import: the largest cast, in base64, and what stands beside it
IMPORT_LIMIT = 96 * 1024 * 1024
MAX_CONNECTIONS = 32
#: seconds for a request to come whole, the wait for its first byte included
REQUEST_S = 30.0
#: seconds without a byte taken: on the socket, where somebody may read in front of a pager, and on the port
WRITE_S, PUBLIC_WRITE_S = 600.0, 30.0
_READ_SIZE = 16 * 1024
_JSON = "application/json"
_JSON_LINES = "application/jsonl"

Ask: TypeAlias = Callable[[Request], Awaitable[Answer]]


class Control:
    """The door; `start` opens it, `close` shuts it."""

    def __init__(
        self,
        settings: settings.Control,
        spool: Spool,
        facts: Callable[[], Facts],
        clock: Clock,
        version: str,
        problems: Callable[[], Sequence[Problem]],
        rejected: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._settings = settings
        self._routes = Routes(Sources(spool, facts, clock, version, problems, rejected))
        self._servers: list[asyncio.Server] = []
        self._inode: int | None = None
        #: the conversations on the socket, and on the port
        self._open: set[asyncio.Task[None]] = set()
        self._public: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; raises SocketUnusable."""
        wanted = self._settings
        listener = open_door(wanted.socket, wanted.socket_mode, wanted.socket_group, MAX_CONNECTIONS)
        self._inode = inode(wanted.socket)
        self._servers.append(await asyncio.start_unix_server(self._accept, sock=listener, **KEEP_PATH))
        where = wanted.metrics_listen
        if where is not None:
            try:
                self._servers.append(
                    await asyncio.start_server(self._accept_anybody, where.host, where.port, backlog=MAX_CONNECTIONS)
                )
            except OSError as error:
                raise SocketUnusable(f"[control] metrics_listen {where}: {error.strerror or error}") from None

    async def close(self) -> None:
        """Stop listening, cut the connections, remove the socket."""
        for server in self._servers:
            server.close()
        if self._servers:
            close_door(self._settings.socket, self._inode)
        tasks = self._open | self._public
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._routes.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(_Peer(reader, writer, self._routes.answer, WRITE_S), self._open)

    def _accept_anybody(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(_Peer(reader, writer, self._routes.answer_anybody, PUBLIC_WRITE_S), self._public)

    def _begin(self, peer: _Peer, others: set[asyncio.Task[None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(peer, len(others) < MAX_CONNECTIONS))
        others.add(task)
        task.add_done_callback(others.discard)

    async def _serve(self, peer: _Peer, room: bool) -> None:
        try:
            if not room:
                await peer.refuse(Refused(503, "too_many_connections", f"There are {MAX_CONNECTIONS} already."))
                return
            while await self._exchange(peer):
                pass
        except RelayError as error:
            log.warning("an answer on the control socket broke off: %s", error)
            self._routes.unread(error)
        except (OSError, TimeoutError, h11.LocalProtocolError) as error:
            log.debug("a connection to the control socket ended: %r", error)
        except Exception:  # a bug midway through an answer must not end the agent either
            log.exception("an answer on the control socket broke off")
        finally:
            await peer.close()

    async def _exchange(self, peer: _Peer) -> bool:
        """One request and its answer; True when the connection is good for another."""
        try:
            async with asyncio.timeout(REQUEST_S):
                request = await peer.request()
        except TimeoutError:
            if peer.midway:
                await peer.refuse(Refused(408, "too_slow", f"A request comes whole within {REQUEST_S:.0f} s."))
            return False
        except h11.RemoteProtocolError as error:
            await peer.refuse(Refused(error.error_status_hint, "bad_request", f"{error}."))
            return False
        except Refused as refused:
            await peer.refuse(refused)
            return False
        if request is None:
            return False
        try:
            answer = await peer.ask(request)
        except Refused as refused:
            await peer.refuse(refused)
        except Exception as error:  # a bug behind one request must not end the agent
            log.exception("%s %s", request.method, request.path)
            await peer.refuse(Refused(500, "internal_error", f"{type(error).__name__}: {error}; see the agent's log."))
        else:
            await peer.answer(answer)
        return peer.next()


class _Peer:
    """One connection: requests in, answers out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ask: Ask, patience_s: float) -> None:
        self._reader = reader
        self._writer = writer
        #: what its requests are put to
        self.ask = ask
        self._patience_s = patience_s
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_LIMIT)
        connection: socket.socket = writer.get_extra_info("socket")
        self._uid = peer_uid(connection)

    @property
    def midway(self) -> bool:
        """True while a request has begun and not ended."""
        return self._http.their_state is not h11.IDLE or bool(self._http.trailing_data[0])

    async def request(self) -> Request | None:
        """The next request with its body; None when the peer has gone."""
        begun: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                self._http.receive_data(await self._reader.read(_READ_SIZE))
            elif isinstance(event, h11.Request):
                begun = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._limit(begun):
                    raise Refused(413, "body_too_large", f"A body is at most {self._limit(begun)} bytes.")
            elif isinstance(event, h11.EndOfMessage):
                assert begun is not None
                return _request(begun, self._uid, bytes(body))
            else:
                return None

    def _limit(self, begun: h11.Request | None) -> int:
        """Bytes of the body: many for who may import, and imports."""
        imports = begun is not None and begun.target.partition(b"?")[0] == b"/v1/import"
        return IMPORT_LIMIT if imports and may_change(self._uid) else BODY_LIMIT

    async def answer(self, answer: Answer) -> None:
        """An object at once, or lines as they come."""
        if isinstance(answer, dict):
            answer = _json(200, answer)
        if isinstance(answer, Text):
            await self._whole(answer, [])
            return
        await self._send(h11.Response(status_code=200, headers=[("Content-Type", _JSON_LINES)]))
        async with aclosing(answer) as pieces:
            async for piece in pieces:
                await self._send(h11.Data(data=piece))
        await self._send(h11.EndOfMessage())

    async def refuse(self, refused: Refused) -> None:
        """An error, as JSON."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            allow = [("Allow", refused.allow)] if refused.allow else []
            await self._whole(_json(refused.status, refused.body()), allow)

    def next(self) -> bool:
        """Make ready for another request; False when there cannot be one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def close(self) -> None:
        """End the connection, once what was answered is on its way, or that takes too long."""
        self._writer.close()
        try:
            # a peer that is gone, or that takes nothing any more, ends it as well
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._patience_s):
                    await self._writer.wait_closed()
        finally:
            # a transport that has ended must not be told to: it fails where it had something to send until then
            if self._writer.transport.get_write_buffer_size():
                self._writer.transport.abort()

    async def _whole(self, text: Text, headers: list[tuple[str, str]]) -> None:
        headers += [("Content-Type", text.content_type), ("Content-Length", str(len(text.body)))]
        response = h11.Response(status_code=text.status, headers=headers)
        await self._send(response, h11.Data(data=text.body), h11.EndOfMessage())

    async def _send(self, *events: h11.Event) -> None:
        for event in events:
            data = self._http.send(event)
            if data:
                self._writer.write(data)
        async with asyncio.timeout(self._patience_s):
            await self._writer.drain()


def _json(status: int, body: dict[str, Any]) -> Text:
    return Text(status, _JSON, json.dumps(body).encode() + b"\n")


def _request(begun: h11.Request, uid: int | None, body: bytes) -> Request:
    target = urlsplit(begun.target.decode("ascii", "replace"))
    try:
        query = parse_qsl(target.query, keep_blank_values=True, max_num_fields=32)
    except ValueError as error:
        raise Refused(400, "bad_request", f"{error}.") from None
    return Request(begun.method.decode("ascii"), unquote(target.path), query, uid, body)
