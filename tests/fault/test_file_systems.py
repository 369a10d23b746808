"""The power of a real file system is cut under load: nothing that was acknowledged is lost."""

import itertools
import os
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
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

from .powercut.disk import PAGE
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
        self._over = threading.Event()
        self.start()

    def end(self) -> None:
        """Once the agent is gone: wait for nothing more; returns when the thread has ended."""
        self._over.set()
        self.join()

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
                    while self._held_back(len(self.acknowledged)) and not self._over.wait(0.01):
                        pass
        except OSError:
            return


class Cuts:
    """An agent whose spool lies on a disk of its own, the power of which is cut under load.

    What counts is what a caller had read before the cut began: in the moment of the cut the agent still runs, which it
    would not without power, and a sync that is under way then may return without an error though nothing of it stays
    (`test_what_a_plain_program_synced_is_there` sees that without an agent). Such losses are counted apart.
    """

    def __init__(self, rig: Rig, disk: LoopDisk, agent: Agent, rng: Random) -> None:
        """The agent is not started yet."""
        self.rig, self.disk, self.agent, self.rng = rig, disk, agent, rng
        self.spool = disk.path / "spool" / "spool.db"
        agent.configure({"spool": {"path": self.spool}})
        self.owed: dict[bytes, bytes] = {}
        """The handle of each payload that was acknowledged in time and is not known to be executed."""
        self.acknowledged = self.too_late = self.too_late_and_gone = self.last_id = 0
        self._executions = 0
        """How many of the ledger's are known here."""
        self._payloads = self._endless()

    def _endless(self) -> Iterator[bytes]:
        for number in itertools.count():
            yield b"cast-%d-" % number + self.rng.randbytes(self.rng.randrange(3_000))

    def _far_ahead(self, acknowledged: int) -> bool:
        # by what is there, not by how often it was executed: repeats work nothing off
        return len(self.owed) + acknowledged - len(self.rig.ledger.executions) + self._executions > AHEAD

    def cut_often(self, number: int) -> None:
        """So many cuts of the same spool."""
        for done in range(number):
            self.cut()
            if done % 50 == 49:
                print(f"{done + 1} cuts, {self.acknowledged} acknowledged, 0 lost", flush=True)

    def cut(self) -> None:
        """Start the agent, cut in the middle of load, and look at what is left."""
        self.agent.start()
        caller = Caller(self.agent.socket, self._payloads, self._far_ahead)
        until(lambda: caller.acknowledged, lambda: f"casts are answered\n{self.agent.log_tail()}")
        time.sleep(self.rng.random() * 0.2)  # anywhere in the load
        in_time = len(caller.acknowledged)
        self.disk.cut(self.rng.choice((WITH_JOURNAL, WITHOUT_JOURNAL, WITHOUT_JOURNAL)))
        self.agent.kill()
        caller.end()
        self.owed.update(caller.acknowledged[:in_time])
        self.acknowledged += in_time
        self.disk.back()
        self.look(caller.acknowledged[in_time:])

    def look(self, too_late: Sequence[tuple[bytes, bytes]]) -> None:
        """Open what the cut left: all that was acknowledged is there or was executed, and no id comes back."""
        found = inspect(self.spool)
        assert not found.complaints
        self.last_id = max([self.last_id, *(id_of(handle) for handle in self.owed.values())])
        assert found.next_id > self.last_id
        executed = self.forget_executed()
        held = set(found.payloads.values())
        lost = self.owed.keys() - held
        assert not lost, f"{len(lost)} casts lost: {[payload[:20] for payload in lost][:10]}"
        self.too_late += len(too_late)
        self.too_late_and_gone += sum(payload not in held | executed for payload, _ in too_late)

    def forget_executed(self) -> set[bytes]:
        """Nothing is owed for what was executed since the last look; that."""
        news = self.rig.ledger.executions[self._executions :]
        self._executions += len(news)
        for execution in news:
            self.owed.pop(execution.payload, None)
        return {execution.payload for execution in news}


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
    number = count("FILE_SYSTEM_CUTS", 2, 500)
    cuts.cut_often(number)
    cuts.agent.start()
    cuts.agent.await_empty()
    cuts.forget_executed()
    executed = Counter(served.ledger.done(FUNCTION))
    for what, value in {
        "cuts": number,
        "acknowledged": cuts.acknowledged,
        "lost": len(cuts.owed),
        "repeated": executed.total() - len(executed),
        "acknowledged_while_it_was_cut": cuts.too_late,
        "of_these_gone": cuts.too_late_and_gone,
    }.items():
        print(f"{what}: {value}")
        record_property(what, value)
    assert not cuts.owed


def test_an_agent_that_never_syncs_is_caught(served: Rig, disk: LoopDisk) -> None:
    """The cuts are real: an agent with synchronous=OFF loses what it acknowledged."""
    directory = served.directory / "mutant"
    directory.mkdir(mode=0o700)
    agent = RecordedAgent(directory, [served.servers[0].address], mutant="synchronous_off")
    served.agents.append(agent)
    cuts = Cuts(served, disk, agent, seeded())
    with pytest.raises(AssertionError, match=r"casts lost|complaints"):
        cuts.cut_often(10)


class Syncing(threading.Thread):
    """A plain program: numbered pages, one after the other into one file, each synced before the next."""

    def __init__(self, path: Path) -> None:
        """Start; it ends at the first error."""
        super().__init__(name="syncing", daemon=True)
        self.synced = 0
        """How many pages a sync has returned for."""
        self._path = path
        self.start()

    def run(self) -> None:
        """Write, sync, count."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                while True:
                    os.write(descriptor, struct.pack("<Q", self.synced + 1) * (PAGE // 8))
                    os.fdatasync(descriptor)
                    self.synced += 1
            finally:
                os.close(descriptor)
        except OSError:
            return


def test_what_a_plain_program_synced_is_there(disk: LoopDisk, record_property: Report) -> None:
    """The control: what was synced before the cut began is there; of what was synced while it went on some is gone.

    So what the agent acknowledged before is all that may be held against it.
    """
    rng, late, gone = seeded(), 0, 0
    number = count("PLAIN_CUTS", 5, 2_000)
    for _ in range(number):
        program = Syncing(disk.path / "pages")
        until(lambda program=program: program.synced > 1, "pages are synced", pause=0.001)  # type: ignore[misc]
        time.sleep(rng.random() * 0.02)
        in_time = program.synced
        disk.cut(rng.choice((WITH_JOURNAL, WITHOUT_JOURNAL, WITHOUT_JOURNAL)))
        program.join()
        disk.back()
        content = (disk.path / "pages").read_bytes()
        there = [struct.pack("<Q", n + 1) * (PAGE // 8) == content[n * PAGE :][:PAGE] for n in range(program.synced)]
        assert all(there[:in_time])
        late += program.synced - in_time
        gone += there.count(False)
    for what, value in {"cuts": number, "synced_while_it_was_cut": late, "of_these_gone": gone}.items():
        print(f"{what}: {value}")
        record_property(what, value)
