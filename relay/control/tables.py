"""What is answered by function: the shape of the backlog, and what each function does.

    GET  /v1/shape      casts of a filter by function and age
    GET  /v1/functions  counts, workers and the last error of each function, one JSON object a line

Promises: a shape is counted in a thread, from disk, a slice at a time, so that others have their turn there too.  The
functions are those of one moment, made into lines LINES at a time, so that ten thousand of them do not keep the event
loop from anybody.  Never changes anything.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

from relay.clock import Clock
from relay.control import answers
from relay.control.courtesy import Courtesy
from relay.control.requests import Answer, Refused, Request, filter_of
from relay.facts import Facts
from relay.spool import shape
from relay.spool.shape import Shape
from relay.spool.spool import Spool

#: functions that are made into lines at a time
LINES = 500

_T = TypeVar("_T")


class Read(Protocol):
    """Runs something in a thread."""

    async def __call__(self, read: Callable[[], _T], /) -> _T:
        """What it came to."""


class Tables:
    """The two paths; `read` is for what waits for the disk."""

    def __init__(self, spool: Spool, facts: Callable[[], Facts], clock: Clock, read: Read, courtesy: Courtesy) -> None:
        self._spool = spool
        self._facts = facts
        self._clock = clock
        self._read = read
        self._courtesy = courtesy
        self.table: Mapping[str, Mapping[str, Callable[[Request], Awaitable[Answer]]]] = {
            "/v1/shape": {"GET": self._shape},
            "/v1/functions": {"GET": self._functions},
        }

    async def _shape(self, request: Request) -> Answer:
        query = dict(request.query)
        upper = _bounds(query.pop("first", f"{shape.FIRST_S}"), query.pop("buckets", f"{shape.BUCKETS}"))
        wanted, limit = filter_of(query.items())
        if limit is not None:
            raise Refused(400, "bad_filter", "A shape takes no limit.")
        counting = shape.counting(self._spool.path, wanted, upper, self._clock.wall())
        counted = Shape(upper, {})
        try:
            began = time.monotonic()
            while (more := await self._read(partial(next, counting, None))) is not None:
                counted = more
                await self._courtesy.rest(time.monotonic() - began)
                began = time.monotonic()
        finally:
            # a thread that still counts closes it when it is done
            with suppress(ValueError):
                counting.close()
        return answers.shape(counted)

    async def _functions(self, _request: Request) -> Answer:
        # the counts of one moment, though lines are made of them later
        return _lines(answers.functions(self._spool.counts, self._facts()))


def _bounds(first: str, buckets: str) -> tuple[float, ...]:
    try:
        return shape.bounds(float(first), int(buckets))
    except ValueError:
        raise Refused(
            400,
            "bad_filter",
            f"first is seconds over 0, buckets 1 to {shape.MOST_BUCKETS}, not {first!r}, {buckets!r}.",
        ) from None


async def _lines(rows: list[dict[str, Any]]) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(rows), LINES):
        yield b"".join([json.dumps(row).encode() + b"\n" for row in rows[start : start + LINES]])
        await asyncio.sleep(0)
