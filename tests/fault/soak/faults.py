"""What goes wrong in a soak: faults by who has them, each drawn at random by a thread of its own, so that they overlap.

A fault takes the stage and a source of chance, lasts as long as it likes, and is over when it returns.
Promises: each thread draws from the soak's seed alone; what it did is counted by name.
Failure: a fault that raises ends the soak, and is told.
"""

import contextlib
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random

from tests.rig.packets import Stream, submission

from .stage import Stage
from .threads import Stoppable

Fault = Callable[[Stage, Random], None]
LONGEST_S = 6.0
"""Twice the heartbeat timeout of the rig's agents: some servers that hang are left, and some are not."""


def _pause(stage: Stage, rng: Random, longest: float = LONGEST_S) -> None:
    time.sleep(longest * rng.random() ** 2 / stage.pace)


# -- the agent -------------------------------------------------------------------------------------------------------


def agent_killed(stage: Stage, _rng: Random) -> None:
    """SIGKILL, and started again."""
    with stage.life:
        stage.agent.kill()
        stage.ends()


def agent_stopped(stage: Stage, _rng: Random) -> None:
    """SIGTERM, and started again."""
    with stage.life:
        code = stage.agent.term()
        assert code == 0, f"SIGTERM ended the agent with {code}"
        stage.ends()


def agent_upgraded(stage: Stage, rng: Random) -> None:
    """Gone for a while: its callers are refused by the kernel."""
    with stage.life:
        stage.agent.kill()
        _pause(stage, rng)
        stage.ends()


def power_cut(stage: Stage, rng: Random) -> None:
    """The disk's power is cut."""
    stage.cut(rng)


def died_of_a_sync(stage: Stage, _rng: Random) -> None:
    """A sync of the log fails and the agent dies there; what it wrote is in the page cache."""
    with stage.life:
        stage.agent.fail_next_sync(die=True)
        process = stage.agent.process
        assert process
        with contextlib.suppress(Exception):
            process.wait(5)
        stage.agent.eio.unlink(missing_ok=True)
        if process.poll() is not None:
            stage.ends()


def agent_suspended(stage: Stage, rng: Random) -> None:
    """SIGSTOP for a while."""
    with stage.life:
        stage.agent.signal(signal.SIGSTOP)
        _pause(stage, rng)
        stage.agent.signal(signal.SIGCONT)


def syncs_failed(stage: Stage, rng: Random) -> None:
    """Some syncs of the log fail, one after the other, and the agent goes on."""
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        stage.agent.fail_next_sync(die=False)
        for _ in range(50):
            if not stage.agent.eio.exists():
                break
            time.sleep(0.02)
    stage.agent.eio.unlink(missing_ok=True)


def clock_set(stage: Stage, rng: Random) -> None:
    """The clock jumps, or is right again."""
    if stage.clock:
        stage.clock.set(rng.choice(("+0", "-3600", "+3600", "+86400", "+315360000")))


def reloaded(stage: Stage, rng: Random) -> None:
    """SIGHUP, with other settings."""
    rotation, window = rng.choice(("sticky", "round_robin")), rng.choice((10, 200, 1000))
    with stage.life:
        stage.agent.configure({"forwarder": {"rotation": rotation, "window": window}})
        stage.agent.signal(signal.SIGHUP)


# -- servers and what lies between -----------------------------------------------------------------------------------


def server_killed(stage: Stage, rng: Random) -> None:
    """SIGKILL of one, which comes back after a while."""
    server = rng.choice(stage.servers)
    server.kill()
    _pause(stage, rng)
    server.restart()


def servers_killed(stage: Stage, rng: Random) -> None:
    """All of them."""
    for server in stage.servers:
        server.kill()
    _pause(stage, rng)
    for server in stage.servers:
        server.restart()


def server_hung(stage: Stage, rng: Random) -> None:
    """SIGSTOP of one for a while."""
    server = rng.choice(stage.servers)
    server.stop()
    _pause(stage, rng)
    server.cont()


def connections_reset(stage: Stage, rng: Random) -> None:
    """All that one server has."""
    rng.choice(stage.cables).cut()


# -- the disk --------------------------------------------------------------------------------------------------------


def disk_filled(stage: Stage, rng: Random) -> None:
    """To the last page, for a while."""
    with stage.use_of_disk:
        stage.fill()
        _pause(stage, rng)
        stage.empty()


def spool_read(stage: Stage, rng: Random) -> None:
    """Somebody reads the spool in one long transaction."""
    with stage.use_of_disk, contextlib.closing(sqlite3.connect(f"file:{stage.agent.spool}?mode=ro", uri=True)) as conn:
        conn.execute("BEGIN")
        with contextlib.suppress(sqlite3.Error):
            conn.execute("SELECT count(*) FROM casts").fetchone()
        _pause(stage, rng, 2.0)


# -- the operator and odd callers ------------------------------------------------------------------------------------


def drained(stage: Stage, rng: Random) -> None:
    """A drain is begun, and ended after a while."""
    stage.agent.cli("drain", "--no-wait")
    _pause(stage, rng, 3.0)
    stage.insist("resume")


def held(stage: Stage, rng: Random) -> None:
    """A function is held, what is to come too, and released."""
    function = rng.choice(("work", "other", "th*"))
    stage.agent.cli("hold", "--function", function, "--new", "--yes")
    _pause(stage, rng, 3.0)
    stage.insist("release", "--function", function, "--yes")


def upstream_paused(stage: Stage, rng: Random) -> None:
    """One upstream is paused for a while."""
    address = rng.choice(stage.cables).address
    stage.agent.cli("upstreams", "pause", address)
    _pause(stage, rng)
    stage.insist("upstreams", "resume", address)


def crowd(stage: Stage, rng: Random) -> None:
    """Callers that send half a packet, or bytes that are none, and stay."""
    streams: list[Stream] = []
    with contextlib.suppress(OSError):
        for _ in range(rng.randrange(50)):
            streams.append(Stream(stage.agent.socket))
            half = submission(b"work", b"0.half")[: rng.randrange(20)]
            streams[-1].socket.send(rng.choice((half, rng.randbytes(40), b"status\n")))
    _pause(stage, rng, 2.0)
    for stream in streams:
        stream.close()


ENDING: tuple[Fault, ...] = (agent_killed, agent_killed, agent_stopped, agent_upgraded, power_cut, died_of_a_sync)
"""Those that end the agent."""
LASTING: Mapping[str, tuple[Fault, ...]] = {
    "agent": (agent_suspended, syncs_failed, clock_set, reloaded),
    "servers": (server_killed, server_killed, servers_killed, server_hung, connections_reset, connections_reset),
    "disk": (disk_filled, spool_read),
    "outside": (drained, held, upstream_paused, crowd),
}
"""Those that it lives through, by who has them."""
MEAN_PAUSES_S = {"ending": 20.0, "agent": 10.0, "servers": 10.0, "disk": 15.0, "outside": 15.0}
"""Between two of a kind, in the long form."""


class Trouble(Stoppable):
    """Faults of one kind, one after the other, at random."""

    def __init__(self, kind: str, faults: tuple[Fault, ...], stage: Stage, rng: Random) -> None:
        """Start."""
        super().__init__(f"trouble-{kind}")
        self.counts: Counter[str] = Counter()
        self.failure: str | None = None
        self._faults, self._stage, self._rng = faults, stage, rng
        self._mean_s = MEAN_PAUSES_S[kind] / stage.pace
        self.start()

    def run(self) -> None:
        """Until stopped."""
        while not self.stopping.wait(self._rng.expovariate(1 / self._mean_s)):
            fault = self._rng.choice(self._faults)
            self.counts[fault.__name__] += 1
            try:
                fault(self._stage, self._rng)
            except BaseException as error:
                self.failure = f"{fault.__name__}: {error!r}"
                return
