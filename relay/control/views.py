"""What is only looked at: status, metrics and health, each of one moment.

Promises: counts, facts and tallies are read without a pause between them.  The disk is read in a thread, before; the
text of the metrics is made in one too.  Health is made at most once in HEALTH_GOOD_S seconds, from what is known.

Never does: change anything.  A spool that cannot be read is a problem that status shows, not an error.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from relay.control import answers, health, metrics
from relay.control.sources import Sources
from relay.errors import SpoolUnusable
from relay.facts import Problem
from relay.spool import reading
from relay.spool.reading import Oldest

#: seconds that the oldest cast found is where the next look for it begins
OLDEST_GOOD_S = 60.0
#: seconds that an answer about health is good for
HEALTH_GOOD_S = 1.0

_T = TypeVar("_T")


class Views:
    """Over a spool and what others know; `threads` are for what waits for the disk."""

    def __init__(self, sources: Sources, threads: Executor) -> None:
        self._sources = sources
        self._spool = sources.spool
        self._facts = sources.facts
        self._clock = sources.clock
        self._threads = threads
        self._oldest = _OldestKnown()
        self._health: dict[str, Any] = {}
        self._health_until = float("-inf")

    async def status(self) -> dict[str, Any]:
        """The object of `status`."""
        problems = []
        try:
            found = await self._look()
        except SpoolUnusable as error:
            found = None
            self._spool.suspicion.hear(error)
            problems.append(Problem("spool_unreadable", str(error), self._clock.wall() / 1e6))
        return self._status(found, problems)

    def _status(self, found: Oldest | None, problems: Sequence[Problem]) -> dict[str, Any]:
        """Nothing here awaits: counts and facts are of one moment."""
        spool, now = self._spool, self._clock.wall()
        counts = answers.total(spool.counts.values())
        return answers.status(
            answers.state_of(counts, spool.draining),
            counts,
            self._facts(),
            draining=spool.draining,
            accepting=spool.refusing is None,
            oldest_seconds=max(0, now - found.accepted_at) / 1e6 if found else 0.0,
            spool_bytes=spool.bytes_on_disk(),
            problems=[*self._sources.problems(), *problems],
            version=self._sources.version,
        )

    async def metrics(self) -> bytes:
        """The text for Prometheus."""
        free = await self.read(self._free)
        status = await self.status()
        facts, pulse = self._facts(), self._spool.pulse
        measured = metrics.Reading(
            status,
            {name: counts.copy() for name, counts in self._spool.counts.items()},
            {upstream.server: upstream.completed for upstream in facts.upstreams},
            facts.failed,
            dict(self._sources.rejected()),
            {
                "relay_commit_seconds": ("Duration of a COMMIT.", pulse.commit_seconds),
                "relay_batch_casts": ("Casts accepted by one COMMIT.", pulse.batch_casts),
                "relay_completion_seconds": ("From acceptance to done; sum estimated.", pulse.completion_seconds),
            },
            free,
            self._spool.limits.min_free,
        )
        return await self.read(lambda: metrics.render(measured, process=True))

    def health(self) -> dict[str, Any]:
        """The object of health."""
        now = self._clock.monotonic()
        if now >= self._health_until:
            since = self._spool.pulse.committing_since
            committing_s = 0.0 if since is None else now - since
            self._health = health.health(self._facts(), self._sources.problems(), committing_s, self._sources.version)
            self._health_until = now + HEALTH_GOOD_S
        return self._health

    async def read(self, read: Callable[[], _T]) -> _T:
        """Wait for something in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    def _free(self) -> int | None:
        """Bytes that the spool's disk has free, None where that cannot be learnt."""
        try:
            disk = os.statvfs(self._spool.path.parent)
        except OSError:
            return None
        return disk.f_bavail * disk.f_frsize

    async def _look(self) -> Oldest | None:
        """The oldest cast that is to be executed."""
        counts = answers.total(self._spool.counts.values())
        if not answers.backlog_of(counts):
            return None
        kept_back, now = counts.held + counts.dead, self._clock.monotonic()
        from_id = self._oldest.from_id(kept_back, now)
        found = await self.read(lambda: reading.oldest(self._spool.path, from_id))
        self._oldest.found(found, from_id, kept_back, now)
        return found


class _OldestKnown:
    """Where the search for the oldest cast begins, so that dead ones in front of it are not passed over at
    each look.

    An id is no bound once an older cast may have come back to life: when fewer are kept back than there were,
    or, because as many may have died meanwhile, after OLDEST_GOOD_S.
    """

    def __init__(self) -> None:
        self._id = 0
        self._kept_back = 0
        self._since = 0.0

    def from_id(self, kept_back: int, now: float) -> int:
        """The id to begin at."""
        if kept_back < self._kept_back or now - self._since > OLDEST_GOOD_S:
            return 0
        return self._id

    def found(self, oldest: Oldest | None, from_id: int, kept_back: int, now: float) -> None:
        """Remember what a look from `from_id` came to."""
        if from_id == 0:
            self._since = now
        self._id = oldest.id if oldest else 0
        self._kept_back = kept_back
