"""Where the operator's door has it from: the spool, and what others know.  A value; never does I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from relay.clock import Clock
from relay.facts import Facts, Problem
from relay.spool.spool import Spool


@dataclass(frozen=True, slots=True)
class Sources:
    """What is asked for each answer: `problems` there are now, and requests of callers `rejected`, by their code."""

    spool: Spool
    facts: Callable[[], Facts]
    clock: Clock
    version: str
    problems: Callable[[], Sequence[Problem]]
    rejected: Callable[[], Mapping[str, int]]
