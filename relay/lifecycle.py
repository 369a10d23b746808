"""The life of a cast, as a table.

The theory.  A cast is born by COMMIT and ends by COMMIT; between the two it is in one of the states below, and only an
event of this table moves it.  IN_FLIGHT is the one state that is never written: one process owns the spool, so a crash
needs no repair, the row simply never left READY or DEFERRED.  A doubt (the link was lost before the verdict) writes
nothing either: the cast is ready again at once, whatever its row says, and goes out under a fresh wire unique.

DONE stands beside every living state, not only IN_FLIGHT: a worker's answer can arrive late, when the cast was already
given back, deferred or even buried, and work that is done is never done again on purpose.

What an operator releases or revives before the moment that its caller named is for later again: a caller's time is not
the operator's to change.  MOVE is the purge of what was written out by `export --hold`: it lives on elsewhere.

What does not stand in the table cannot happen; `after` raises on it, and a test walks all pairs.  The picture in
docs/lifecycle.md is drawn from here.
"""

from __future__ import annotations

from enum import Enum

from relay.errors import RelayError


class State(Enum):
    """Where a cast is; the values are the words on disk and in the CLI."""

    NOWHERE = "nowhere"
    READY = "ready"
    DEFERRED = "deferred"
    HELD = "held"
    IN_FLIGHT = "in_flight"
    DEAD = "dead"
    RETIRED = "retired"
    PURGED = "purged"


class Event(Enum):
    """What can happen to a cast."""

    ACCEPT = "accept"
    SCHEDULE = "accept for later"
    TAKE = "take"
    DONE = "done"
    DOUBT = "in doubt"
    FAIL = "failed"
    EXHAUST = "attempts used up"
    REFUSE = "refused for good"
    DAMAGE = "found damaged"
    UNREAD = "cannot be read"
    EXPIRE = "expired"
    HOLD = "hold"
    RELEASE = "release"
    BURY = "bury"
    REVIVE = "revive"
    POSTPONE = "released before its time"
    PURGE = "purge"
    MOVE = "moved away"


class NotInTheTable(RelayError):
    """An event that its state does not know: a bug of relay's."""


TABLE: dict[tuple[State, Event], State] = {
    (State.NOWHERE, Event.ACCEPT): State.READY,
    (State.NOWHERE, Event.SCHEDULE): State.DEFERRED,
    (State.READY, Event.TAKE): State.IN_FLIGHT,
    (State.DEFERRED, Event.TAKE): State.IN_FLIGHT,
    (State.IN_FLIGHT, Event.DONE): State.RETIRED,
    (State.IN_FLIGHT, Event.DOUBT): State.READY,
    (State.IN_FLIGHT, Event.FAIL): State.DEFERRED,
    (State.IN_FLIGHT, Event.EXHAUST): State.DEAD,
    (State.IN_FLIGHT, Event.REFUSE): State.DEAD,
    (State.READY, Event.DONE): State.RETIRED,
    (State.DEFERRED, Event.DONE): State.RETIRED,
    (State.HELD, Event.DONE): State.RETIRED,
    (State.DEAD, Event.DONE): State.RETIRED,
    (State.READY, Event.DAMAGE): State.DEAD,
    (State.DEFERRED, Event.DAMAGE): State.DEAD,
    (State.READY, Event.UNREAD): State.DEFERRED,
    (State.DEFERRED, Event.UNREAD): State.DEFERRED,
    (State.READY, Event.EXPIRE): State.DEAD,
    (State.DEFERRED, Event.EXPIRE): State.DEAD,
    (State.IN_FLIGHT, Event.EXPIRE): State.DEAD,
    (State.READY, Event.HOLD): State.HELD,
    (State.DEFERRED, Event.HOLD): State.HELD,
    (State.HELD, Event.RELEASE): State.READY,
    (State.READY, Event.BURY): State.DEAD,
    (State.DEFERRED, Event.BURY): State.DEAD,
    (State.HELD, Event.POSTPONE): State.DEFERRED,
    (State.HELD, Event.BURY): State.DEAD,
    (State.HELD, Event.MOVE): State.PURGED,
    (State.DEAD, Event.REVIVE): State.READY,
    (State.DEAD, Event.POSTPONE): State.DEFERRED,
    (State.DEAD, Event.PURGE): State.PURGED,
}


def after(state: State, event: Event) -> State:
    """The state that `event` leads to from `state`; raises NotInTheTable where there is none."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise NotInTheTable(f"a cast that is {state.value} cannot be: {event.value}") from None
