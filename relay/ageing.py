"""How old a cast is: by the clock that never steps, though what is stored is the wall clock's.

The theory.  A cast stores two moments by the wall clock: when it was accepted, and the one its caller named, if any.
Its lifetime runs from the later of them, which is its `since`.  The wall clock may step, and a step must expire
nothing, and keep nothing from expiring; so each step is noted as it happens, with the ids of the casts that are older
than it, and a moment stored before a step is moved along with the clock (`moved`).

    stored before the step, and past then      moved by what the clock was moved by
    stored before it, and past only by it      the moment of the step: that is when it came
    stored before it, and still to come        what its caller named, unmoved
    stored within the tick that noticed it     the moment of the step

STEPS are kept, and written down with the spool; what is older than the oldest of them is the oldest casts' business.
While relay does not run nobody sees a step, and the wall clock is believed.  Pure; the clocks' readings are arguments.
"""

from __future__ import annotations

import json
from typing import NamedTuple

#: seconds by which the wall clock must go another way than the monotonic one to have stepped
STEP_S = 0.5
#: steps that are remembered
STEPS = 16


class Step(NamedTuple):
    """The wall clock went from `old` to `new` (us); casts under `sure` were stored before, from `after` on after it."""

    sure: int
    after: int
    old: int
    new: int


def moved(id_: int, moment: int, steps: tuple[Step, ...]) -> int:
    """A moment (us) that was stored with that cast, as the wall clock would call it now."""
    for step in steps:
        if id_ >= step.after:
            continue
        if id_ >= step.sure:
            moment = step.new if moment <= max(step.old, step.new) else moment
        elif moment <= step.old:
            moment += step.new - step.old
        elif moment <= step.new:
            moment = step.new
    return moment


class Limit(NamedTuple):
    """Who has outlived its lifetime: casts whose `since` is not after `moment` (us)."""

    moment: int
    steps: tuple[Step, ...]

    def reached(self, id_: int, since: int) -> bool:
        """True when that cast has expired."""
        return moved(id_, since, self.steps) <= self.moment


class Ageing:
    """Watches the two clocks, and says what is too old."""

    def __init__(self, steps: tuple[Step, ...], wall: int, now: float, next_id: int) -> None:
        """`wall` (us) and `now` (s) are the clocks' readings, casts from `next_id` on are still to come."""
        self.steps = steps
        self._read = (wall, now, next_id)

    def look(self, wall: int, now: float, next_id: int) -> bool:
        """Take the clocks' readings; True when the wall clock has stepped since the last ones."""
        last_wall, last_now, last_id = self._read
        self._read = (wall, now, next_id)
        expected = last_wall + round((now - last_now) * 1e6)
        if abs(wall - expected) < STEP_S * 1e6:
            return False
        self.steps = (*self.steps, Step(last_id, next_id, expected, wall))[-STEPS:]
        return True

    def limit(self, lifetime_s: float, wall: int) -> Limit | None:
        """What `lifetime_s` means at this moment (us); None when it is for ever."""
        return Limit(wall - round(lifetime_s * 1e6), self.steps) if lifetime_s else None


def written(steps: tuple[Step, ...]) -> str:
    """The steps as a text to keep."""
    return json.dumps(steps)


def read(text: str | None) -> tuple[Step, ...]:
    """The steps of a text that was kept; none where it is none of ours."""
    try:
        return tuple(Step(*map(int, step)) for step in json.loads(text or "[]"))
    except (ValueError, TypeError):
        return ()
