"""Agents made wrong in one thing, for the rows of docs/reliability.md: RELAY_MUTANT=NAME runs any test against one.

A test that passes with the agent as it is, and not with the mutant of its row, is able to see. Those that break the
promise itself are `tests.fault.powercut.mutants`, which is the program for all of them.
"""

import asyncio
import dataclasses
import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

from relay import ageing
from relay.agent import descriptors
from relay.cast import Arrival
from relay.forwarder import lanes, loop, outlet, rotation, sending, survey, trials, window
from relay.intake import connection, room
from relay.protocol.upstream import Conversation
from relay.settings import Forwarder
from relay.spool import accepting, ballast, batch, committer, opening, preparing, quarantine, taking, watching
from relay.upstream.health import Health
from relay.upstream.link import Link


def no_ballast() -> None:
    """No room is kept for retiring on a full disk."""
    ballast.Ballast.make = lambda _self, _free: False  # type: ignore[method-assign]


def waits_for_ever() -> None:
    """A link that is silent is kept."""
    drop = Link._drop

    def patient(link: Link[Any], reason: str) -> None:
        if not reason.startswith(("silent", "no answer")):
            drop(link, reason)

    Link._drop = patient  # type: ignore[method-assign]


def impatient() -> None:
    """A link is given up after 0.3 s of silence."""
    begin = Link.__init__

    def quick(link: Link[Any], server: Any, settings: Any, listener: Any) -> None:
        begin(link, server, dataclasses.replace(settings, heartbeat_interval=0.1, heartbeat_timeout=0.3), listener)

    Link.__init__ = quick  # type: ignore[method-assign]


def swallows_errors() -> None:
    """A COMMIT that failed is taken for one that did not."""
    connect = sqlite3.connect

    class Deaf(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            try:
                return super().execute(sql, *parameters)
            except sqlite3.OperationalError:
                if sql != "COMMIT":
                    raise
                return super().execute("ROLLBACK" if self.in_transaction else "SELECT 1")

    sqlite3.connect = lambda *arguments, **more: connect(*arguments, factory=Deaf, **more)  # type: ignore[assignment]


def trusts_rot() -> None:
    """No checksum is compared, and no log looked at."""
    taking.sound = lambda _row: True
    opening._check_log = lambda _path, _now_s: None


def starts_over() -> None:
    """A spool that cannot be read is deleted."""

    def delete(path: Path, _reason: str, _now_s: float) -> Path:
        for end in quarantine.FILES:
            Path(f"{path}{end}").unlink(missing_ok=True)
        return path

    quarantine.set_aside = delete


def unbounded() -> None:
    """Room for as much as callers send, and no descriptor kept from them."""
    room.HALF_BYTES = 1 << 40
    descriptors.fitting = lambda callers, _limit: callers


def dies_of_sigterm() -> None:
    """SIGTERM ends it at once."""
    loop = asyncio.SelectorEventLoop
    own = loop.add_signal_handler

    def at_once(self: Any, number: int, callback: Any, *arguments: Any) -> None:
        own(self, number, (lambda: os._exit(0)) if number == signal.SIGTERM else callback, *arguments)

    loop.add_signal_handler = at_once  # type: ignore[method-assign]


def goes_by_the_wall_clock() -> None:
    """A step of the clock ages casts."""
    ageing.Limit.reached = lambda self, _id, since: since <= self.moment  # type: ignore[method-assign]


def commits_alone() -> None:
    """A COMMIT for each arrival."""
    batch.BATCH_CASTS = 1


def forgets_doubts() -> None:
    """What was in flight on a link that is lost is not sent again."""
    loop.Forwarder._doubt = lambda _self, _doubtful, *, lost=False: None  # type: ignore[method-assign]


def sends_one_unique() -> None:
    """A cast goes out under the same wire unique each time."""

    class Stuck(int):
        def __add__(self, _other: int) -> "Stuck":
            return self

    begin = sending.Sender.__init__

    def stuck(sender: sending.Sender, *arguments: Any) -> None:
        begin(sender, *arguments)
        sender._sends = Stuck(1)

    sending.Sender.__init__ = stuck  # type: ignore[method-assign]


def believes_at_once() -> None:
    """A job that is done counts without the barrier behind it."""

    class Never(dict[bytes, Any]):
        def __init__(self, proven: dict[bytes, Any]) -> None:
            super().__init__()
            self.proven = proven

        def __setitem__(self, handle: bytes, token: Any) -> None:
            self.proven[handle] = token

    begin = Conversation.__init__

    def credulous(conversation: Conversation[Any]) -> None:
        begin(conversation)
        conversation._unproven = Never(conversation._proven)

    Conversation.__init__ = credulous  # type: ignore[method-assign]


def one_window() -> None:
    """Functions without workers are sent like all others, and hold the window of those that have some."""

    def room(upstream: window.UpstreamWindow, _function: window.FunctionWindow, limits: Forwarder) -> int:
        return max(0, min(limits.window, upstream.open_to) - upstream.casts)

    window.UpstreamWindow.room = room  # type: ignore[method-assign]
    lanes.Share.parked = False  # type: ignore[method-assign, assignment]


def wide_window() -> None:
    """Ten times the window."""
    room = window.UpstreamWindow.room

    def wide(upstream: window.UpstreamWindow, function: window.FunctionWindow, limits: Forwarder) -> int:
        return room(upstream, function, dataclasses.replace(limits, window=10 * limits.window))

    window.UpstreamWindow.room = wide  # type: ignore[method-assign]


def never_suspects() -> None:
    """No cast is tried alone, however many links are lost with it."""
    trials.Trials.suspects = lambda _self, _flight, _now: False  # type: ignore[method-assign]


def knows_no_grace() -> None:
    """A server that refuses new connections is used as before."""
    outlet.Outlet.fit = property(lambda self: self.condition.state is not Health.PAUSED)  # type: ignore[assignment]


def always_sticky() -> None:
    """One server is in use, whatever is configured."""
    rotation.ROUND_ROBIN = ""


def ends_links_on_reload() -> None:
    """SIGHUP ends every link."""
    outlet.Outlet.configure = lambda self, _limits, _settings: self.close()  # type: ignore[method-assign]


def forgets_uniques() -> None:
    """`-` is no unique."""
    accepting.kept_unique = preparing.kept_unique = lambda unique, _payload: None if unique == b"-" else unique or None


def deaf_to_readers() -> None:
    """A log that a reader keeps long is not told."""
    watching._long_log = lambda _path: None


def hears_the_loudest() -> None:
    """A lone cast waits until 20,000 of others have passed, or for three seconds."""
    append = committer.Committer.append
    passed = 0

    def unfair(writer: committer.Committer, arrival: Arrival) -> None:
        nonlocal passed
        passed += len(arrival.casts)
        if len(arrival.casts) > 1:
            append(writer, arrival)
            return
        loop, came, since = asyncio.get_running_loop(), passed, time.monotonic()

        def wait() -> None:
            if passed - came < 20_000 and time.monotonic() - since < 3:
                loop.call_later(0.005, wait)
            else:
                append(writer, arrival)

        wait()

    committer.Committer.append = unfair  # type: ignore[method-assign]


def hangs_up() -> None:
    """A caller that sends no more is gone."""
    connection.Connection.eof_received = lambda _self: False  # type: ignore[method-assign]


def speaks_first() -> None:
    """A link may send before the server has said a word."""
    made = Link.connection_made

    def eager(link: Link[Any], transport: Any) -> None:
        made(link, transport)
        link._conversation._open = True
        outlet_: Any = link._listener
        outlet_.opened(link)
        outlet_._owner.learned(outlet_, None)

    Link.connection_made = eager  # type: ignore[method-assign]
    survey.Survey.done = property(lambda _self: True, lambda _self, _done: None)  # type: ignore[assignment]


OTHERS = {
    mutate.__name__: mutate
    for mutate in (
        no_ballast,
        waits_for_ever,
        impatient,
        swallows_errors,
        trusts_rot,
        starts_over,
        unbounded,
        dies_of_sigterm,
        goes_by_the_wall_clock,
        commits_alone,
        forgets_uniques,
        deaf_to_readers,
        forgets_doubts,
        sends_one_unique,
        believes_at_once,
        one_window,
        wide_window,
        never_suspects,
        knows_no_grace,
        always_sticky,
        ends_links_on_reload,
        hears_the_loudest,
        hangs_up,
        speaks_first,
    )
}
