"""A bound on an agent's memory: a control group of the kernel's, in which whatever exceeds it is killed.

Promises: page cache counts against it as on a small host, and is given back first.
Never does: touch a group that is not its own. Failure: where no group can be made the test is skipped.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .agent import Agent
from .wait import until

GROUPS = Path("/sys/fs/cgroup/memory")


class Bound:
    """The group of one agent."""

    def __init__(self, group: Path) -> None:
        """It is there already."""
        self._group = group

    def kills(self) -> int:
        """How many processes were killed for what they took."""
        events = dict(line.split() for line in (self._group / "memory.oom_control").read_text().splitlines())
        return int(events.get("oom_kill", 0))

    def met(self) -> int:
        """How often the bound was met, and memory had to be given back."""
        return int((self._group / "memory.failcnt").read_text())


@contextlib.contextmanager
def bounded(agent: Agent, limit: int) -> Iterator[Bound]:
    """Within, an agent that is started may take `limit` bytes; it is ended when this ends."""
    if os.geteuid() != 0 or not (GROUPS / "memory.limit_in_bytes").exists():
        pytest.skip("no control group for memory can be made here")
    group = Path(tempfile.mkdtemp(prefix="relay-test-", dir=GROUPS))
    (group / "memory.limit_in_bytes").write_text(str(limit))
    agent.prefix = ["/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]
    try:
        yield Bound(group)
    finally:
        agent.prefix = []
        agent.close()
        until(lambda: _removed(group), f"{group} is empty")


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True
