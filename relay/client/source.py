"""Where the casts of a cast_many come from: how far they have been taken, and how they ended.

Promises: an item is never held back for the sake of one that is slow to come, and what goes wrong in items is kept
until everything before it has its answer.

When it fails: `error` holds what items raised, or the TypeError or ValueError of an item that is no cast.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Iterable
from typing import Any, TypeAlias

from relay.client.flow import BATCH, LINGER_S, Flow
from relay.client.submission import Cast

Items: TypeAlias = Iterable[Cast | tuple[Any, ...]]
AsyncItems: TypeAlias = AsyncIterable[Cast | tuple[Any, ...]]


class Source:
    """Items that come from an iterable."""

    def __init__(self, items: Items) -> None:
        self._items = iter(items)
        self.ended = False
        self.error: Exception | None = None

    def fill(self, flow: Flow) -> bool:
        """Add what is due; False when waiting for answers is right: no room, no more items, or they come slowly."""
        began = time.monotonic()
        try:
            for _ in range(BATCH):
                if self.ended or not flow.room:
                    return False
                flow.add(next(self._items))
                if time.monotonic() - began > LINGER_S:
                    return False
        except StopIteration:
            self.ended = True
        except Exception as error:  # noqa: BLE001  # raised in its turn: first come the answers to what went before
            self.ended, self.error = True, error
        return not self.ended


class AsyncSource:
    """Items that come from an asynchronous iterable."""

    def __init__(self, items: AsyncItems) -> None:
        self._items = aiter(items)
        self.ended = False
        self.error: Exception | None = None

    async def fill(self, flow: Flow) -> bool:
        """As Source.fill."""
        began = time.monotonic()
        try:
            for _ in range(BATCH):
                if self.ended or not flow.room:
                    return False
                flow.add(await anext(self._items))
                if time.monotonic() - began > LINGER_S:
                    return False
        except StopAsyncIteration:
            self.ended = True
        except Exception as error:  # noqa: BLE001  # as above
            self.ended, self.error = True, error
        return not self.ended
