"""FakeClient and FakeAsyncClient: for the tests of services, in the place of the clients; no socket, no agent.

    relay = FakeClient()
    service = Service(relay)
    service.bill("tenant")
    assert relay.casts == [Cast("bill", b"tenant", unique=ANY)]

They have the clients' methods with the same signatures, check arguments as the clients do, and send a unique with every
cast.  `casts` holds what a relay with its default options would have on its disk: each cast once, with its unique
filled in; a second one with the same function and unique gets the first one's handle.  `reject`, `unanswer` and
`be_unavailable` say what is answered from then on, `accept` ends that.  Threads may share one.

Never does: expire, execute or forget a cast (`clear` does); nothing of it is durable.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from typing import Any, Self

from relay.client.errors import CastError, Rejected, Unanswered, Unavailable, rejected
from relay.client.source import AsyncItems, Items
from relay.client.submission import Cast, submission
from relay.protocol.caller import SENTENCES

#: the agent's `[intake] max_payload` where nobody has set it, in bytes
MAX_PAYLOAD = 16 * 1024 * 1024
#: the refusals of what is new: a cast that is in the spool gets its handle all the same
FOR_NEW = frozenset(("draining", "spool_full", "disk_full"))


class _Recorder:
    """What both fakes are made of."""

    def __init__(self, path: str | os.PathLike[str] = "fake", *, timeout: float = 2.0) -> None:
        """Arguments as the clients take them; they have no effect, but a timeout that is none is a ValueError."""
        if not 0 < timeout < math.inf:
            raise ValueError(f"a timeout is a number of seconds over 0, not {timeout!r}")
        self._lock = threading.Lock()
        self._handles: dict[tuple[bytes, ...], str] = {}
        #: what was accepted, in order
        self.casts: list[Cast] = []
        #: every try, in order, whatever became of it; uniques filled in
        self.tried: list[Cast] = []
        self._count = 0
        self._kept = True
        self._error: Callable[[Cast], CastError] | None = None

    def accept(self) -> None:
        """From now on accept every cast; this is how a fake begins."""
        self._kept, self._error = True, None

    def reject(self, code: str, text: str = "") -> None:
        """From now on reject every cast with this code of the agent's (`draining`), and its sentence."""
        self._kept = False
        self._error = lambda cast: rejected(code, text or SENTENCES.get(code, code), cast)

    def unanswer(self, *, kept: bool) -> None:
        """From now on answer nothing; `kept` says whether the casts are on disk all the same."""
        self._kept = kept
        self._error = lambda cast: Unanswered("no answer; the cast may be on disk", (cast,))

    def be_unavailable(self) -> None:
        """From now on there is no agent."""
        self._kept = False
        self._error = lambda cast: Unavailable("no relay-agent takes casts here", (cast,))

    def clear(self) -> None:
        """Forget the casts: their uniques are new again, as after their execution."""
        with self._lock:
            self.casts.clear()
            self.tried.clear()
            self._handles.clear()

    def close(self) -> None:
        """Nothing is kept open."""

    def _cast(self, item: Cast | tuple[Any, ...]) -> str:
        cast, _ = submission(time.time_ns(), os.urandom(10), *item)
        with self._lock:
            self.tried.append(cast)
            if len(cast.payload) > MAX_PAYLOAD:
                raise rejected("payload_too_large", SENTENCES["payload_too_large"], cast)
            key = _key(cast)
            handle = self._handles.get(key)
            if handle is None and self._kept:
                self._count += 1
                handle = self._handles[key] = f"H:fake:{self._count}"
                self.casts.append(cast)
        if self._error is not None:
            error = self._error(cast)
            if handle is None or not isinstance(error, Rejected) or error.code not in FOR_NEW:
                raise error
        assert handle is not None
        return handle

    def _answer(self, item: Cast | tuple[Any, ...]) -> str | Rejected:
        try:
            return self._cast(item)
        except Rejected as error:
            return error


def _key(cast: Cast) -> tuple[bytes, ...]:
    """What makes two casts one: function and unique, or for `-` the payload."""
    function, unique = cast.function, cast.unique
    assert unique is not None
    name = function if isinstance(function, bytes) else function.encode()
    key = unique if isinstance(unique, bytes) else unique.encode("utf-8", "surrogatepass")
    return (name, key, cast.payload) if key == b"-" else (name, key)


class FakeClient(_Recorder):
    """In the place of Client; see the module."""

    def cast(
        self,
        function: str | bytes,
        payload: bytes,
        *,
        unique: str | bytes | None = None,
        priority: str = "normal",
        delay: float = 0,
    ) -> str:
        """Record a cast, or fail as it was told to."""
        return self._cast((function, payload, unique, priority, delay))

    def cast_many(self, items: Items) -> Iterator[str | Rejected]:
        """Record casts as they are asked for."""
        for item in items:
            yield self._answer(item)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


class FakeAsyncClient(_Recorder):
    """In the place of AsyncClient; see the module."""

    async def cast(
        self,
        function: str | bytes,
        payload: bytes,
        *,
        unique: str | bytes | None = None,
        priority: str = "normal",
        delay: float = 0,
    ) -> str:
        """Record a cast, or fail as it was told to."""
        return self._cast((function, payload, unique, priority, delay))

    async def cast_many(self, items: Items | AsyncItems) -> AsyncIterator[str | Rejected]:
        """Record casts as they are asked for."""
        if isinstance(items, AsyncIterable):
            async for item in items:
                yield self._answer(item)
        else:
            for item in items:
                yield self._answer(item)

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        self.close()
