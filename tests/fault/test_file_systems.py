"""The power of a real file system is cut under load: nothing that was acknowledged is lost."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

import pytest

from tests.rig.agent import Agent
from tests.rig.callers import id_of
from tests.rig.counts import count, seeded
from tests.rig.disks import SIZES_MIB, WITH_JOURNAL, WITHOUT_JOURNAL, LoopDisk
from tests.rig.packets import JOB_CREATED, Stream, submission
from tests.rig.rig import Rig
from tests.rig.servers import CGearmand
from tests.rig.wait import until

from .powercut.inspection import inspect
from .powercut.recording import RecordedAgent

FUNCTION = b"work"
AHEAD = 2_000
BATCH = 25
Report = Callable[[str, object], None]


class Caller(threading.Thread):
    """Casts over one connection until it breaks, and notes each acknowledgement the moment it is read."""

    def __init__(self, socket_path: str, payloads: Iterator[bytes], held_back: Callable[[int], bool]) -> None:
        """Start; it pauses while `held_back`, told how many are acknowledged, says so."""
        super().__init__(name="caller", daemon=True)
        self.acknowledged: list[tuple[bytes, bytes]] = []
        """(payload, handle)"""
        self._socket_path, self._payloads, self._held_back = socket_path, payloads, held_back
        self.start()

    def run(self) -> None:
        """Some casts, their answers, and so on."""
        try:
            with Stream(self._socket_path) as stream:
                while True:
                    batch = list(itertools.islice(self._payloads, BATCH))
                    stream.send(b"".join(submission(FUNCTION, payload) for payload in batch))
                    for payload in batch:
                        answer = stream.read()
                        if answer.type != JOB_CREATED:
                            return
                        self.acknowledged.append((payload, answer.body))
                    while self._held_back(len(self.acknowledged)):
                        time.sleep(0.01)
        except OSError:
            return


class Cuts:
    """An agent whose spool lies on a disk of its own, the power of which is cut under load.

    What counts is what a caller had read before the cut began: in the moment of the cut the agent still runs, which it
    would not without power, and a sync that is under way then may return without an error though nothing of it stays.
    """

    def __init__(self, rig: Rig, disk: LoopDisk, agent: Agent, rng: Random) -> None:
        """The agent is not started yet."""
        self.rig, self.disk, self.agent, self.rng = rig, disk, agent, rng
        self.spool = disk.path / "spool" / "spool.db"
        agent.configure({"spool": {"path": self.spool}})
        self.owed: dict[bytes, bytes] = {}
        """The handle of each payload that was acknowledged in time."""
        self.too_late = 0
        self._payloads = self._endless()

    def _endless(self) -> Iterator[bytes]:
        for number in itertools.count():
            yield b"cast-%d-" % number + self.rng.randbytes(self.rng.randrange(3_000))

    def _far_ahead(self, acknowledged: int) -> bool:
        return len(self.owed) + acknowledged - len(self.rig.ledger.executions) > AHEAD

    def cut_often(self, number: int) -> None:
        """So many cuts of the same spool."""
        for done in range(number):
            self.cut()
            if done % 50 == 49:
                print(f"{done + 1} cuts, {len(self.owed)} acknowledged, 0 lost")

    def cut(self) -> None:
        """Start the agent, cut in the middle of load, and look at what is left."""
        self.agent.start()
        caller = Caller(self.agent.socket, self._payloads, self._far_ahead)
        until(lambda: caller.acknowledged, lambda: f"casts are answered\n{self.agent.log_tail()}")
        time.sleep(self.rng.random() * 0.2)  # anywhere in the load
        in_time = len(caller.acknowledged)
        self.disk.cut(self.rng.choice((WITH_JOURNAL, WITHOUT_JOURNAL, WITHOUT_JOURNAL)))
        self.agent.kill()
        caller.join()
        self.owed.update(caller.acknowledged[:in_time])
        self.too_late += len(caller.acknowledged) - in_time
        self.disk.back()
        self.look()

    def look(self) -> None:
        """Open what the cut left: all that was acknowledged is there or was executed, and no id comes back."""
        found = inspect(self.spool)
        assert not found.complaints
        held = set(found.payloads.values())
        lost = self.owed.keys() - held - set(self.rig.ledger.done(FUNCTION))
        assert not lost, f"{len(lost)} casts lost: {[payload[:20] for payload in lost][:10]}"
        assert found.next_id > max(map(id_of, self.owed.values()), default=0)


@pytest.fixture(params=sorted(SIZES_MIB))
def disk(request: pytest.FixtureRequest, rig: Rig) -> Iterator[LoopDisk]:
    """A file system of each kind in turn; the agents are gone before it is unmounted."""
    with LoopDisk(request.param) as made:
        yield made
        for agent in rig.agents:
            agent.kill()


@pytest.fixture
def served(rig: Rig) -> Rig:
    """A rig with a server and workers."""
    rig.serve("gearmand" if CGearmand.find(None) else "geard")  # type: ignore[arg-type]
    rig.work(FUNCTION, each=2, delay=0.0005)
    return rig


def test_the_power_of_a_file_system_is_cut(served: Rig, disk: LoopDisk, record_property: Report) -> None:
    """Cut under load, mounted anew, opened and read, again and again: what was acknowledged is there, or was done."""
    cuts = Cuts(served, disk, served.unstarted_agent(), seeded())
    number = count("FILE_SYSTEM_CUTS", 4, 500)
    cuts.cut_often(number)
    cuts.agent.start()
    cuts.agent.await_empty()
    acknowledged, executed = cuts.owed.keys(), Counter(served.ledger.done(FUNCTION))
    for what, value in {
        "cuts": number,
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged - executed.keys()),
        "repeated": executed.total() - len(executed),
        "acknowledged_while_it_was_cut": cuts.too_late,
    }.items():
        print(f"{what}: {value}")
        record_property(what, value)
    assert acknowledged <= executed.keys()


def test_an_agent_that_never_syncs_is_caught(served: Rig, disk: LoopDisk) -> None:
    """The cuts are real: an agent with synchronous=OFF loses what it acknowledged."""
    directory = served.directory / "mutant"
    directory.mkdir(mode=0o700)
    agent = RecordedAgent(directory, [served.servers[0].address], mutant="synchronous_off")
    served.agents.append(agent)
    cuts = Cuts(served, disk, agent, seeded())
    with pytest.raises(AssertionError, match=r"casts lost|complaints"):
        cuts.cut_often(10)
