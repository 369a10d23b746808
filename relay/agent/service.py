"""The agent: builds the parts, joins them, runs them, and takes them down in the order that loses nothing.

Up: spool (refused with 73 or 75), control, forwarder, then the intake, READY.  Down: the forwarder stops taking and
waits for what completes, callers are read to the end of what they have sent, what was read is committed and answered,
everything is closed.

This is the one place that knows everybody: what the spool commits goes to the forwarder, what the forwarder knows goes
to control.  A part that breaks by a bug takes the agent down with 70; the spool keeps the rest.  A spool that is found
broken ends this life, too, and `broken` has the next one rebuild it: at once, and from then on once in REBUILD_S.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import relay
from relay.agent import descriptors, notify
from relay.agent.chores import Chores
from relay.agent.reloading import needing_restart
from relay.cast import LaneName
from relay.clock import Clock
from relay.control.server import Control
from relay.errors import BadConfiguration
from relay.facts import Problem, UpstreamFacts
from relay.forwarder.loop import Forwarder
from relay.intake.door import Door
from relay.intake.listener import Listener
from relay.settings import Settings
from relay.spool.opening import Broken
from relay.spool.spool import Spool
from relay.spool.watching import Sights

log = logging.getLogger(__name__)

#: seconds between two reports to the service manager
REPORT_S = 10.0
#: seconds in which what callers have sent by the end is read, at most
LAST_WORDS_S = 2.0
#: seconds that the last answers may take to go out
FAREWELL_S = 2.0
#: seconds after which a thread that wants the interpreter's lock gets it: the writer, back from the disk, must not wait
#: the usual 5 ms for the loop to finish a read
SWITCH_S = 0.0001
#: seconds that a spool which was rebuilt is not rebuilt again: each time a copy is kept
REBUILD_S = 600.0


class Service:
    """One agent; `run` is its life."""

    def __init__(
        self,
        settings: Settings,
        reload: Callable[[], Settings],
        inherited: Mapping[Path, socket.socket] | None = None,
        broken: Broken | None = None,
    ) -> None:
        """`inherited` are the service manager's sockets, by path; `broken` is why the spool is to be rebuilt."""
        self._inherited = dict(inherited or {})
        self._was_broken = broken
        #: why the next life has to rebuild the spool, once this one has ended for that
        self.broken: Broken | None = None
        #: a lane that was counted and never seen, at the last look
        self._missed: LaneName | None = None
        #: what is in force of what can change, and what the parts that cannot were built with
        self._settings = settings
        self._running = settings
        self._reload = reload
        self._clock = Clock()
        self._stop = asyncio.Event()
        self._exit_code = os.EX_OK
        self._problems: dict[str, Problem] = {}
        self._sights = Sights()

    async def run(self) -> int:
        """Live until a signal; the exit code.  Raises RelayError where a part cannot begin."""
        settings, loop = self._settings, asyncio.get_running_loop()
        sys.setswitchinterval(SWITCH_S)
        loop.set_exception_handler(self._unexpected)
        # until there is something to take down, a signal just ends it; opening may wait for another agent's lock
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _leave)
        self._spool = spool = Spool(settings.spool, self._clock, broken=self._was_broken)
        self._rebuilt_at = self._clock.monotonic() if self._was_broken else float("-inf")
        spool.suspicion.on_broken = self._begin_anew
        spool.start(loop, self._broken)
        self._forwarder = forwarder = Forwarder(settings.forwarder, settings.upstream, spool, self._clock, Random())
        spool.on_committed = forwarder.committed
        spool.on_made_due = forwarder.expedite
        spool.on_paused = forwarder.pause
        spool.on_fence, spool.on_unfence = forwarder.fence, forwarder.unfence
        self._control = Control(
            settings.control,
            spool,
            forwarder.facts,
            self._clock,
            relay.__version__,
            self._list_problems,
            lambda: self._door.refused,
        )
        intake = settings.intake
        callers = descriptors.make_room(intake.max_connections)
        if callers < intake.max_connections:
            self._problem(
                "too_few_descriptors",
                f"[intake] max_connections ({intake.max_connections}) is more than the limit of open files leaves room"
                f" for ({callers}); it has to be {intake.max_connections + descriptors.KEPT}",
            )
        self._door = Door(spool, forwarder, socket.gethostname(), relay.__version__, intake.max_payload, callers)
        self._listener = Listener(self._door, intake, self._inherited.pop(intake.socket, None))
        for path, sock in self._inherited.items():
            log.warning("the service manager's socket %s is none of [intake] socket, and is not used", path)
            sock.close()
        ready = False
        # whoever can connect may also send a signal
        self._watch_signals(loop)
        try:
            # the backlog's heads first: what is committed from now on belongs behind them
            forwarder.start()
            await self._control.start()
            await self._listener.open()
            log.info("relay-agent ready")
            ready = True
            notify.notify(notify.READY)
            report = loop.create_task(self._report())
            chores = loop.create_task(Chores(spool, self._clock, lambda: self._settings.spool).run())
            chores.add_done_callback(self._ended)
            await self._stop.wait()
            report.cancel()
            chores.cancel()
        finally:
            await self._take_down()
            if ready:
                log.info("relay-agent stopped")
        return self._exit_code

    @property
    def settings(self) -> Settings:
        """What is in force, or will be at the next start."""
        return self._settings

    def _begin_anew(self, reason: str) -> None:
        """The spool is broken: end, so that the next life rebuilds it."""
        if self._stop.is_set():
            return
        if self._clock.monotonic() < self._rebuilt_at + REBUILD_S:
            self._note("spool_damaged", f"{reason}; it was to be rebuilt {REBUILD_S / 60:.0f} minutes ago or less")
            return
        log.critical("the spool is damaged (%s): the agent begins anew with what can be read of it", reason)
        self.broken = Broken(reason, self._spool.next_id)
        self._stop.set()

    # -- signals ---------------------------------------------------------------------------------------------------

    def _watch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._reconfigure)

    def _end(self) -> None:
        self.broken = None
        self._stop.set()

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody caught: trouble of one connection is logged, anything else is a bug."""
        error = context.get("exception")
        if error is None or isinstance(error, OSError):
            loop.default_exception_handler(context)
        else:
            self._broken(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken(error)

    def _broken(self, error: BaseException) -> None:
        log.critical("a part of relay broke; relay stops, the spool keeps everything", exc_info=error)
        self._exit_code = os.EX_SOFTWARE
        self._stop.set()

    def _reconfigure(self) -> None:
        """SIGHUP: all of the new settings that can change while running, or none of them."""
        notify.notify(notify.reloading())
        wrong = None
        try:
            self._adopt(self._reload())
        except BadConfiguration as error:
            wrong = f"{error}; the old settings are in force"
        # outside the handler: what is logged while an exception is in the air carries its last line once more
        self._note("bad_configuration", wrong)
        notify.notify(notify.READY)

    def _adopt(self, new: Settings) -> None:
        running, self._settings = self._running, new
        self._spool.limit(new.spool)
        self._forwarder.configure(new.forwarder, new.upstream)
        fixed = needing_restart(running, new)
        text = f"{', '.join(fixed)} changed: needs restart" if fixed else None
        self._note("needs_restart", text)
        log.info("the configuration was reloaded")

    # -- what is shown ---------------------------------------------------------------------------------------------

    def _problem(self, code: str, text: str) -> None:
        if code not in self._problems:
            log.warning("problem %s: %s", code, text)
        since = self._problems[code].since if code in self._problems else time.time()
        self._problems[code] = Problem(code, text, since)

    def _list_problems(self) -> list[Problem]:
        """What is wrong now: what was noted, and what can be seen."""
        facts = self._forwarder.facts(functions=False)
        self._note("spool_failing", self._spool.trouble)
        self._note("quarantined", self._sights.quarantined)
        self._note("log_too_long", self._sights.long_log)
        rotten = self._spool.rotten
        self._note(
            "casts_damaged",
            f"{len(rotten)} casts in the spool are damaged on disk, the first is {rotten[0]}" if rotten else None,
        )
        unread = self._spool.unread
        self._note(
            "casts_unreadable",
            f"{unread} casts could not be read from disk when their turn came; each is read again in a minute"
            if unread
            else None,
        )
        limits, refusing = self._settings.spool, self._spool.refusing
        self._note(
            "spool_full",
            f"the spool has reached [spool] max_casts ({limits.max_casts}) or max_bytes ({limits.max_bytes})"
            if refusing == "spool_full"
            else None,
        )
        self._note(
            "disk_full",
            f"the spool's disk has less than [spool] min_free ({limits.min_free} bytes) and the ballast free"
            if refusing == "disk_full"
            else None,
        )
        holds = ", ".join(hold.pattern for hold in self._spool.holds.all)
        self._note("holding", f"new casts are held, by hold --new, of: {holds}" if holds else None)
        self._note("upstreams_paused", paused(facts.upstreams))
        self._note("upstreams_down", down(facts.upstreams))
        return list(self._problems.values())

    def _note(self, code: str, text: str | None) -> None:
        if text:
            self._problem(code, text)
        elif self._problems.pop(code, None) is not None:
            log.info("no longer a problem: %s", code)

    async def _report(self) -> None:
        while True:
            facts, counts = self._forwarder.facts(functions=False), self._spool.counts.values()
            backlog = sum([count.ready + count.deferred for count in counts])
            flying = facts.in_flight_ready + facts.in_flight_deferred
            healthy = [upstream.server for upstream in facts.upstreams if upstream.state == "healthy"]
            notify.notify(
                notify.status(
                    f"{backlog} casts in the backlog, {flying} in flight, {', '.join(healthy) or 'no upstream'}"
                )
            )
            self._sights = await asyncio.to_thread(self._spool.look)
            self._list_problems()
            self._look_for_missed()
            self._spool.refresh()
            await asyncio.sleep(REPORT_S)

    def _look_for_missed(self) -> None:
        """A lane that is counted, and of which nothing comes from the disk, at two looks: an index has lost casts."""
        before, self._missed = self._missed, self._forwarder.missed()
        if self._missed is not None and self._missed == before:
            function = self._missed.function.decode("utf-8", "backslashreplace")
            self._spool.suspicion.suspect(f"casts of {function} are counted, and not found")

    # -- the end ---------------------------------------------------------------------------------------------------

    async def _take_down(self) -> None:
        notify.notify(notify.STOPPING)
        # verdicts that cannot be stored are not worth waiting for
        await self._forwarder.stop(0 if self._spool.failing else self._settings.agent.stop_timeout)
        await self._listener.close()
        await self._door.hush(LAST_WORDS_S)
        await self._spool.finish()
        await self._door.leave(FAREWELL_S)
        await self._control.close()
        self._spool.close()


def paused(upstreams: Sequence[UpstreamFacts]) -> str | None:
    """Which upstreams get nothing because an operator said so; None where all may be used."""
    servers = ", ".join(upstream.server for upstream in upstreams if upstream.state == "paused")
    return f"nothing is sent to {servers}, which an operator has paused" if servers else None


def down(upstreams: Sequence[UpstreamFacts]) -> str | None:
    """Why nothing can be sent anywhere, upstream by upstream; None where something can."""
    reasons = [
        f"{upstream.server}: {'paused' if upstream.state == 'paused' else upstream.last_error}"
        for upstream in upstreams
        if upstream.state == "paused" or upstream.last_error
    ]
    return "; ".join(reasons) if reasons and len(reasons) == len(upstreams) else None


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(os.EX_OK)
