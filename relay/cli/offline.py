"""With the agent down: reading from the spool itself, and changing it under its lock; said on stderr, and of a change
in syslog.

Whoever asks while no agent runs is told what is on disk; where there is no spool either, that no agent runs
(69).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from relay.cli.exits import Failed, NotPermitted, NotRunning, Owned

if TYPE_CHECKING:
    from relay.spool.offline import Spooled

#: what is imported late, and what that imports: the owner of a spool may not be able to read where Python's modules are
_NEEDED = (
    "csv",
    "encodings.ascii",
    "encodings.latin_1",
    "encodings.unicode_escape",
    "syslog",
    "yaml",
    "sqlite_utils",
    "relay.spool.checking",
    "relay.spool.offline",
    "relay.spool.quarantine",
    "relay.spool.repairing",
)


@contextmanager
def instead_of(agent: NotRunning) -> Iterator[None]:
    """Around reading the spool because no agent answered: its errors as those of the command line."""
    from relay.errors import SpoolOwned, SpoolUnusable
    from relay.spool.reading import SpoolForbidden, SpoolMissing

    try:
        yield
    except SpoolMissing as error:
        raise NotRunning(f"{agent}, and {error}") from None
    except SpoolForbidden as error:
        raise NotPermitted(f"{agent}, and {error}") from None
    except SpoolOwned as error:
        raise Owned(f"{agent}, but {error}") from None
    except SpoolUnusable as error:
        raise Failed(f"{agent}, and {error}") from None


@contextmanager
def owned(path: Path) -> Iterator[Spooled]:
    """The spool itself, to be changed, under its lock; as the user that it belongs to, where root asks."""
    from relay.clock import Clock
    from relay.spool.offline import Spooled

    uid = os.geteuid()
    become_owner(path)
    with closing(Spooled(path, Clock(), uid)) as spooled:
        yield spooled


def become_owner(path: Path) -> None:
    """Where root asks, go on as the user that the spool belongs to: what root leaves there, no agent can open."""
    try:
        owner = path.stat()
    except OSError:
        return
    if os.geteuid() == 0 and owner.st_uid != 0:
        for name in _NEEDED:
            import_module(name)
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)


def say(agent: NotRunning, what: str = "read from") -> None:
    """The line on stderr."""
    print(f"agent not running: {what} the spool ({agent})", file=sys.stderr)


def log(text: str) -> None:
    """A line of the host's log about a change of the spool itself: no agent has one."""
    import syslog

    syslog.openlog("relay-cli", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_INFO, f"uid {os.getuid()}: {text}")
