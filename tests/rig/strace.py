"""Faults put into the agent's system calls by strace: errors, delays and kills, at the n-th call or at all of them.

`attached` does it to an agent that runs, and takes the faults away again; `started_with` to one from its first call on.
Promises: only calls on the spool's files are touched, unless asked; every thread is traced before `attached` lets the
test go on.
Failure: AssertionError where strace cannot attach.
"""

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from .agent import Agent
from .wait import until

WRITES = ("write", "pwrite64", "writev", "pwritev")
SYNCS = ("fsync", "fdatasync")
#: what the names of the spool's files end with
ENDS = ("", "-wal", "-shm", "-journal", ".lock", ".ballast", ".quarantine-partial")


def files_of(spool: Path) -> list[Path]:
    """The spool's directory and the files that an agent may have in it."""
    return [spool.parent, *(Path(f"{spool}{end}") for end in ENDS)]


def command(files: Sequence[Path], calls: Sequence[str], fault: str, output: Path) -> list[str]:
    """strace with one fault in calls on files; the calls it sees go to output, a line each."""
    return [
        *("strace", "-f", "-qq", "-o", str(output)),
        *(part for file in files for part in ("-P", str(file))),
        *("-e", f"trace={','.join(calls)}", "-e", f"inject={','.join(calls)}:{fault}"),
    ]


@contextlib.contextmanager
def started_with(agent: Agent, calls: Sequence[str], fault: str) -> Iterator[Path]:
    """Within, the agent is started under strace, as a child of nobody but the test; where its calls are listed."""
    output = agent.directory / "strace.out"
    agent.prefix = [*command(files_of(agent.spool), calls, fault, output), "-D"]
    try:
        yield output
    finally:
        agent.prefix = []


@contextlib.contextmanager
def attached(agent: Agent, calls: Sequence[str], fault: str, *, anywhere: bool = False) -> Iterator[Path]:
    """Within, the running agent's calls on its spool (or on anything) have the fault; where those seen are listed."""
    assert agent.process
    pid, output = agent.process.pid, agent.directory / "strace.out"
    tracing = [*command(() if anywhere else files_of(agent.spool), calls, fault, output), "-p", str(pid)]
    with subprocess.Popen(tracing, stdin=subprocess.DEVNULL) as strace:
        try:
            until(lambda: traced(pid), "strace is attached")
            yield output
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait()


def traced(pid: int) -> bool:
    """Whether each thread has a tracer; one that has ended needs none, though nobody has waited for it yet.

    A fault may kill the agent before it was seen to be traced.
    """
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with contextlib.suppress(OSError):
            text = status.read_text()
            if "TracerPid:\t0\n" in text and not any(f"State:\t{ended}" in text for ended in "ZX"):
                return False
    return True
