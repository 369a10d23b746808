"""docs/workers.md: its examples do what they say."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.docs.documents import DOCS, blocks
from tests.rig import packets
from tests.rig.packets import Stream, request
from tests.rig.rig import Rig
from tests.rig.servers import HOST
from tests.rig.wait import until

KEY = b"0123456789ab-7"


LANGUAGES = {"python": sys.executable, "php": "php", "perl": "perl"}
#: what says whether the program has what its example uses
NEEDS = {
    "python": ["-c", ""],
    "php": ["-r", "exit(class_exists('GearmanWorker') && in_array('sqlite', PDO::getAvailableDrivers()) ? 0 : 1);"],
    "perl": ["-MGearman::Worker", "-MDBD::SQLite", "-e", "1"],
}


@pytest.mark.parametrize(
    ("language", "kind"), [("python", "geard"), ("php", "gearmand"), ("perl", "perl"), ("perl", "gearmand")]
)
def test_a_repeat_is_answered_and_not_done_again(rig: Rig, language: str, kind: str) -> None:
    """Sent twice under one key, the work of the example is done once, and both sends are answered WORK_COMPLETE."""
    program = LANGUAGES[language]
    if (
        shutil.which(program) is None
        or subprocess.run([program, *NEEDS[language]], stdin=subprocess.DEVNULL, check=False).returncode
    ):
        pytest.skip(f"{language} has no Gearman worker with SQLite here")
    (server,) = rig.serve(kind)
    (example,) = blocks(DOCS / "workers.md", language)
    (rig.directory / "worker").write_text(example)
    path = rig.directory / "done.db"
    worker = subprocess.Popen(
        [program, str(rig.directory / "worker"), str(server.port), str(path)], stdin=subprocess.DEVNULL
    )
    try:
        # under load geard was seen to drop a caller that submitted while the worker connected
        until(lambda: server.status(b"greet").workers, "the worker is there")
        with Stream((HOST, server.port)) as stream:
            for send, text in enumerate((b"one", b"one", b"two")):
                key = KEY if text == b"one" else KEY + b"1"
                payload = key + b"\n" + text if language == "perl" else text
                stream.send(request(packets.SUBMIT_JOB, b"greet", key + b".start-%d" % send, payload))
                assert stream.read().type == packets.JOB_CREATED
                assert stream.read().type == packets.WORK_COMPLETE
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT text FROM greetings").fetchall() == [("one",), ("two",)]
            keys = {
                key if isinstance(key, bytes) else key.encode() for (key,) in database.execute("SELECT key FROM done")
            }
            assert keys == {KEY, KEY + b"1"}
    finally:
        worker.kill()
        worker.wait()


def test_the_worker_executes_what_relay_sends(rig: Rig) -> None:
    """A cast reaches the example, whose database then has the cast's key: what stands before the last dot."""
    (server,) = rig.serve("geard")
    (rig.directory / "worker.py").write_text(blocks(DOCS / "workers.md", "python")[0])
    path = rig.directory / "done.db"
    agent = rig.agent(servers=[server])
    worker = subprocess.Popen(
        [sys.executable, str(rig.directory / "worker.py"), str(server.port), str(path)], stdin=subprocess.DEVNULL
    )
    unique = "0190a0a0a0a07a0a8a0a0a0a0a0a0a0a"
    try:
        assert agent.cli("cast", "--unique", unique, "greet", "hello").returncode == 0
        until(lambda: agent.status()["completed"] == 1, "the cast is executed")
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT key FROM done").fetchall() == [(unique.encode(),)]
    finally:
        worker.kill()
        worker.wait()
