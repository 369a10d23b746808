"""What the operator is told, composed from the counts of the spool and the facts of the forwarder.

Promises: in every status `accepted = ready + deferred + held + in_flight + dead + completed + purged`,
because ready and deferred are what the counts say less what is in flight from there.  Pure: the same numbers
give the same answer; the callers read counts and facts in one go, or the two would speak of different
moments.

Never does I/O, never fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from relay.cast import LaneName
from relay.facts import Facts, LaneFacts, Problem
from relay.spool.changes import Counts
from relay.spool.schema import COUNTS

if TYPE_CHECKING:
    from relay.spool.shape import Shape

#: blockers named in one answer, those with most casts
BLOCKERS_NAMED = 1000

_NUMBERS = attrgetter(*COUNTS)
_UNKNOWN = LaneFacts(in_flight=0, stalled=False, last_error="")


def total(lanes: Iterable[Counts]) -> Counts:
    """The sum over lanes."""
    rows = [_NUMBERS(counts) for counts in lanes]
    return Counts([sum(column) for column in zip(*rows, strict=True)]) if rows else Counts()


def backlog_of(counts: Counts) -> int:
    """Casts that are to be executed: ready, deferred or in flight."""
    return counts.ready + counts.deferred


def state_of(counts: Counts, draining: bool) -> str:
    """running, draining, or drained: nothing left but dead and held casts."""
    if not draining:
        return "running"
    return "draining" if backlog_of(counts) else "drained"


def status(
    state: str,
    counts: Counts,
    facts: Facts,
    *,
    draining: bool,
    accepting: bool,
    oldest_seconds: float,
    spool_bytes: int,
    problems: Sequence[Problem],
    version: str,
) -> dict[str, Any]:
    """The object of `status`."""
    # facts may be a moment older than the counts: what is in flight is never more than what there is
    from_ready = min(facts.in_flight_ready, counts.ready)
    from_deferred = min(facts.in_flight_deferred, counts.deferred)
    return {
        "state": state,
        "accepting": accepting,
        "draining": draining,
        "ready": counts.ready - from_ready,
        "deferred": counts.deferred - from_deferred,
        "held": counts.held,
        "in_flight": from_ready + from_deferred,
        "dead": counts.dead,
        "oldest_seconds": oldest_seconds,
        "spool_bytes": spool_bytes,
        "payload_bytes": counts.bytes,
        "accepted": counts.accepted,
        "completed": counts.completed,
        "purged": counts.purged,
        "failures": counts.failures,
        "coalesced": counts.coalesced,
        "expired": counts.expired,
        "possible_repeats": counts.repeats,
        "upstreams": [
            {
                "server": upstream.server,
                "state": upstream.state,
                "in_flight": upstream.in_flight,
                "last_error": upstream.last_error,
            }
            for upstream in facts.upstreams
        ],
        "problems": [{"code": problem.code, "text": problem.text, "since": problem.since} for problem in problems],
        "version": version,
    }


def upstreams(facts: Facts) -> list[dict[str, Any]]:
    """The objects of `upstreams`, in this host's order of preference."""
    return [
        {
            "server": upstream.server,
            "state": upstream.state,
            "role": upstream.role,
            "since_seconds": round(upstream.since_s, 3),
            "functions": upstream.functions,
            "in_flight": upstream.in_flight,
            "completed": upstream.completed,
            "last_error": upstream.last_error,
        }
        for upstream in facts.upstreams
    ]


def drain(lanes: Mapping[LaneName, Counts], facts: Facts, draining: bool) -> dict[str, Any]:
    """The object of `drain`: its state, what remains, and the blockers, the function with most casts first."""
    counts = total(lanes.values())
    waiting: dict[bytes, tuple[int, int]] = {}
    for name, lane in lanes.items():
        if backlog_of(lane):
            casts, deferred = waiting.get(name.function, (0, 0))
            waiting[name.function] = casts + backlog_of(lane), deferred + lane.deferred
    most = sorted(waiting, key=lambda function: (-waiting[function][0], function))
    return {
        "state": state_of(counts, draining),
        "remaining": backlog_of(counts),
        "blockers": [
            {
                "function": text(function),
                "count": waiting[function][0],
                "reason": reason(facts, facts.lanes.get(function, _UNKNOWN), waiting[function][1]),
            }
            for function in most[:BLOCKERS_NAMED]
        ],
        "functions": len(most),
        "dead": counts.dead,
        "held": counts.held,
    }


def shape(found: Shape) -> dict[str, Any]:
    """The object of `shape`: the upper bounds in seconds, and the functions, the one with most casts first."""
    functions = sorted(found.functions.items(), key=lambda one: (-sum(one[1]), one[0]))
    return {
        "bounds": list(found.bounds),
        "functions": [{"function": text(name), "total": sum(casts), "casts": casts} for name, casts in functions],
    }


def functions(lanes: Mapping[LaneName, Counts], facts: Facts) -> list[dict[str, Any]]:
    """What there is to tell of each function that was ever cast, by name."""
    sums: dict[bytes, Counts] = {}
    for name, counts in lanes.items():
        sums.setdefault(name.function, Counts()).add(counts)
    told = []
    for function, counts in sorted(sums.items()):
        lane = facts.lanes.get(function, _UNKNOWN)
        told.append(
            {
                "function": text(function),
                "backlog": backlog_of(counts),
                "in_flight": min(lane.in_flight, backlog_of(counts)),
                "held": counts.held,
                "dead": counts.dead,
                "bytes": counts.bytes,
                "accepted": counts.accepted,
                "completed": counts.completed,
                "failures": counts.failures,
                "workers": lane.workers,
                "stalled": lane.stalled,
                "last_error": lane.last_error,
            }
        )
    return told


def text(function: bytes) -> str:
    """A function's name as it is shown."""
    return function.decode("utf-8", "backslashreplace")


def reason(facts: Facts, lane: LaneFacts, deferred: int) -> str:
    """Why a function's casts are still here, as far as is known; the first that holds."""
    ring = facts.upstreams
    if ring and not any(upstream.state == "healthy" for upstream in ring):
        if all(upstream.state == "paused" for upstream in ring):
            return "upstreams paused"
        errors = [upstream.last_error for upstream in ring if upstream.state != "paused" and upstream.last_error]
        return _with("upstreams down", errors[0] if errors else "")
    if lane.workers == 0:
        return "no workers"
    if lane.stalled:
        return "no answer from a worker"
    if lane.last_error:
        return _with("failing", lane.last_error)
    if lane.scheduled and not lane.in_flight:
        return "scheduled by the caller"
    if deferred and not lane.scheduled:
        return "failing"
    return "in progress: waiting for its workers"


def _with(word: str, error: str) -> str:
    return f"{word}: {error}" if error else word
