"""The words of a run: what is measured, how callers cast, and what a row is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Figures = dict[str, float]


@dataclass(frozen=True)
class Plan:
    disk: Path  # what peers keep lies below it
    casts: int  # of a timed stream
    waits: int  # of the waiting caller
    warm: int  # before the clock starts, in each run
    window: int  # unanswered at most
    grabs: int  # of the worker, under way on each of its connections


@dataclass(frozen=True)
class Load:
    """How callers cast: `share` of the plan's casts (slow peers get fewer), and in what way."""

    share: float = 1.0
    callers: int = 1
    window: int | None = None  # the plan's
    payload: int = 100

    def casts(self, plan: Plan) -> int:
        # large payloads: 300 MB are enough
        most = max(self.callers, 300_000_000 // self.payload)
        return min(most, max(100, self.callers, int(plan.casts * self.share)))


@dataclass(frozen=True)
class Contender:
    """One that is measured, and what its answer is worth."""

    measure: Callable[[Plan], Figures]
    worth: str
    slow: bool = False  # True for one that takes long to start

    def __call__(self, plan: Plan) -> Figures:
        return self.measure(plan)


@dataclass(frozen=True)
class Row:
    name: str
    says: str
    metrics: dict[str, str]  # name -> unit, and which way is better
    contenders: dict[str, Contender]
    full: bool = False  # True for one that only --full measures
