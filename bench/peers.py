"""Starting and stopping what is measured: relay, Redis and gearmand, each fresh, each in a directory of its
own.

A peer is a context manager: entered it accepts, left it is gone and its directory too. What it writes lies
below the directory it is given (the disk under test); unix sockets lie in a short path below the system's
temporary directory, for their names may not be longer than 107 bytes. `Absent` is raised for a peer that is
not installed, `Broken` for one that does not start or does not tell what it should, with the end of its log.
"""

import contextlib
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_S = 20
STOP_S = 15
WORKER_S = 300
SBIN = "/usr/sbin:/usr/local/sbin"


class Absent(Exception):
    """A program that is not installed."""


class Broken(Exception):
    """A peer that is installed and does not do what it should."""


def program(name: str) -> str:
    """Beside this Python first (a virtual environment), then on PATH, then where daemons live."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    found = found or shutil.which(name, path=SBIN)
    if found is None:
        raise Absent(name)
    return found


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port of loopback that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives to outgoing connections; never the same twice.

    Among those, an agent that tries again and again could be given the very port it calls, and talk to itself.
    """
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, max(first_outgoing, 11_000))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port


def accepts(address: str | tuple[str, int]) -> bool:
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as sock:
        try:
            sock.connect(address)
        except OSError:
            return False
        return True


class Peer:
    """One program with a directory of its own; `address` is what the load generator connects to."""

    name: str
    #: what its good answer is worth when the power fails
    worth = ""
    start_s = START_S
    stop_s = STOP_S
    #: beside what this process has
    environment: Mapping[str, str] = {}

    def __init__(self, disk: Path) -> None:
        self.binary = program(self.name)
        self.disk = disk
        self.address = ""

    def command(self) -> list[str]:
        raise NotImplementedError

    def reached_at(self) -> str | tuple[str, int]:
        return self.address

    def __enter__(self) -> Self:
        self.dir = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=self.disk))
        self.run = Path(tempfile.mkdtemp(prefix="bench-"))
        self.log = self.dir / "log"
        command = self.command()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ, **self.environment))
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def _wait(self) -> None:
        end = time.monotonic() + self.start_s
        while not accepts(self.reached_at()):
            if self.process.poll() is not None or time.monotonic() > end:
                raise Broken(f"{self.name} does not accept:\n{self.end_of_log()}")
            time.sleep(0.02)

    def end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(self.stop_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.rmtree(self.dir, ignore_errors=True)


class Control(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Relay(Peer):
    """relay-agent with its defaults, but for where things lie; `upstream` is host:port."""

    name = "relay-agent"
    worth = "fsync before the answer"

    def __init__(self, disk: Path, upstream: str, more: str = "") -> None:
        """`more` is further configuration."""
        super().__init__(disk)
        self.cli = program("relay-cli")
        self.upstream = upstream
        self.more = more

    def command(self) -> list[str]:
        self.address = str(self.run / "relay.sock")
        self.conf = self.dir / "relay.conf"
        self.conf.write_text(
            f"[intake]\nsocket = {self.address}\n"
            f"[spool]\npath = {self.dir}/spool/spool.db\nmin_free = 0\n"
            f"[upstream]\nservers = {self.upstream}\n"
            f"[control]\nsocket = {self.run}/control.sock\n{self.more}"
        )
        return [self.binary, "--config-file", str(self.conf)]

    def asked_by_cli(self) -> None:
        """What an operator runs."""
        command = [self.cli, "--config-file", str(self.conf), "status", "-f", "json"]
        told = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        if told.returncode:
            raise Broken(f"relay-cli status exits {told.returncode}: {told.stderr[-1000:]}\n{self.end_of_log()}")

    def status(self) -> dict[str, Any]:
        """The same without a process, so that asking costs what is measured little."""
        conn = Control(f"{self.run}/control.sock")
        try:
            conn.request("GET", "/v1/status")
            status: dict[str, Any] = json.loads(conn.getresponse().read())
        except (OSError, HTTPException, ValueError) as error:
            raise Broken(f"relay does not tell its status: {error!r}\n{self.end_of_log()}") from error
        finally:
            conn.close()
        return status

    def kept(self) -> int:
        """Casts accepted and not yet done."""
        status = self.status()
        count: int = status["accepted"] - status["completed"]
        return count

    def wait_for(self, key: str, count: int, timeout_s: float = 60) -> None:
        """Until the agent's own status counts exactly `count`."""
        end = time.monotonic() + timeout_s
        while (now := self.status())[key] != count:
            if time.monotonic() > end or now[key] > count:
                raise Broken(f"relay's status has {key} = {now[key]}, not {count}: {now}\n{self.end_of_log()}")
            time.sleep(0.2)


class Redis(Peer):
    """redis-server with an append-only file synced before each answer, and nothing else that writes."""

    name = "redis-server"
    worth = "fsync before the answer (appendfsync always)"

    def command(self) -> list[str]:
        self.address = str(self.run / "redis.sock")
        options = ["--port", "0", "--unixsocket", self.address, "--dir", str(self.dir), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
        return [self.binary, *options]

    def kept(self) -> int:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(self.address)
            sock.sendall(b"XLEN casts\r\n")
            answer = sock.recv(100)
        if not answer.startswith(b":"):
            raise Broken(f"redis answers {answer!r} to XLEN")
        return int(answer[1:])


class Gearmand(Peer):
    """A bare gearmand: in memory, no queue of its own on disk; on any free port, or one that was chosen before."""

    name = "gearmand"
    worth = "memory"

    def __init__(self, disk: Path, port: int = 0) -> None:
        super().__init__(disk)
        self.port = port

    def command(self) -> list[str]:
        self.port = self.port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        return [self.binary, "--listen=127.0.0.1", f"--port={self.port}", "--log-file=none"]

    def reached_at(self) -> tuple[str, int]:
        return "127.0.0.1", self.port


class Worker:
    """bench.worker as a process; `executed(n)` waits until it has executed n jobs since its start: how many, when."""

    def __init__(self, address: str, grabs: int) -> None:
        command = [sys.executable, "-m", "bench.worker", address, str(grabs)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        self._answer()
        return self

    def _answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], WORKER_S)[0]:
            raise Broken(f"the worker has not executed as many within {WORKER_S} s")
        line = self.process.stdout.readline()
        if not line:
            raise Broken(f"the worker has ended, exit status {self.process.wait(STOP_S)}")
        told: dict[str, float] = json.loads(line)
        return told

    def executed(self, count: int) -> dict[str, float]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{count}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Broken(f"the worker has ended, exit status {self.process.wait(STOP_S)}") from None
        return self._answer()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it was to be asked still lies in the buffer
            self.process.stdin.close()
        self.process.wait(STOP_S)
