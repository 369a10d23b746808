"""What follows from a verdict that is not done: again after a backoff, or dead.  Pure; time and chance are arguments.

A failure of the work itself counts; once max_attempts of them are used up the cast is dead, but never while the agent
drains, for a drain must not decide what an operator would want to look at.  Refused for good is dead at once.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from relay.clock import spell
from relay.forwarder.lanes import Flight
from relay.spool.changes import Attempt, Setback
from relay.upstream.backoff import Backoff
from relay.verdict import Outcome, Verdict

#: characters of an error's text in a log line
LOGGED_TEXT = 200


class Rule(NamedTuple):
    """What is in force: failures that make a cast dead, the wait between them, and whether the agent drains."""

    max_attempts: int
    backoff: Backoff
    draining: bool


def set_back(flight: Flight, what: Verdict, rule: Rule, server: str, wall: int, took_s: float, rng: Random) -> Setback:
    """The setback to be stored; `wall` (us) is now, `took_s` the seconds since the cast was sent to `server`."""
    attempts = flight.attempts + flight.doubts + 1
    failures = flight.failures + what.counts
    due_at = None
    if what.outcome is Outcome.DEFERRED and (failures < rule.max_attempts or rule.draining):
        due_at = wall + round(rule.backoff.wait(failures, rng) * 1e6)
    attempt = Attempt(attempts, flight.began_us, round(took_s * 1e6), server, what.reason, what.text)
    return Setback(
        id=flight.cast[0],
        lane=flight.track.name.number,
        deferred=flight.deferred,
        due_at=due_at,
        attempts=attempts,
        failures=failures,
        failed=what.counts,
        doubts=flight.doubts,
        reason=what.reason,
        error=what.text,
        log=(attempt,),
    )


def describe(flight: Flight, what: Verdict, server: str, took_s: float, next_step: str, unlogged: int) -> str:
    """One attempt for the log: who, where, what came of it, after how long, and what is next; never the payload."""
    return (
        f"cast {flight.cast[0]} of {flight.track.name.function.decode('utf-8', 'backslashreplace')}:"
        f" attempt {flight.attempts + flight.doubts + 1} at {server} came to {what.reason}"
        f" ({printable(what.text)}) after {spell(took_s)}; {next_step}"
        f"{f'; {unlogged} more like this' if unlogged else ''}"
    )


def printable(text: str) -> str:
    """A text of others for one log line: at most LOGGED_TEXT characters, none of them able to break the line."""
    cut = text[:LOGGED_TEXT]
    return cut if cut.isprintable() else cut.encode("unicode_escape").decode("ascii")
