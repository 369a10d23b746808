"""relay in a minute: casts, a job server that dies and comes back, and nothing lost.

Run it with `make demo`, or `.venv/bin/python demo/demo.py`. It starts relay-agent, a Gearman job server and a worker
(both from the library gear, each a process of its own), casts documents to be hashed through the agent's unix socket,
kills the job server in the middle of the work, casts on, brings the server back, drains, and compares what was executed
with what was acknowledged.
Promises: exit 0 only if every cast was executed, and with the right result. Everything is on loopback and in a
temporary directory; when it ends, by itself, by Ctrl-C or by a failure, its processes and the directory are gone.
Failure: one sentence that says what did not happen, the end of the agent's log, exit 1.
"""

import hashlib
import json
import logging
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
FUNCTION = "sha256"
BATCH = 1000
PATIENCE_S = 40

CONFIGURATION = """\
[intake]
socket = {directory}/relay.sock
[spool]
path = {directory}/spool/spool.db
min_free = 0
[upstream]
servers = {server}
[forwarder]
backoff_initial = 0.2
backoff_max = 1
[control]
socket = {directory}/control.sock
"""


class Disappointed(Exception):
    """Something that this demonstration promises did not happen."""


# ---- The two other processes. Their standard input is a pipe from the demo: when it ends, so do they. ----


def end_with_parent() -> None:
    """Watch standard input, and end when nobody holds its other end."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def run_upstream(port: str) -> None:
    """A Gearman job server that keeps its queue in memory, as they all do."""
    import gear

    gear.Server(int(port), host=HOST)
    signal.pause()


def run_worker(port: str, results: str) -> None:
    """A worker: hashes documents and writes the results down; gear finds the server again by itself."""
    import gear

    class PromptWorker(gear.Worker):  # type: ignore[misc]  # gear has no types
        """Sends each packet at once; without that an answer and the next request wait 40 ms for each other."""

        def _onConnect(self, conn: Any) -> None:  # noqa: N802 gear's name, and its only place for this
            conn.conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            super()._onConnect(conn)

    worker = PromptWorker("demo-worker")
    worker.addServer(HOST, int(port))
    worker.registerFunction(FUNCTION)
    with Path(results).open("a", buffering=1) as out:
        while True:
            try:
                job = worker.getJob()
                title = job.arguments.split(b"\n", 1)[0].decode()
                out.write(f"{title} {hashlib.sha256(job.arguments).hexdigest()}\n")
                job.sendWorkComplete()
            except Exception:  # noqa: BLE001 the server died, in whatever way gear says it; relay will ask again
                time.sleep(0.1)


# ---- A caller: Gearman packets on a unix socket. Any Gearman client library does this for you. ----

SUBMIT_JOB_BG, JOB_CREATED = 18, 8


def submission(document: bytes) -> bytes:
    """The packet of one background job: the function, no unique, the payload."""
    body = FUNCTION.encode() + b"\0\0" + document
    return struct.pack(">4sII", b"\0REQ", SUBMIT_JOB_BG, len(body)) + body


def cast_all(socket_path: str, documents: list[bytes]) -> float:
    """Cast the documents, 100 in a breath; returns the seconds until all were acknowledged, and so on disk."""
    began = time.monotonic()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(PATIENCE_S)
        caller.connect(socket_path)
        with caller.makefile("rb") as answers:
            for first in range(0, len(documents), 100):
                breath = documents[first : first + 100]
                caller.sendall(b"".join(submission(document) for document in breath))
                for _ in breath:
                    header = answers.read(12)
                    if len(header) < 12:
                        raise Disappointed("the agent hung up on its caller")
                    _, answer, length = struct.unpack(">4sII", header)
                    text = answers.read(length)
                    if answer != JOB_CREATED:
                        raise Disappointed(f"a cast was refused: {text!r}")
    return time.monotonic() - began


def write_documents(first: int) -> list[bytes]:
    """Some documents, each with its title in the first line."""
    return [b"document-%d\n" % number + b"All work and no loss. " * 40 for number in range(first, first + BATCH)]


# ---- The stage. ----


def program(name: str) -> str:
    """Where a program of relay is: beside this Python first, else on PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if not found:
        raise Disappointed(f"{name} is not installed; make venv installs it")
    return found


def await_that(condition: Callable[[], bool], what: str) -> None:
    """Wait until it is so."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise Disappointed(f"waited {PATIENCE_S} s in vain: {what}")
        time.sleep(0.02)


def answers_at(family: int, address: str | tuple[str, int]) -> bool:
    """Whether somebody accepts there."""
    with socket.socket(family) as probe:
        try:
            probe.connect(address)
        except OSError:
            return False
        return True


class Stage:
    """The processes and the directory of one performance."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self.directory = Path(tempfile.mkdtemp(prefix="relay-demo-", dir="/tmp"))  # a unix socket wants a short path
        self.socket_path = str(self.directory / "relay.sock")
        self.conf = self.directory / "relay.conf"
        self.log = self.directory / "agent.log"
        self.results = self.directory / "results"
        self.results.touch()
        self.port = self.free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @staticmethod
    def free_port() -> int:
        """A port nobody listens on, and below those that outgoing connections are given."""
        while True:
            port = random.randrange(10_000, 30_000)
            with socket.socket() as probe:
                try:
                    probe.bind((HOST, port))
                except OSError:
                    continue
                return port

    def start(self, name: str, *command: str) -> None:
        """Start a process; a Ctrl-C at the terminal is for the demo alone, which then ends it."""
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )

    def start_upstream(self) -> None:
        """The job server, accepting when this returns."""
        self.start("upstream", sys.executable, __file__, "upstream", str(self.port))
        await_that(lambda: answers_at(socket.AF_INET, (HOST, self.port)), "the job server accepts")

    def start_worker(self) -> None:
        """The worker; it connects when it can."""
        self.start("worker", sys.executable, __file__, "worker", str(self.port), str(self.results))

    def start_agent(self) -> None:
        """relay-agent, accepting when this returns."""
        self.conf.write_text(CONFIGURATION.format(directory=self.directory, server=f"{HOST}:{self.port}"))
        self.start("agent", program("relay-agent"), "--config-file", str(self.conf))
        agent = self.processes["agent"]
        await_that(
            lambda: agent.poll() is not None or answers_at(socket.AF_UNIX, self.socket_path), "the agent accepts"
        )
        if agent.poll() is not None:
            raise Disappointed(f"relay-agent ended with {agent.returncode}")

    def kill(self, name: str) -> None:
        """SIGKILL: no goodbye, and nothing saved."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()
        if process.stdin:
            process.stdin.close()

    def status(self) -> dict[str, Any]:
        """What `relay-cli status -f json` says."""
        asked = [program("relay-cli"), "--config-file", str(self.conf), "status", "-f", "json"]
        answer: dict[str, Any] = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
        return answer

    def drain(self) -> None:
        """`relay-cli drain`: it ends with 0 once nothing is left, and names what is in the way if its time is up."""
        asked = [program("relay-cli"), "--config-file", str(self.conf), "drain", "--timeout", str(PATIENCE_S)]
        drained = subprocess.run(asked, capture_output=True, text=True, check=False)
        if drained.returncode:
            raise Disappointed(f"relay-cli drain ended with {drained.returncode}: {drained.stdout}{drained.stderr}")

    def executed(self) -> list[str]:
        """A line for each document that the worker has hashed."""
        return self.results.read_text().splitlines()

    def close(self) -> None:
        """End what still runs, and remove the directory."""
        for name in list(self.processes):
            self.kill(name)
        shutil.rmtree(self.directory, ignore_errors=True)


# ---- The play. ----


def backlog_of(status: dict[str, Any]) -> int:
    """Casts that are not done."""
    backlog: int = status["ready"] + status["deferred"] + status["in_flight"]
    return backlog


def say(text: str = "") -> None:
    """A line, at once, also into a pipe."""
    print(text, flush=True)


def perform(stage: Stage) -> None:
    """All of it; raises Disappointed when something is not as promised."""
    say("relay, seen from outside: all of it on this machine, in a directory that goes away at the end.\n")
    say("1. All is well")
    stage.start_upstream()
    stage.start_worker()
    stage.start_agent()
    say(f"   A Gearman job server on port {stage.port}, a worker that hashes documents, and relay-agent.")
    documents = write_documents(0)
    took = cast_all(stage.socket_path, documents)
    say(f"   {BATCH:,} documents cast through its unix socket: each one acknowledged, so on disk, after {took:.2f} s.")
    await_that(lambda: len(stage.executed()) >= BATCH, "the worker hashes the first documents")
    say(f"   The worker has hashed all {BATCH:,}.\n")

    say("2. The job server dies")
    more = write_documents(len(documents))
    cast_all(stage.socket_path, more)
    documents += more
    await_that(lambda: len(stage.executed()) > BATCH, "the worker hashes more documents")
    stage.kill("upstream")
    say("   Killed with SIGKILL, in the middle of the next 1,000. All that it had in its memory is gone.")
    say("   Callers need not know: relay goes on accepting, and keeps everything.\n")
    say("      cast so far    waiting on disk (relay-cli status)")
    backlogs = []
    for _ in range(4):
        backlogs.append(backlog_of(stage.status()))
        say(f"   {len(documents):14,}    {backlogs[-1]:15,}  {'#' * (backlogs[-1] // 200)}")
        more = write_documents(len(documents))
        cast_all(stage.socket_path, more)
        documents += more
    backlogs.append(backlog_of(stage.status()))
    say(f"   {len(documents):14,}    {backlogs[-1]:15,}  {'#' * (backlogs[-1] // 200)}\n")
    if backlogs != sorted(set(backlogs)):
        raise Disappointed(f"the backlog did not grow while the job server was away: {backlogs}")

    say("3. The job server comes back, with nothing in it")
    began = time.monotonic()
    stage.start_upstream()
    stage.drain()
    took = time.monotonic() - began
    say(f"   relay-cli drain: {took:.1f} s later the {backlogs[-1]:,} casts that waited are executed.\n")
    judge(stage, documents)


def judge(stage: Stage, documents: list[bytes]) -> None:
    """Compare what was executed with what was acknowledged."""
    expected = Counter(f"document-{n} {hashlib.sha256(text).hexdigest()}" for n, text in enumerate(documents))
    executed = Counter(stage.executed())
    missing, strange = expected.keys() - executed.keys(), executed.keys() - expected.keys()
    twice = executed.total() - len(executed)
    say("4. What was seen")
    say(f"   acknowledged  {len(documents):6,}")
    say(f"   executed      {len(executed.keys() & expected.keys()):6,}")
    say(f"   lost          {len(missing):6,}")
    say(f"   repeated      {twice:6,}   (in doubt when the job server died: relay repeats rather than loses)")
    if missing or strange:
        raise Disappointed(f"{len(missing)} casts were not executed, {len(strange)} results belong to none")
    left = backlog_of(stage.status())
    if left:
        raise Disappointed(f"{left} casts are left in the spool")
    say("\nEvery cast that relay acknowledged was executed.")


def interrupted(number: int, _frame: object) -> None:
    """A signal that ends the demo does it through the clearing of the stage."""
    raise SystemExit(128 + number)


def main() -> int:
    """Perform, clear the stage, and say how it went by the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    stage = Stage()
    try:
        perform(stage)
    except (Disappointed, OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        say(f"\nNot as promised: {error}")
        if stage.log.exists():
            say(f"The agent's log ends:\n{stage.log.read_text(errors='replace')[-3000:]}")
        return 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stage.close()
    return 0


if __name__ == "__main__":
    roles: dict[str, Callable[..., None]] = {"upstream": run_upstream, "worker": run_worker}
    if sys.argv[1:]:
        logging.disable(logging.CRITICAL)  # gear logs each packet
        end_with_parent()
        roles[sys.argv[1]](*sys.argv[2:])
    else:
        sys.exit(main())
