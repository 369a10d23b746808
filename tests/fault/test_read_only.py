"""The spool's file system turns read-only under the running agent, as the kernel makes one whose disk has failed it.

No caller is told that a cast is on disk, the agent says what is wrong and stays, and what it had is executed as soon as
there is a file system again that can be written.
"""

import errno
import os

from tests.rig.agent import Agent
from tests.rig.callers import cast_all
from tests.rig.disks import LoopDisk
from tests.rig.rig import Rig
from tests.rig.strace import SYNCS, WRITES, attached
from tests.rig.wait import until

FUNCTION = b"work"
HELD = [b"held-%d" % number for number in range(300)]
#: every call by which SQLite and relay change a file, or its name
CHANGES = [*WRITES, *SYNCS, "ftruncate", "fallocate", "unlink", "rename"]
#: log lines for one spell, however long it lasts: it is said once that it fails, and once that it still does
MOST_LINES = 40


def refusing(agent: Agent) -> set[str]:
    """The codes that new casts are refused with, now; empty where they are accepted."""
    record = cast_all(agent.socket, FUNCTION, [b"not to be accepted"] * 3)
    assert not record.unanswered
    return {refusal.code for refusal in record.refused}


def assert_says_so(agent: Agent) -> None:
    """Casts are refused, each time; status is answered, and has the problem; what is held stays; the log is short."""
    process, began = agent.process, len(agent.log.splitlines())
    until(lambda: refusing(agent) == {"spool_error"}, lambda: f"casts are refused\n{agent.log_tail()}")
    for _ in range(30):
        assert refusing(agent) == {"spool_error"}
    status = agent.status()
    assert not status["accepting"]
    (problem,) = [one for one in status["problems"] if one["code"] == "spool_failing"]
    assert problem["text"]
    assert status["accepted"] == len(HELD)
    assert len(agent.backlog()) == status["accepted"] - status["completed"]
    assert agent.process is process
    assert agent.accepts()
    assert len(agent.log.splitlines()) - began < MOST_LINES, agent.log_tail()
    assert "Traceback" not in agent.log


def test_a_file_system_that_the_kernel_turns_read_only(rig: Rig) -> None:
    """ext4 does so at an error: a restart there ends with 73, and after a mount anew all is executed."""
    rig.serve("geard")
    with LoopDisk("ext4") as disk:
        agent = rig.unstarted_agent({})
        agent.spool = disk.path / "spool" / "spool.db"
        agent.configure({"spool": {"path": agent.spool}})
        agent.start()
        try:
            assert cast_all(agent.socket, FUNCTION, HELD).acknowledged == HELD
            disk.turn_read_only()
            assert_says_so(agent)
            assert agent.term() == 0, agent.log_tail()
            agent.spawn()
            assert agent.wait() == 73, agent.log_tail()
            assert os.strerror(errno.EROFS) in agent.log or "readonly" in agent.log
            disk.back()
            rig.work(FUNCTION)
            agent.start()
            agent.await_empty()
            assert set(rig.ledger.done(FUNCTION)) == set(HELD)
            assert agent.status()["dead"] == 0
        finally:
            agent.close()


def test_a_file_system_that_is_writable_again(rig: Rig) -> None:
    """The same agent accepts again by itself, and executes what was refused by nobody; all of it once."""
    rig.serve("geard")
    agent = rig.agent()
    assert cast_all(agent.socket, FUNCTION, HELD).acknowledged == HELD
    with attached(agent, CHANGES, "error=EROFS"):
        assert_says_so(agent)
        rig.work(FUNCTION)
    until(lambda: not refusing(agent), lambda: f"casts are accepted again\n{agent.log_tail()}")
    agent.await_empty()
    assert set(HELD) <= set(rig.ledger.done(FUNCTION))
    until(lambda: not agent.status()["problems"], lambda: f"all is well: {agent.status()}")
