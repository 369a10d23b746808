"""Agents made wrong in one thing, for the rows of docs/reliability.md: RELAY_MUTANT=NAME runs any test against one.

A test that passes with the agent as it is, and not with the mutant of its row, is able to see. Those that break the
promise itself are `tests.fault.powercut.mutants`, which is the program for all of them.
"""

import asyncio
import dataclasses
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

from relay import ageing
from relay.agent import descriptors
from relay.intake import room
from relay.spool import ballast, committer, opening, quarantine, taking
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
    committer.BATCH_CASTS = 1


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
    )
}
