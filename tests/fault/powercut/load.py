"""Real work for an agent under the recorder: callers in bursts, workers that finish most of it and fail some.

What is cast is drawn by chance: sizes, priorities, uniques (some used twice), casts for later. No payload is cast
twice.
"""

import itertools
import time
import uuid
from collections.abc import Iterator
from random import Random

from tests.rig import packets
from tests.rig.callers import cast_all
from tests.rig.packets import Stream, request
from tests.rig.rig import Rig
from tests.rig.servers import CGearmand
from tests.rig.wait import until
from tests.rig.workers import COMPLETE, FAIL, Answer

from .recording import RecordedAgent

FUNCTION = b"work"
FAILS_ONCE = b"!"


def act(payload: bytes, this: int) -> Answer:
    """What a worker answers: payloads that end in an exclamation mark fail the first time."""
    return FAIL if payload.endswith(FAILS_ONCE) and this == 1 else COMPLETE


class Stage:
    """A server with two workers, and an agent under the recorder."""

    def __init__(self, rig: Rig, rng: Random, mutant: str | None = None) -> None:
        """Nothing of the agent runs yet."""
        self.rig, self.rng = rig, rng
        self._numbers = itertools.count()
        kind = "gearmand" if CGearmand.find(None) else "geard"  # type: ignore[arg-type]
        (self.server,) = rig.serve(kind)
        rig.work(FUNCTION, b"other", act=act, delay=0.0005, each=2)
        self.agent = self.recorded(mutant)

    def recorded(self, mutant: str | None = None) -> RecordedAgent:
        """Another agent, in a directory of its own."""
        directory = self.rig.directory / f"agent{len(self.rig.agents)}"
        directory.mkdir(mode=0o700)
        agent = RecordedAgent(directory, [self.server.address], mutant=mutant)
        self.rig.agents.append(agent)
        return agent

    def _payloads(self, count: int, longest: int) -> Iterator[bytes]:
        for number in itertools.islice(self._numbers, count):
            size = int(longest ** self.rng.random())
            yield b"%d-" % number + self.rng.randbytes(size) + (FAILS_ONCE if self.rng.random() < 0.05 else b".")

    def burst(self, longest: int = 3000) -> None:
        """Some casts over one connection; returns when they are answered, or the agent is gone."""
        rng = self.rng
        payloads = list(self._payloads(rng.choice((1, 1, 2, 5, 20, 60)), longest))
        uniques = None
        if rng.random() < 0.3:
            made = [uuid.UUID(int=rng.getrandbits(128)).hex.encode() for _ in payloads]
            uniques = [rng.choice(made) for _ in payloads]
        priority = rng.choice(("high", "normal", "normal", "low"))
        function = FUNCTION if rng.random() < 0.8 else b"other"
        cast_all(self.agent.socket, function, payloads, rng.randint(1, len(payloads)), uniques, priority)

    def flood(self) -> None:
        """Casts enough for the write-ahead log to be checkpointed and begun again from its start."""
        for _ in range(4):
            payloads = [b"%d." % next(self._numbers) + self.rng.randbytes(60_000) for _ in range(30)]
            cast_all(self.agent.socket, FUNCTION, payloads, 10)

    def schedule(self) -> None:
        """A cast for a second or two from now."""
        (payload,) = self._payloads(1, 100)
        moment = b"%d" % (time.time() + self.rng.randint(1, 2))
        with Stream(self.agent.socket) as stream:
            answer = stream.ask(request(packets.SUBMIT_JOB_EPOCH, FUNCTION, b"", moment, payload))
            assert answer.type == packets.JOB_CREATED

    def work(self, bursts: int, longest: int = 3000) -> None:
        """So many bursts, one after the other."""
        for _ in range(bursts):
            self.burst(longest)
            if self.rng.random() < 0.1:
                self.schedule()

    def restart(self, kill: bool) -> None:
        """End the agent and start it again."""
        if kill:
            self.agent.kill()
        else:
            assert self.agent.term() == 0
        self.agent.restart()

    def fail_a_sync(self, die: bool) -> None:
        """The next sync of the write-ahead log fails; the agent dies of it and is started again, or goes on."""
        self.agent.fail_next_sync(die)
        while self.agent.eio.exists():
            self.burst()
        if die:
            process = self.agent.process
            assert process is not None
            process.wait()
            self.agent.restart()
        else:
            until(lambda: self.agent.status()["accepting"], "the agent accepts again")
