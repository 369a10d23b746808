"""One test's whole stage: servers, workers, callers and agents in one directory, all gone when it ends.

Promises: at its end nothing that it started runs, and its directory is removed; an agent whose log holds a traceback
fails the test, unless the test set `tracebacks_expected`. The ends of the logs are printed, for a test that failed.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

from .agent import Agent, Options
from .callers import Casting, Record
from .servers import JobServer, server_kinds
from .workers import Act, Ledger, Worker, done

LONGEST_BASE = 40
TRACEBACK = "Traceback (most recent call last)"


class Rig:
    """What a test stands on."""

    def __init__(self) -> None:
        """An empty stage; unix sockets want a short path."""
        base = tempfile.gettempdir() if len(tempfile.gettempdir()) < LONGEST_BASE else "/tmp"
        self.directory = Path(tempfile.mkdtemp(prefix="relay-", dir=base))
        self.servers: list[JobServer] = []
        self.workers: list[Worker] = []
        self.agents: list[Agent] = []
        self.castings: list[Casting] = []
        self.ledger = Ledger()
        self.tracebacks_expected = False

    def serve(self, *kinds: str, count: int = 1) -> list[JobServer]:
        """Start count job servers of each of these kinds more."""
        more = [server_kinds[kind](self.directory) for kind in kinds for _ in range(count)]
        self.servers += more
        for server in more:
            server.start()
        return more

    def work(
        self,
        *functions: bytes,
        act: Act = done,
        delay: float = 0.0,
        servers: Iterable[JobServer] | None = None,
        each: int = 1,
    ) -> list[Worker]:
        """Start workers for the functions, each so many at every server (or at those given)."""
        at = self.servers if servers is None else servers
        more = [Worker(s, functions, self.ledger, act, delay) for s in at for _ in range(each)]
        self.workers += more
        for worker in more:
            worker.start()
        return more

    def agent(
        self, options: Options | None = None, servers: Sequence[JobServer] | None = None, prelude: str = ""
    ) -> Agent:
        """Start an agent that forwards to the servers, in a directory of its own; see Agent.prelude."""
        agent = self.unstarted_agent(options, servers)
        agent.prelude = prelude
        agent.start()
        return agent

    def unstarted_agent(self, options: Options | None = None, servers: Sequence[JobServer] | None = None) -> Agent:
        """An agent that is configured only."""
        directory = self.directory / f"agent{len(self.agents)}"
        directory.mkdir(mode=0o700)
        at = self.servers if servers is None else servers
        agent = Agent(directory, [server.address for server in at], options)
        self.agents.append(agent)
        return agent

    def cast_in_background(
        self,
        agent: Agent,
        function: bytes,
        payloads: Iterable[bytes],
        window: int = 200,
        stubborn: bool = False,
        held_back: Callable[[Record], bool] | None = None,
    ) -> Casting:
        """A caller in a thread."""
        casting = Casting(agent.socket, function, payloads, window, stubborn, held_back)
        self.castings.append(casting)
        return casting

    def close(self) -> None:
        """End everything, remove the directory, and look at what the agents logged."""
        logs: list[str] = []
        try:
            for agent in self.agents:
                agent.close()
            for server in self.servers:
                server.close()
            for casting in self.castings:
                casting.stop()
            for worker in self.workers:
                worker.stop()
            logs = [agent.log for agent in self.agents]
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
        for number, log in enumerate(logs):
            print(f"--- log of agent {number}, its end ---\n{log[-4000:]}")
        bad = [log[max(0, log.find(TRACEBACK) - 500) :][:4000] for log in logs if TRACEBACK in log]
        assert self.tracebacks_expected or not bad, f"the agent logged a traceback:\n{bad[0]}"

    def __enter__(self) -> Self:
        """The rig."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
