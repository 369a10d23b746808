"""What an agent takes: memory, descriptors, the size of its write-ahead log; sampled while it lives.

Promises: a life that ends begins a new row; figures of one life are never mixed with another's.
"""

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.rig.agent import Agent

from .threads import Stoppable

EVERY_S = 1.0
PAGE_BYTES = 4096
MIB = 2**20


class Sample(NamedTuple):
    """At a moment (monotonic seconds): resident bytes, descriptors, bytes of the write-ahead log."""

    at: float
    memory: int
    descriptors: int
    log: int


@dataclass
class Life:
    """One process."""

    pid: int
    samples: list[Sample] = field(default_factory=list)

    def drift(self) -> float:
        """MiB by which the memory grew in an hour: the slope of a line through the samples of its second half."""
        samples = self.samples[len(self.samples) // 2 :]
        if len(samples) < 3:
            return 0.0
        mean_at = sum(s.at for s in samples) / len(samples)
        mean = sum(s.memory for s in samples) / len(samples)
        spread = sum((s.at - mean_at) ** 2 for s in samples)
        return sum((s.at - mean_at) * (s.memory - mean) for s in samples) / spread * 3600 / MIB


class Gauges(Stoppable):
    """Samples an agent until it is stopped."""

    def __init__(self, agent: Agent, log: Path) -> None:
        """Start."""
        super().__init__("gauges")
        self.lives: list[Life] = []
        self._agent, self._log = agent, log
        self.start()

    def run(self) -> None:
        """One each EVERY_S."""
        while not self.stopping.wait(EVERY_S):
            self.look()

    def look(self) -> Sample | None:
        """A sample, now; None if no agent runs."""
        process = self._agent.process
        if process is None:
            return None
        proc = Path(f"/proc/{process.pid}")
        with contextlib.suppress(OSError, IndexError):
            memory = int((proc / "statm").read_text().split()[1]) * PAGE_BYTES
            if not memory:
                return None
            descriptors = len(list((proc / "fd").iterdir()))
            sample = Sample(time.monotonic(), memory, descriptors, self._log.stat().st_size)
            if not self.lives or self.lives[-1].pid != process.pid:
                self.lives.append(Life(process.pid))
            self.lives[-1].samples.append(sample)
            return sample
        return None
