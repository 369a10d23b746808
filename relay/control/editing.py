"""What an operator changes about casts, over the operator's door.

    POST /v1/hold, release, retry, bury, revive, purge   change the casts that the body selects
    GET  /v1/holds      the patterns whose new casts are held        POST /v1/holds    hold another one

A body is `{"casts": [names]}`, `{"filter": {...}}` or `{"all": true}`, and may have `"dry_run": true`; purge takes
`{"exported": true}` as well.  The answer is JSON Lines: what was matched, changed and skipped so far, again after each
slice, and a last line with `"done": true`, or with an `error` where the disk failed midway.  Who asks and goes away
stops the change at the end of a slice.

Promises: each change is one line of the log, with the uid, the verb, what was selected, and the counts.  A slice is a
transaction of edits.SLICE casts at most; while callers cast, the writer is left to them between two slices, so that no
caller notices (`courtesy`).

Never does: read the disk in the event loop, or decide what becomes of a cast (`edits` does).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, TypeAlias

from relay.clock import Clock
from relay.control.courtesy import Courtesy
from relay.control.requests import Answer, Refused, Request, filter_of, spell
from relay.errors import SpoolUnusable
from relay.spool import reading, selecting
from relay.spool.edits import OPERATOR, Edit, Tally, Verb, states_for
from relay.spool.selecting import Selection
from relay.spool.spool import Spool

log = logging.getLogger(__name__)

#: names of casts in one request
NAMES = 10_000
#: the latest moment that a hold may last until (Unix seconds): the end of the year 9999
LATEST_S = 253402300799
#: characters of a name in the log
SHOWN_NAME = 128

_Route: TypeAlias = Callable[[Request], Awaitable[Answer]]
_Read: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]

#: the verbs that have a path of their own
_VERBS = (Verb.HOLD, Verb.RELEASE, Verb.RETRY, Verb.BURY, Verb.REVIVE, Verb.PURGE)


class Editing:
    """The routes, over a spool; `read` runs a function in a thread that may wait for the disk."""

    def __init__(self, spool: Spool, clock: Clock, read: _Read) -> None:
        self._spool = spool
        self._clock = clock
        self._read = read
        self.lock = asyncio.Lock()
        self.courtesy = Courtesy(spool)
        self.table: Mapping[str, Mapping[str, _Route]] = {
            **{f"/v1/{verb.value}": {"POST": partial(self.edit, verb)} for verb in _VERBS},
            "/v1/holds": {"GET": self._holds, "POST": self._hold_new},
        }

    async def edit(self, verb: Verb, request: Request) -> Answer:
        """Change what the body selects."""
        asked = request.object()
        selection = selection_of(asked)
        if selection.exported and verb is Verb.PURGE:
            verb = Verb.MOVE
        held_by = str(asked.get("held_by") or OPERATOR) if verb is Verb.HOLD else ""
        return self._lines(Edit(verb, request.uid, held_by), selection, bool(asked.get("dry_run")), words_of(asked))

    async def _lines(self, edit: Edit, selection: Selection, dry_run: bool, words: str) -> AsyncGenerator[bytes, None]:
        """Do it slice by slice, and say how far it is."""
        tally, done, wrong = Tally(), False, ""
        ended: list[str] = []
        try:
            async with self.lock:
                if edit.verb is Verb.RELEASE and not dry_run:
                    await self._end_holds(selection, ended)
                async with aclosing(self.run(edit, selection, dry_run=dry_run)) as slices:
                    async for more in slices:
                        tally.add(more)
                        yield _line(tally, dry_run=dry_run)
            done = True
        except SpoolUnusable as error:
            wrong = str(error)
        finally:
            if not dry_run:
                counts = f"matched {tally.matched}, changed {tally.changed}, skipped {tally.skipped}"
                holds = f"; ended the hold of new casts of {', '.join(ended)}" if ended else ""
                end = "" if done else "; broken off"
                log.info("uid %s: %s %s: %s%s%s", edit.uid, edit.verb.value, words, counts, holds, end)
        yield _line(tally, dry_run=dry_run, **({"error": wrong} if wrong else {"done": True}))

    async def run(self, edit: Edit, selection: Selection, *, dry_run: bool = False) -> AsyncGenerator[Tally, None]:
        """What came of each slice."""
        states = states_for(edit.verb, selection)
        slices = selecting.select(self._spool.path, selection, states, self._clock.wall())
        try:
            while (chosen := await self._read(partial(next, slices, None))) is not None:
                began = time.monotonic()
                tally = Tally()
                if chosen.casts:
                    tally = await self._spool.operator.edit(edit, chosen.casts, dry_run=dry_run)
                tally.missing = chosen.missing
                yield tally
                await self.courtesy.rest(time.monotonic() - began)
        finally:
            # a thread that still reads closes it when it is done
            with suppress(ValueError):
                slices.close()

    # -- holds of what is still to come ----------------------------------------------------------------------------

    async def _end_holds(self, selection: Selection, ended: list[str]) -> None:
        """A release by a hold's own pattern ends that hold, and one of everything ends all; `ended` gets them."""
        if selection.names is None:
            for hold in self._spool.holds.ended_by(selection.wanted.given()):
                await self._spool.operator.release_new(hold.pattern)
                ended.append(hold.pattern)

    async def _holds(self, _request: Request) -> Answer:
        return {"holds": await self._read(partial(reading.holds, self._spool.path))}

    async def _hold_new(self, request: Request) -> Answer:
        asked = request.object()
        pattern, until = asked.get("function"), asked.get("until")
        if not isinstance(pattern, str) or not pattern:
            raise Refused(400, "bad_request", "function is a glob.")
        if until is not None and not (isinstance(until, int | float) and 0 <= until <= LATEST_S):
            raise Refused(400, "bad_request", "until is a Unix time in seconds.")
        await self._spool.operator.hold_new(pattern, None if until is None else round(until * 1e6))
        end = "" if until is None else f" until={_time(until)}"
        log.info("uid %s: hold new function=%s%s", request.uid, repr(pattern), end)
        return await self._holds(request)


def selection_of(asked: Mapping[str, Any]) -> Selection:
    """What a body selects; Refused where it does not say."""
    names = asked.get("casts")
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Refused(400, "bad_request", "casts is a list of ids, handles or uniques, as texts.")
        if len(names) > NAMES:
            raise Refused(400, "bad_request", f"casts has at most {NAMES} names.")
        try:
            "".join(names).encode()
        except UnicodeEncodeError:
            raise Refused(400, "bad_request", "casts has a name that is not UTF-8.") from None
        return Selection(tuple(names), exported=bool(asked.get("exported")))
    given = asked.get("filter") or {}
    if not isinstance(given, dict):
        raise Refused(400, "bad_filter", "filter is an object.")
    wanted, limit = filter_of(given.items())
    if not wanted.given() and not asked.get("all") and not asked.get("exported"):
        raise Refused(400, "no_filter", "Which casts? Give casts, a filter, or all.")
    return Selection(None, wanted, limit, bool(asked.get("exported")))


def words_of(asked: Mapping[str, Any]) -> str:
    """What was selected, for the log: never more than a line."""
    if asked.get("casts") is not None:
        names = asked["casts"]
        some = f"{', '.join(map(_shown, names[:3]))}{', ...' if len(names) > 3 else ''}"
        return f"{len(names)} named cast{'s' * (len(names) != 1)} ({some})"
    wanted, limit = filter_of((asked.get("filter") or {}).items())
    return spell(wanted, limit) or "all"


def _time(moment: float) -> str:
    """A Unix time for the log."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _shown(name: str) -> str:
    """A name within a line of the log: no line break, and no longer than a handle is."""
    return name[:SHOWN_NAME].encode("unicode_escape").decode()


def _line(tally: Tally, *, dry_run: bool, **end: object) -> bytes:
    said = tally.shown()
    if dry_run:
        said["changed"] = 0
    return json.dumps({**said, "dry_run": dry_run, **end}).encode() + b"\n"
