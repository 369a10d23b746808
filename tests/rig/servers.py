"""Real job servers as processes on free ports of loopback.

`CGearmand` is gearmand, `Geard` is gear's geard, `PerlGearmand` is Perl's Gearman::Server, whose program is called
gearmand too; all have the same face. `start` returns when the port accepts;
a server keeps its port over kill and restart. What a server knows of a function is read with the text command `status`.
Never does: leave a process behind after `close`; use a port that a connection may be given as its own.
Failure: a program that is not installed skips the test; a server that does not start raises with what it printed.
"""

import random
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest

from .packets import Stream
from .wait import until

HOST = "127.0.0.1"
QUIET_LOGGING = """\
[loggers]
keys = root
[handlers]
keys = null
[formatters]
keys =
[logger_root]
level = CRITICAL
handlers = null
[handler_null]
class = NullHandler
args = ()
"""


class FunctionStatus(NamedTuple):
    """One line of `status`: jobs there (those that run included), jobs that run, workers that can do it."""

    total: int
    running: int
    workers: int


def free_port() -> int:
    """A port nobody listens on, below those the kernel gives to outgoing connections.

    Among those, a client that tries again and again on loopback can be given the very port it calls, and then talks to
    itself and keeps the server from binding.
    """
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, max(first_outgoing, 11_000))
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


class JobServer:
    """What all servers have in common; a subclass says which program and how it is called."""

    program: ClassVar[str]
    #: whether a worker may grab with GRAB_JOB_UNIQ, and is then told the unique
    shows_uniques: ClassVar[bool] = True

    def __init__(self, directory: Path) -> None:
        """A server that is not started yet; directory takes what it prints."""
        self.directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.executable = self.find() or pytest.skip(f"{self.program} is not installed")

    def find(self) -> str | None:
        """Where the program is, or None."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """How the program is called."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        """As relay's configuration wants it."""
        return f"{HOST}:{self.port}"

    @property
    def output(self) -> Path:
        """The file that takes what it prints."""
        return self.directory / f"{self.program}-{self.port}.out"

    def start(self) -> None:
        """Start it on its port; returns when it accepts."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        until(self._accepts, lambda: f"{self.program} accepts on {self.address}: {self._printed()}")

    restart = start

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    close = kill

    def functions(self) -> dict[str, FunctionStatus]:
        """What `status` says now, by function."""
        with Stream((HOST, self.port)) as stream:
            stream.send(b"status\n")
            lines = stream.read_text()
        rows = [line.split("\t") for line in lines if line]
        return {name: FunctionStatus(*map(int, numbers)) for name, *numbers in rows}

    def status(self, function: bytes) -> FunctionStatus:
        """What `status` says of one function; zeros if it knows nothing of it."""
        return self.functions().get(function.decode(), FunctionStatus(0, 0, 0))

    def queued(self, function: bytes) -> int:
        """Jobs of the function that are there and do not run yet."""
        status = self.status(function)
        return status.total - status.running

    def _accepts(self) -> bool:
        assert self.process
        if self.process.poll() is not None:
            raise AssertionError(f"{self.program} ended with {self.process.returncode}: {self._printed()}")
        try:
            Stream((HOST, self.port)).close()
        except OSError:
            return False
        return True

    def _printed(self) -> str:
        return self.output.read_text(errors="replace")[-2000:]


class CGearmand(JobServer):
    """The C server."""

    program = "gearmand"

    def find(self) -> str | None:
        """Debian puts it where a plain user's PATH does not look, and Perl's where it does."""
        return shutil.which("gearmand", path="/usr/local/sbin:/usr/sbin")

    def command(self) -> list[str]:
        """In the foreground, without a log."""
        return [self.executable, f"--listen={HOST}", f"--port={self.port}", "--log-file=none"]


class Geard(JobServer):
    """The server of the Python library gear."""

    program = "geard"

    def find(self) -> str | None:
        """Beside this Python first: the tests install it."""
        return shutil.which("geard", path=str(Path(sys.executable).parent)) or shutil.which("geard")

    def command(self) -> list[str]:
        """In the foreground (-d), and quiet: by default it would log each packet."""
        logging = self.directory / "geard-logging.ini"
        logging.write_text(QUIET_LOGGING)
        # fmt: off
        return [self.executable, "-d", "-p", str(self.port), "--listen-address", HOST, "--log-config", str(logging),
                "--pidfile", str(self.directory / f"geard-{self.port}.pid")]
        # fmt: on


class PerlGearmand(JobServer):
    """The server of Perl: it shows no uniques, refuses LOW, and fails the jobs of a worker that dies."""

    program = "perl-gearmand"
    shows_uniques = False

    def find(self) -> str | None:
        """Debian's package gearman-server puts it beside the C tools, under the C server's name."""
        found = shutil.which("gearmand", path="/usr/bin:/usr/local/bin")
        return found if found and Path(found).read_bytes().startswith(b"#!") else None

    def command(self) -> list[str]:
        """In the foreground, without a log."""
        return [self.executable, f"--listen={HOST}", f"--port={self.port}"]


server_kinds: dict[str, type[JobServer]] = {"gearmand": CGearmand, "geard": Geard, "perl": PerlGearmand}
