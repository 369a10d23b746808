"""What the rig takes a process for that is to be traced."""

import os
import signal
import subprocess

from tests.rig.strace import traced


def test_a_process_without_a_tracer_is_not_traced() -> None:
    """A test must not go on before its faults are in place."""
    assert not traced(os.getpid())


def test_a_process_that_was_killed_needs_no_tracer() -> None:
    """A fault that kills at once leaves a process that nobody has waited for yet: no tracer will come."""
    with subprocess.Popen(["sleep", "60"]) as process:
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert traced(process.pid)


def test_a_process_that_is_gone_needs_no_tracer() -> None:
    """It was waited for."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert traced(process.pid)
