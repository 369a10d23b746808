"""All faults at random from a printed seed, then quiet: nothing that was acknowledged is lost, and nothing grows.

In the first half the agent is killed, stopped, cut from its disk and suspended like everything else; in the second it
lives through all that goes on around it, so that one process's memory, descriptors and log can be watched.
RELAY_SOAK_MINUTES says for how long; under RELAY_MUTANT it must fail.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

import pytest

from relay.spool.quarantine import kept
from tests.rig.counts import count, seeded
from tests.rig.disks import LoopDisk
from tests.rig.rig import Rig
from tests.rig.wait import until

from .faults import ENDING, LASTING, Trouble
from .gauges import MIB, Gauges, Life, Sample
from .stage import Stage

SHORT_S = 8.0
PACE = 8.0
"""How much denser faults come in the short form."""
TOLD_EVERY_S = 60.0
DRAIN_S = 60.0
MOST_MEMORY = 128 * MIB
MOST_LOG = 8 * MIB
"""Twice what the log is cut back to."""
SPARE_DESCRIPTORS = 8
MOST_DRIFT_MIB = 4.0
"""Of an hour; the agent's memory settles within minutes."""

Report = Callable[[str, object], None]


def minutes() -> int:
    """For how long; 0 is the short form, of some seconds."""
    return count("SOAK_MINUTES", 0, 60)


@pytest.fixture
def stage(rig: Rig) -> Iterator[Stage]:
    """Load is on it; the agent is gone before its disk is."""
    seed, pace = seeded().randrange(1 << 32), 1 if minutes() else PACE
    with LoopDisk("ext4") as disk:
        made = Stage(rig, disk, seed, pace)
        yield made
        made.close()


class Soak:
    """The course of it."""

    def __init__(self, stage: Stage) -> None:
        """Everything runs; no fault yet."""
        self.stage = stage
        self.counts: Counter[str] = Counter()
        self.gauges = Gauges(stage.agent, stage.agent.spool.with_name("spool.db-wal"))
        self._began = time.monotonic()

    def run(self, seconds: float, ending: bool) -> None:
        """Faults for so long; those that end the agent too, or not."""
        kinds = {**LASTING, **({"ending": ENDING} if ending else {})}
        chance = self.stage.rng
        troubles = [Trouble(kind, faults, self.stage, Random(chance.random())) for kind, faults in kinds.items()]
        end, told = time.monotonic() + seconds, time.monotonic()
        while time.monotonic() < end and not any(trouble.failure for trouble in troubles):
            time.sleep(0.2)
            if time.monotonic() - told > TOLD_EVERY_S:
                told = time.monotonic()
                self.tell()
        for trouble in troubles:
            trouble.stop()
            self.counts += trouble.counts
        failures = [trouble.failure for trouble in troubles if trouble.failure]
        assert not failures, f"{failures}\n{self.stage.agent.log_tail()}"
        self.stage.check()

    def tell(self) -> None:
        """How it stands, on one line."""
        tally, sample = self.stage.tally, self.gauges.look()
        what = (
            f"{sample.memory / MIB:.1f} MiB, {sample.descriptors} descriptors, log {sample.log}" if sample else "down"
        )
        since = time.monotonic() - self._began
        print(f"{since:.0f} s: {tally.acknowledged} acknowledged, {tally.finished} executed; {what}", flush=True)

    def quiet(self) -> float:
        """No caller, no fault; returns after how many seconds all is done."""
        for caller in self.stage.callers:
            caller.stop()
        self.stage.check()
        began = time.monotonic()
        self.stage.heal()
        self.stage.agent.await_empty(DRAIN_S)
        return time.monotonic() - began


def resources(life: Life, end: Sample) -> dict[str, object]:
    """What the life that lasted longest took."""
    return {
        "watched_seconds": round(life.samples[-1].at - life.samples[0].at),
        "memory_mib_worst": round(max(s.memory for s in life.samples) / MIB, 1),
        "memory_mib_end": round(end.memory / MIB, 1),
        "memory_mib_an_hour": round(life.drift(), 1),
        "descriptors_worst": max(s.descriptors for s in life.samples),
        "descriptors_end": end.descriptors,
        "log_mib_worst": round(max(s.log for s in life.samples) / MIB, 1),
        "log_mib_end": round(end.log / MIB, 1),
    }


def test_all_faults_at_random_and_then_quiet(stage: Stage, record_property: Report) -> None:
    """For as long as told: 0 lost, all drained, nothing refused was executed; memory, descriptors and log are flat."""
    seconds = minutes() * 60 or SHORT_S
    until(lambda: stage.tally.finished, "casts are executed")
    soak = Soak(stage)
    first = until(soak.gauges.look, "the agent is measured")
    soak.run(seconds / 2, ending=True)
    soak.run(seconds / 2, ending=False)
    drained_s = soak.quiet()
    end = until(soak.gauges.look, "the agent is measured")
    soak.gauges.stop()
    accounts, taken = stage.tally.accounts(), resources(soak.gauges.lives[-1], end)
    figures: dict[str, object] = {
        **accounts,
        "drain_seconds": round(drained_s, 1),
        **taken,
        "refused": stage.tally.refusals,
    }
    figures["starts_refused_by_a_failing_disk"] = stage.refused_starts
    for what, value in {**figures, "faults": dict(soak.counts)}.items():
        print(f"{what}: {value}")
        record_property(what, value)
    assert accounts["acknowledged"] > 0
    assert not accounts["lost"], f"lost: {stage.tally.some_lost()}"
    assert not accounts["executed_though_refused"]
    assert stage.agent.status()["dead"] == 0
    assert kept(stage.agent.spool) == [], "a spool was set aside that nothing had damaged"
    assert max(s.memory for life in soak.gauges.lives for s in life.samples) < MOST_MEMORY
    assert end.descriptors <= first.descriptors + SPARE_DESCRIPTORS
    assert end.log <= MOST_LOG
    assert minutes() < 30 or soak.gauges.lives[-1].drift() < MOST_DRIFT_MIB
