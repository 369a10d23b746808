"""Who else has a spool open."""

import subprocess
import sys
from pathlib import Path

from relay.spool.readers import readers

READING = """
import sys
with open(sys.argv[1]), open("/proc/self/comm", "wb", buffering=0) as comm:
    comm.write(b"odd\\xff")
    print(flush=True)
    sys.stdin.read()
"""


def test_a_reader_is_named_whatever_it_is_called(tmp_path: Path) -> None:
    """The name of a process is bytes that it chose: no start fails over them."""
    path = tmp_path / "spool.db"
    path.touch()
    assert readers(path) == "of unknown pid"
    command = [sys.executable, "-c", READING, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        found = readers(path)
        reader.communicate(b"")
    assert found == f"pid {reader.pid} (odd\ufffd)"
