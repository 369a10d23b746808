"""The words of a run: what is measured, how callers cast, and what a row is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Figures = dict[str, float]

RATE = {"rate": "casts/s, more is better"}
WAITS = {
    "p50_us": "p50 us, less is better",
    "p99_us": "p99 us, less is better",
    "p999_us": "p99.9 us, less is better",
}


@dataclass(frozen=True)
class Plan:
    disk: Path  # what peers keep lies below it
    casts: int  # of a timed stream, at most
    seconds: float  # that a timed stream takes, at most
    warm: int  # casts before the clock starts, at most, in each run
    window: int  # unanswered at most
    grabs: int  # of the worker, under way on each of its connections
    backlog: int  # casts that wait, where a row is about many
    long_s: float  # what goes on for long: payloads of 1 MiB, doing nothing


@dataclass(frozen=True)
class Load:
    """How callers cast."""

    callers: int = 1
    window: int | None = None  # the plan's
    payload: int = 100


@dataclass(frozen=True)
class Contender:
    """One that is measured, and what its answer is worth."""

    measure: Callable[[Plan], Figures]
    worth: str
    quick: bool = True  # False: --quick leaves it out, for it takes long to start, or is much like another
    full: bool = False  # True for one that only --full measures
    rounds: int | None = None  # it is measured in so many rounds at most

    def __call__(self, plan: Plan) -> Figures:
        return self.measure(plan)


@dataclass(frozen=True)
class Row:
    name: str
    says: str
    metrics: dict[str, str]  # name -> unit, and which way is better
    contenders: dict[str, Contender]
    full: bool = False  # the same for all its contenders
    quick: bool = True
    rounds: int | None = None

    def times(self, who: str) -> float:
        """How often a contender is measured at most."""
        return min(self.rounds or float("inf"), self.contenders[who].rounds or float("inf"))
