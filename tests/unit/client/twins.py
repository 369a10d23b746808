"""Client and AsyncClient behind one face, so that a test proves its claim of both."""

import asyncio
from collections.abc import Iterator
from typing import Any, Self

import pytest

from relay.client import AsyncClient, Client, Rejected


class Awaited:
    """AsyncClient with the methods of Client: each runs the loop until it has its answer."""

    def __init__(self, path: str, *, timeout: float = 2.0) -> None:
        """As AsyncClient."""
        self._runner = asyncio.Runner()
        self.client = AsyncClient(path, timeout=timeout)

    def cast(self, *arguments: Any, **more: Any) -> str:
        """As Client.cast."""
        return self._runner.run(self.client.cast(*arguments, **more))

    def cast_many(self, items: Any) -> Iterator[str | Rejected]:
        """As Client.cast_many."""
        answers = self.client.cast_many(items)

        async def step() -> str | Rejected:
            return await anext(answers)

        async def end() -> None:
            await answers.aclose()  # type: ignore[attr-defined]  # an asynchronous generator

        try:
            while True:
                try:
                    yield self._runner.run(step())
                except StopAsyncIteration:
                    return
        finally:
            self._runner.run(end())

    def close(self) -> None:
        """Close the client and the loop."""
        self.client.close()
        self._runner.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


Twin = type[Client] | type[Awaited]

both = pytest.mark.parametrize("twin", [Client, Awaited], ids=["Client", "AsyncClient"])
