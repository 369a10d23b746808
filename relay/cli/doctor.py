"""`doctor`: looks at everything that relay needs on this host, and says what is wrong with it and what to do.

Exit 0 when nothing is wrong (a warning is not), 1 otherwise.  With the agent up or down; nothing is changed, and no
work is submitted.
"""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from relay.cli import formats
from relay.cli.ask import Agent
from relay.cli.exits import DONE, FAILED, Failed, NotPermitted, NotRunning

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs
    from relay.settings import Server, Settings

COLUMNS = ("check", "result", "finding", "advice")
OK, WARNING, WRONG = "ok", "warning", "wrong"
#: seconds that the agent may take to answer
PATIENCE_S = 5.0
#: functions without workers that are named
NAMED = 20
#: file systems that are no disk of this host's
_NETWORK = ("nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "fuse.", "lustre", "afs")
_MEMORY = ("tmpfs", "ramfs")
#: problems of an agent that is well but for what is around it
_MILD = frozenset({"needs_restart", "upstreams_paused"})


class Finding(NamedTuple):
    """One look at one thing."""

    check: str
    result: str
    finding: str
    advice: str = ""


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("doctor", help="look for what is wrong on this host", description=__doc__)
    formats.add_arguments(parser, rows=True)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Examine, and print."""
    findings = list(examine(options))
    formats.show_rows(options, COLUMNS, [finding._asdict() for finding in findings])
    return FAILED if any(finding.result == WRONG for finding in findings) else DONE


def examine(options: argparse.Namespace) -> Iterator[Finding]:
    """Every finding, in the order of what depends on what."""
    from relay.conf.load import load
    from relay.errors import BadConfiguration

    files = options.config_file
    try:
        settings, _ = load([argument for file in files for argument in ("--config-file", file)])
    except BadConfiguration as error:
        yield Finding("configuration", WRONG, str(error), "correct it; the agent would end with 78")
        return
    yield Finding("configuration", OK, f"{', '.join(files) or 'the default places'}: every option is good")
    yield from _library()
    yield from _spool(settings)
    yield from _disk(settings.spool.path.parent, settings.spool.min_free)
    agent = Agent(options.places.control, options.patience or PATIENCE_S)
    running = yield from _agent(agent)
    if running:
        yield from _intake(settings.intake.socket)
    for server in settings.upstream.servers:
        yield from _upstream(server, settings.upstream.connect_timeout)
    if running:
        yield from _unstaffed(agent)


def _library() -> Iterator[Finding]:
    from relay.spool.reading import SQLITE_VERSION

    # the defect needs two connections that write and checkpoint at the same moment; relay has one
    old = tuple(map(int, SQLITE_VERSION.split("."))) < (3, 51, 3)
    note = (
        "before 3.51.3 two connections that write may corrupt a WAL: relay writes by one, so this does not concern it;"
        " let nothing else write to the spool"
    )
    yield Finding("SQLite", OK, f"version {SQLITE_VERSION}", note if old else "")


def _spool(settings: Settings) -> Iterator[Finding]:
    path = settings.spool.path
    for what, wanted in ((path.parent, "0700"), (path, "0600")):
        name = "spool directory" if what == path.parent else "spool"
        try:
            found = what.stat()
        except FileNotFoundError:
            yield Finding(name, OK, f"{what} is not there yet; the agent makes it")
            if what == path.parent and not path.parent.parent.is_dir():
                yield Finding(name, WRONG, f"{what.parent} is not there", "make it; the agent makes one level only")
            return
        except OSError as error:
            yield Finding(name, WARNING, f"{what}: {error.strerror}", "run this as root or as the agent's user")
            return
        mode = stat.S_IMODE(found.st_mode)
        if mode & (0o022 if what == path.parent else 0o077):
            yield Finding(name, WRONG, f"{what} has mode {mode:04o}", f"chmod {wanted} {what}; the agent refuses it")
        else:
            yield Finding(name, OK, f"{what} has mode {mode:04o} and belongs to uid {found.st_uid}")


def _disk(directory: Path, min_free: int) -> Iterator[Finding]:
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    try:
        disk = os.statvfs(directory)
    except OSError as error:
        yield Finding("disk", WARNING, f"{directory}: {error.strerror}", "run this as root or as the agent's user")
        return
    free = disk.f_bavail * disk.f_frsize
    said = f"{_mib(free)} free, [spool] min_free is {_mib(min_free)}"
    if free < min_free:
        yield Finding("disk", WRONG, said, "free space on it, or lower min_free: new casts are refused")
    elif free < 2 * min_free:
        yield Finding("disk", WARNING, said, "free space on it: new casts are soon refused")
    else:
        yield Finding("disk", OK, said)
    kind = file_system(directory, _mounts())
    if kind.startswith(_NETWORK):
        yield Finding(
            "file system", WRONG, kind, "put the spool on a local disk: its log needs shared memory and locks"
        )
    elif kind in _MEMORY:
        yield Finding(
            "file system", WRONG, f"{kind} is memory", "put the spool on a disk: a power cut takes every cast"
        )
    elif kind == "overlay":
        yield Finding("file system", WARNING, "overlay: a container's own", "mount a volume, or casts go with it")
    else:
        yield Finding("file system", OK, kind)


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def file_system(directory: Path, mounts: str) -> str:
    """The kind of the file system that holds a directory, of what /proc/self/mounts says."""
    best, kind = -1, "unknown"
    real = os.path.realpath(directory)
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = parts[1].replace("\\040", " ").rstrip("/")
        # a later mount lies over an earlier one at the same place
        if (real == point or real.startswith(f"{point}/")) and len(point) >= best:
            best, kind = len(point), parts[2]
    return kind


def _agent(agent: Agent) -> Any:
    """Whether it runs, and its problems; the value is whether it answers."""
    try:
        status = agent.ask("GET", "/v1/status")
    except NotRunning as error:
        yield Finding("agent", WARNING, str(error), "start relay-agent; what is on disk waits for it")
        return False
    except NotPermitted as error:
        yield Finding("agent", WARNING, str(error), "run this as root, or as a user of the control socket's group")
        return False
    except Failed as error:
        yield Finding("agent", WRONG, str(error), "see its log and the disk; if it stays so, restart it")
        return False
    yield Finding("agent", OK, f"{status['version']}, {status['state']}")
    if status["draining"]:
        yield Finding("agent", WARNING, "it drains: new casts are refused", "relay-cli resume, when that is over")
    for problem in status["problems"]:
        result = WARNING if problem["code"] in _MILD else WRONG
        yield Finding("agent", result, f"{problem['code']}: {problem['text']}", "docs/operations.md, Problems")
    return True


def _intake(path: Path) -> Iterator[Finding]:
    import socket

    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(str(path))
            connection.sendall(b"version\n")
            answer = connection.recv(256)
    except PermissionError:
        yield Finding(
            "intake", WARNING, f"{path}: this user may not cast", "[intake] socket_group, socket_mode say who may"
        )
    except OSError as error:
        yield Finding("intake", WRONG, f"{path}: {error.strerror or error}", "see the agent's log; callers cannot cast")
    else:
        ok = answer.startswith(b"OK")
        yield Finding("intake", OK if ok else WRONG, f"{path} {'answers' if ok else f'says {answer!r}'}")


def _upstream(server: Server, connect_s: float) -> Iterator[Finding]:
    from relay.cli import probe

    name = f"upstream {server}"
    found = probe.profile(server, connect_s)
    if found.error:
        yield Finding(
            name, WRONG, found.error, "see whether the server runs there, and what is between it and this host"
        )
        return
    if not found.heartbeat:
        yield Finding(
            name, WRONG, "connects, and does not answer GET_STATUS", "relay cannot use it: is it a job server?"
        )
        return
    known = "no version" if not found.version else f"version {found.version.removeprefix('OK ')}"
    echo = "ECHO" if found.echo else "no ECHO (relay needs none)"
    said = f"{known}; answers GET_STATUS, {echo}; low priority not probed"
    if found.workers is None:
        advice = "relay cannot see where workers are, and sends a few casts of each function to find out"
        yield Finding(name, WARNING, f"{said}; no usable status", advice)
        return
    staffed = sum(count > 0 for count in found.workers.values())
    yield Finding(name, OK, f"{said}; workers for {staffed} functions")


def _unstaffed(agent: Agent) -> Iterator[Finding]:
    blockers = agent.ask("GET", "/v1/drain")["blockers"]
    for blocker in [one for one in blockers if one["reason"] == "no workers"][:NAMED]:
        count = blocker["count"]
        said = f"{count} {'cast' if count == 1 else 'casts'} of {blocker['function']}"
        said += f" {'has' if count == 1 else 'have'} no workers"
        yield Finding("workers", WARNING, said, "start workers for it, or see whether its name is misspelt")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"
