"""The power is cut at each step that the agent takes on its disk: nothing that was acknowledged is lost."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from relay.spool import wal
from tests.rig.counts import count, seeded
from tests.rig.rig import Rig

from .custody import Custody
from .disk import PAGE
from .load import Stage
from .mutants import MUTANTS
from .recording import build
from .survey import Survey, quick_sums, some_state

IN_MEMORY = "/dev/shm"
Report = Callable[[str, object], None]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What an opening logs of each state would be kept in memory for the report."""
    caplog.set_level(logging.CRITICAL + 1, "relay")


@pytest.fixture
def rng() -> Random:
    """Chance, with its seed printed."""
    return seeded()


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where states are laid out: in memory, where there is such a place."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None) as made:
        quick, own = quick_sums(build(Path(made))), wal._sum
        for order in "<>":
            data = os.urandom(PAGE)
            assert quick(data, 1, 2**32 - 1, order) == own(data, 1, 2**32 - 1, order)
        monkeypatch.setattr(wal, "_sum", quick)
        yield Path(made)


def record_life(stage: Stage, bursts: int) -> None:
    """A first start, a SIGKILL, a stop, a sync that fails and is survived, two that are died of, and a stop.

    The second of them is the first of a log: what it does not write there is no second copy of.
    """
    stage.agent.start()
    stage.work(bursts)
    stage.restart(kill=True)
    stage.work(bursts)
    stage.restart(kill=False)
    stage.work(bursts)
    stage.fail_a_sync(die=False)
    stage.work(bursts)
    stage.fail_a_sync(die=True)
    stage.work(bursts)
    stage.restart(kill=False)
    stage.fail_a_sync(die=True)
    stage.work(bursts)
    assert stage.agent.term() == 0


def test_the_power_is_cut_at_any_step(rng: Random, directory: Path, tmp_path: Path, record_property: Report) -> None:
    """Through starts, load, retirements, restarts, failing syncs, and cut again after a cut: 0 lost in N states."""
    wanted = count("POWER_CUTS", 1_000, 300_000)
    survey = Survey(directory, rng, keep=tmp_path)
    each = min(wanted, 20_000)
    while survey.states < wanted:
        with Rig() as rig:
            stage = Stage(rig, rng)
            record_life(stage, 4)
            steps = stage.agent.steps()
            survey.walk(steps, {}, Custody(), each)
            files, custody = some_state(steps, rng)
            stage.agent = stage.recorded()
            stage.agent.lay_out(files)
            stage.agent.start()
            stage.work(10)
            assert stage.agent.term() == 0
            survey.walk(stage.agent.steps(), files, custody, each // 2)
        survey.report(record_property)
        assert not survey.bad, "\n".join(survey.bad)
        assert not survey.unopened, "\n".join(survey.unopened)


def test_the_power_is_cut_around_a_checkpoint(
    rng: Random, directory: Path, tmp_path: Path, record_property: Report
) -> None:
    """While the log is written into the database, and begun again over old frames: 0 lost.

    Under load and in a start, and where the database's sync fails in the middle of it.
    """
    survey = Survey(directory, rng, keep=tmp_path)
    with Rig() as rig:
        stage = Stage(rig, rng)
        stage.agent.start()
        stage.flood()
        stage.agent.fail_next_sync(die=False, of="database")
        stage.flood()
        assert not stage.agent.eio.exists(), "no checkpoint was begun"
        stage.work(4)
        stage.agent.kill()
        lived = len(stage.agent.steps())
        stage.agent.fail_next_sync(die=True, of="database")
        assert stage.agent.spawn().wait() < 0, "the start made no checkpoint"
        stage.agent.start()
        stage.work(2)
        stage.agent.kill()
        steps = stage.agent.steps()
    wal = {step.fd for step in steps if step.kind == "o" and step.data.endswith(b"-wal")}
    starts = [n for n, step in enumerate(steps[:lived]) if step.kind == "w" and step.fd in wal and step.a == 0]
    assert len(starts) > 1, "the write-ahead log was never begun again"
    survey.walk(steps, {}, Custody(), count("CHECKPOINT_CUTS", 200, 10_000))
    survey.report(record_property)
    assert not survey.bad, "\n".join(survey.bad)


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_mutant_is_caught(mutant: str, rng: Random, directory: Path) -> None:
    """An agent that is wrong in one thing loses casts in some state: the machine sees what it is there to see."""
    survey = Survey(directory, rng, stop_at_first=True)
    with Rig() as rig:
        stage = Stage(rig, rng, mutant)
        stage.agent.start()
        stage.work(4)
        if mutant == "no_rewrite":
            # each time the log is begun anew, so that what is lost of it is the only copy of its pages
            for _ in range(3):
                stage.restart(kill=False)
                stage.fail_a_sync(die=True)
        if mutant == "no_truncate":
            stage.fail_a_sync(die=True)
            stage.work(4)
        stage.agent.kill()
        survey.walk(stage.agent.steps(), {}, Custody(), 2_000)
    print(f"after {survey.states} states: {survey.bad}")
    assert survey.bad
