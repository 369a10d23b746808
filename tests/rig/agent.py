"""relay-agent as a process in a directory of its own, and relay-cli to ask it.

Promises: `start` returns once the intake's socket accepts; an `Agent` can be killed and started again on its spool.
Options are a dict of groups, laid over defaults that make the tests quick.
Never does: reach into the agent; everything goes through its programs, sockets, exit codes and log.
Failure: an agent that does not come up raises with the end of its log.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .packets import Stream
from .wait import until

Options = Mapping[str, Mapping[str, object]]

MUTANTS = "tests.fault.powercut.mutants"
LONGEST_SOCKET_PATH = 107
MAIN = "import sys; from relay.agent.main import main; sys.exit(main())"
STATES_COUNTED = ("ready", "deferred", "held", "in_flight", "dead", "completed", "purged")
STATES_TO_DO = ("ready", "deferred", "held", "in_flight")


def program(name: str) -> str:
    """Where a program of relay is: beside this Python first, else on PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is neither beside {sys.executable} nor on PATH"
    return found


class Agent:
    """One agent, its configuration and its spool."""

    def __init__(self, directory: Path, servers: Iterable[str], options: Options | None = None) -> None:
        """Write the configuration; start nothing. servers are host:port."""
        self.directory = directory
        self.socket = str(directory / "relay.sock")
        self.control = str(directory / "control.sock")
        self.spool = directory / "spool" / "spool.db"
        self.conf = directory / "relay.conf"
        self.log_file = directory / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None
        #: code that runs before the program does: for a constant that takes too long to wait for, or a moment to meet
        self.prelude = ""
        self.took_to_accept = 0.0
        #: the name of what is wrong with it on purpose (tests.fault.powercut.mutants): RELAY_MUTANT shows whether a
        #: test that passes would have failed
        self.mutant = os.environ.get("RELAY_MUTANT")
        #: what stands before the program on its command line
        self.prefix: list[str] = []
        #: variables of its environment beside the test's own
        self.environment: dict[str, str] = {}
        assert len(self.control) <= LONGEST_SOCKET_PATH, f"too long for a unix socket: {self.control}"
        self._options: dict[str, dict[str, object]] = {
            "intake": {"socket": self.socket},
            "spool": {"path": self.spool, "min_free": 0},
            "forwarder": {"backoff_initial": 0.2, "backoff_max": 2},
            "upstream": {"servers": ", ".join(servers), "heartbeat_interval": 1, "heartbeat_timeout": 3},
            "control": {"socket": self.control},
        }
        self.configure(options or {})

    def configure(self, options: Options) -> None:
        """Lay options over those in force and write the file; the agent reads it at its next start."""
        for group, values in options.items():
            self._options.setdefault(group, {}).update(values)
        lines: list[str] = []
        for group, values in self._options.items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in values.items()), ""]
        self.conf.write_text("\n".join(lines))

    def command(self) -> list[str]:
        """What is run, its options apart."""
        if self.mutant:
            return [sys.executable, "-m", MUTANTS, self.mutant]
        return [sys.executable, "-c", f"{self.prelude}\n{MAIN}"] if self.prelude else [program("relay-agent")]

    def spawn(self) -> "subprocess.Popen[bytes]":
        """Start the program and wait for nothing."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *self.command(), "--config-file", str(self.conf)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"PYTHONFAULTHANDLER": "1"} | self.environment,
            )
        return self.process

    def start(self) -> None:
        """Start the program; returns when its socket accepts."""
        began = time.monotonic()
        self.spawn()
        until(self.accepts, lambda: f"relay-agent accepts on its socket; its log ends:\n{self.log_tail()}")
        self.took_to_accept = time.monotonic() - began

    restart = start

    def accepts(self) -> bool:
        """Whether the socket accepts; AssertionError if the process is gone."""
        assert self.process
        code = self.process.poll()
        assert code is None, f"relay-agent ended with {code}; its log ends:\n{self.log_tail()}"
        try:
            Stream(self.socket).close()
        except OSError:
            return False
        return True

    def wait(self, seconds: float = 60.0) -> int:
        """Its exit code, once it has ended."""
        assert self.process
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"relay-agent does not end; its log ends:\n{self.log_tail()}") from None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process
        self.process.send_signal(number)

    def term(self, seconds: float = 60.0) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        if self.process:
            self.process.kill()
            self.process.wait()

    close = kill

    def connect(self) -> Stream:
        """A connection to the intake, for tests that look at single answers."""
        return Stream(self.socket)

    def cli(
        self, *arguments: str, stdin: bytes | None = None, seconds: float = 120.0
    ) -> "subprocess.CompletedProcess[str]":
        """Run relay-cli to its end; without stdin it has none, and no terminal."""
        finished = subprocess.run(
            [program("relay-cli"), "--config-file", str(self.conf), *arguments],
            stdin=subprocess.DEVNULL if stdin is None else None,
            input=stdin,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        return subprocess.CompletedProcess(
            finished.args, finished.returncode, finished.stdout.decode(), finished.stderr.decode()
        )

    def ask(self, *arguments: str) -> Any:
        """What relay-cli answers as JSON; AssertionError unless it exits 0."""
        finished = self.cli(*arguments, "-f", "json")
        assert finished.returncode == 0, f"relay-cli {' '.join(arguments)}: {finished.returncode}, {finished.stderr}"
        return json.loads(finished.stdout)

    def status(self) -> dict[str, Any]:
        """relay-cli status; its accounting is checked at each look: accepted is the sum of what became of it."""
        status: dict[str, Any] = self.ask("status")
        counted = {state: status[state] for state in STATES_COUNTED}
        assert status["accepted"] == sum(counted.values()), f"accepted {status['accepted']} is not the sum of {counted}"
        return status

    def backlog(self, *filters: str) -> list[dict[str, Any]]:
        """relay-cli backlog."""
        casts: list[dict[str, Any]] = self.ask("backlog", *filters)
        return casts

    def drained(self) -> bool:
        """Whether nothing is left to do: no cast ready, deferred, held or in flight."""
        status = self.status()
        return not any(status[state] for state in STATES_TO_DO)

    def await_empty(self, seconds: float = 120.0) -> None:
        """Returns when nothing is left to do."""
        until(
            self.drained,
            lambda: f"the spool is empty: {self.status()}\n{self.log_tail()}",
            seconds,
            pause=0.2,
        )

    @property
    def log(self) -> str:
        """All it has logged and printed."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def log_tail(self) -> str:
        """The end of its log."""
        return self.log[-4000:]
