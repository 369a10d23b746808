"""An agent under the recorder, and the record it leaves.

Promises: the log holds each step of the agent in an order in which it can have happened (see recorder.c); where the
agent was started anew, what its files held at that moment stands in the log too, so that the model of the disk can be
compared with the real one, and what a SIGKILL kept from being recorded is made good.
Failure: a machine without a C compiler skips; a log that is cut inside of a record loses that one.
"""

import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.rig.agent import Agent, Options

SOURCE = Path(__file__).with_name("recorder.c")
_HEADER = struct.Struct("<IiiIQQ")
#: files that a power cut leaves nothing of, or that have nothing to lose
FLEETING = ("-shm", ".lock")


class Step(NamedTuple):
    """One record: its kind is the letter of recorder.c, or `R`: what a file (a name in `data`) held at a start.

    For `R`, `a` is the length of the name, which the content follows, and `result` 1 if the agent had ended by itself.
    """

    kind: str
    fd: int
    result: int
    a: int
    b: int
    data: bytes


def read_log(path: Path) -> list[Step]:
    """All whole records."""
    return list(_steps(path.read_bytes()))


def _steps(log: bytes) -> Iterator[Step]:
    at = 0
    while at + _HEADER.size <= len(log):
        kind, fd, result, length, a, b = _HEADER.unpack_from(log, at)
        at += _HEADER.size
        if at + length > len(log):
            return
        yield Step(chr(kind), fd, result, a, b, log[at : at + length])
        at += length


def build(directory: Path) -> Path:
    """Compile the recorder into a directory; skip where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc") or pytest.skip("there is no C compiler for the recorder")
    made = directory / "recorder.so"
    if not made.exists():
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", made, SOURCE, "-lpthread"],
            check=True,
        )
    return made


class RecordedAgent(Agent):
    """An agent whose every start is recorded into one log; as a mutant, if it is given the name of one."""

    def __init__(
        self, directory: Path, servers: Iterable[str], options: Options | None = None, mutant: str | None = None
    ) -> None:
        """Not started; its spool's directory is made, so that everything in it is recorded."""
        super().__init__(directory, servers, options)
        self.mutant = mutant or self.mutant
        self.log_of_steps = directory / "steps"
        self.eio = directory / "eio"
        self.recorder = build(directory)
        self.spool.parent.mkdir(mode=0o700, exist_ok=True)
        self.environment = {
            "LD_PRELOAD": str(self.recorder),
            "RELAY_RECORD_DIR": str(self.spool.parent),
            "RELAY_RECORD_LOG": str(self.log_of_steps),
            "RELAY_RECORD_EIO": str(self.eio),
        }

    def lay_out(self, files: Mapping[str, bytes]) -> None:
        """Put a spool's files there, before the first start."""
        for name, content in files.items():
            path = self.spool.with_name(name)
            path.write_bytes(content)
            path.chmod(0o600)

    def spawn(self) -> "subprocess.Popen[bytes]":
        """Start the program under the recorder and wait for nothing."""
        self.note_files()
        return super().spawn()

    def note_files(self) -> None:
        """Write into the log what the files hold; while no agent runs."""
        clean = self.process is not None and self.process.returncode == 0
        with self.log_of_steps.open("ab") as log:
            for path in sorted(self.spool.parent.iterdir()):
                if not path.name.endswith(FLEETING) and path.is_file():
                    name, content = path.name.encode(), path.read_bytes()
                    log.write(_HEADER.pack(ord("R"), -1, clean, len(name) + len(content), len(name), 0))
                    log.write(name + content)

    def fail_next_sync(self, die: bool, of: str = "log") -> None:
        """Have the next sync of the write-ahead log (or of the database) fail with EIO, and the agent die, or not."""
        made = self.eio.with_suffix(".new")
        made.write_text(f"{'kill' if die else 'fail'} {of}")
        made.rename(self.eio)

    def steps(self) -> list[Step]:
        """What was recorded so far; while no agent runs."""
        self.note_files()
        return read_log(self.log_of_steps)
