"""What a soak stands on: servers behind cables, workers that fail some work, a disk, a clock, and the agent.

Promises: an agent that ends and was not told to is a failure of the soak, told with its exit code and log.
Failure: where no file system can be mounted the soak is skipped.
"""

import threading
from random import Random

from tests.fault.powercut.recording import RecordedAgent
from tests.rig import clock
from tests.rig.cable import Cable
from tests.rig.clock import LIBRARIES, Clock
from tests.rig.disks import WITH_JOURNAL, WITHOUT_JOURNAL, LoopDisk
from tests.rig.rig import Rig
from tests.rig.servers import CGearmand
from tests.rig.small_disk import fill
from tests.rig.wait import until
from tests.rig.workers import COMPLETE, FAIL, VANISH, Answer

from .callers import FUNCTIONS, Caller
from .tally import Tally, number_of

DELAY_S = 0.0005
CANNOT_OPEN = 73
"""What an agent ends with whose spool cannot be opened: a service manager starts it again."""
MOST_STARTS = 20
VERB_S = 180.0
"""Until when an agent that is ended now and then, and suspended, must have done what an operator wants."""
PER_SECOND = (300.0, 100.0, 100.0)
"""What each caller casts, about."""


class UnrecordedAgent(RecordedAgent):
    """Under the recorder for the syncs that it can fail; it records nothing."""

    def note_files(self) -> None:
        """There is no log."""


def act(payload: bytes, this: int) -> Answer:
    """Some casts fail at first, and some workers die of them."""
    if this == 1 and number_of(payload) % 53 == 0:
        return FAIL
    return VANISH if this == 1 and number_of(payload) % 211 == 0 else COMPLETE


class Stage:
    """All of it; faults are put into it, and `heal` takes them away."""

    def __init__(self, rig: Rig, disk: LoopDisk, seed: int, pace: float) -> None:
        """Start it; `pace` divides how long faults last, and the pauses between them."""
        self.rng, self.pace = Random(seed), pace
        self.tally = Tally()
        self.rig, self.disk, rig.ledger = rig, disk, self.tally
        self.servers = rig.serve(*["gearmand", "gearmand"] if CGearmand.find(None) else [], "geard")  # type: ignore[arg-type]
        rig.work(*FUNCTIONS, act=act, delay=DELAY_S, each=2)
        self.cables = [Cable(server) for server in self.servers]
        self.agent = self._agent()
        self.clock: Clock | None = None
        if LIBRARIES:
            self.clock = Clock(rig.directory / "clock")
            preloaded = f"{self.agent.recorder}:{LIBRARIES[0]}"
            self.agent.environment |= self.clock.environment | {"LD_PRELOAD": preloaded}
        self._filler = disk.path / "filler"
        self.use_of_disk = threading.Lock()
        """Held while it is filled, read or cut."""
        self.life = threading.RLock()
        """Held by whoever ends the agent until it is there again."""
        self.refused_starts = 0
        self.agent.start()
        self.callers = [Caller(self.agent, self.tally, Random(f"{seed} {n}"), n) for n in PER_SECOND]

    def _agent(self) -> UnrecordedAgent:
        directory = self.rig.directory / "agent"
        directory.mkdir(mode=0o700)
        agent = UnrecordedAgent(directory, [cable.address for cable in self.cables])
        agent.spool = self.disk.path / "spool" / "spool.db"
        agent.configure({"spool": {"path": agent.spool, "min_free": "4 MiB"}, "agent": {"stop_timeout": 2}})
        agent.environment |= {"RELAY_RECORD_LOG": "/dev/null", "RELAY_RECORD_DIR": str(agent.spool.parent)}
        self.rig.agents.append(agent)
        return agent

    # -- the agent's life ------------------------------------------------------------------------------------------

    def ends(self) -> None:
        """The agent has been ended; start it again, and again where the disk fails in the middle of a start."""
        for _ in range(MOST_STARTS):
            process = self.agent.process
            assert process
            process.wait()
            clock.forget(process.pid)
            try:
                self.agent.start()
            except AssertionError:
                process = self.agent.process
                if process.poll() != CANNOT_OPEN:
                    raise
                self.refused_starts += 1
            else:
                return
        raise AssertionError(f"the agent does not start any more\n{self.agent.log_tail()}")

    def cut(self, rng: Random) -> None:
        """The power of the disk is gone in the middle of it all, and the agent with it; then both are back."""
        with self.use_of_disk, self.life:
            self.tally.being_cut = True
            self.disk.cut(rng.choice((WITH_JOURNAL, WITHOUT_JOURNAL)))
            self.agent.kill()
            self.disk.back()
            self._filler.unlink(missing_ok=True)
            self.tally.being_cut = False
            self.ends()

    def check(self) -> None:
        """Nothing has failed that was to go on."""
        for caller in self.callers:
            assert caller.failure is None, f"a caller failed: {caller.failure!r}"
        with self.life:
            assert self.agent.process
            code = self.agent.process.poll()
        assert code is None, f"the agent ended with {code}; its log ends:\n{self.agent.log_tail()}"

    # -- what is taken away and given back ----------------------------------------------------------------------------

    def fill(self) -> None:
        """Not a page is free."""
        fill(self._filler)

    def empty(self) -> None:
        """There is room again."""
        self._filler.unlink(missing_ok=True)

    def heal(self) -> None:
        """Every fault is over: servers and agent run, there is room, the clock is right, nothing is held or paused."""
        for server in self.servers:
            assert server.process
            if server.process.poll() is None:
                server.cont()
            else:
                server.restart()
        self.empty()
        self.agent.eio.unlink(missing_ok=True)
        if self.clock:
            self.clock.set("+0")
        self.insist("resume")
        self.insist("release", "--function", "*", "--yes")
        for cable in self.cables:
            self.insist("upstreams", "resume", cable.address)

    def insist(self, *verb: str) -> None:
        """Have a verb of relay-cli's succeed, as soon as there is an agent that answers."""
        until(
            lambda: self.agent.cli(*verb).returncode == 0,
            lambda: f"{' '.join(verb)}: {self.agent.cli(*verb).stderr}\n{self.agent.log_tail()}",
            VERB_S,
            pause=0.2,
        )

    def close(self) -> None:
        """Callers and cables end; the rest is the rig's."""
        for caller in self.callers:
            caller.stop()
        for cable in self.cables:
            cable.close()
        if self.agent.process:
            self.agent.kill()
            clock.forget(self.agent.process.pid)
