"""The rig itself, without relay: servers serve, workers work and the ledger tells the truth.

When these fail, the other tests of this directory say nothing about relay.
"""

import pytest

from tests.rig import packets
from tests.rig.packets import Packet, Stream, request
from tests.rig.rig import Rig
from tests.rig.servers import HOST, JobServer
from tests.rig.wait import until
from tests.rig.workers import always_fail, fail_first, raising, vanish_first


def submit(server: JobServer, function: bytes, unique: bytes, payload: bytes, exceptions: bool = False) -> Packet:
    """One foreground job, and its last packet."""
    with Stream((HOST, server.port)) as stream:
        if exceptions:
            stream.send(request(packets.OPTION_REQ, b"exceptions"))
        answer = stream.ask(request(packets.SUBMIT_JOB, function, unique, payload))
        while answer.type in (packets.OPTION_RES, packets.JOB_CREATED):
            answer = stream.read()
        return answer


def test_a_worker_executes_a_job_and_writes_down_its_unique(rig: Rig, unique_server_kind: str) -> None:
    """The payload arrives whole, with the unique it was sent under, and the server hears of its completion."""
    (server,) = rig.serve(unique_server_kind)
    rig.work(b"plain")
    answer = submit(server, b"plain", b"some.unique", b"pay\0load")
    assert answer.type == packets.WORK_COMPLETE
    (execution,) = rig.ledger.tries(b"plain")
    assert (execution.payload, execution.unique, execution.key) == (b"pay\0load", b"some.unique", b"some")
    assert execution.port == server.port


def test_a_worker_comes_back_when_its_server_does(rig: Rig, server_kind: str) -> None:
    """After SIGKILL and a restart on the same port the same worker executes again."""
    (server,) = rig.serve(server_kind)
    rig.work(b"plain")
    assert submit(server, b"plain", b"u.1", b"before").type == packets.WORK_COMPLETE
    server.kill()
    server.restart()
    assert submit(server, b"plain", b"u.2", b"after").type == packets.WORK_COMPLETE
    assert rig.ledger.done() == [b"before", b"after"]


@pytest.mark.parametrize("again", [False, True], ids=["only", "twice"])
def test_verdicts_reach_the_one_who_submitted(rig: Rig, server_kind: str, again: bool) -> None:
    """WORK_FAIL and WORK_EXCEPTION with its text come back, and do not end the worker."""
    (server,) = rig.serve(server_kind)
    rig.work(b"fails", act=always_fail)
    rig.work(b"raises", act=raising(b"no such tenant"))
    for number in range(2 if again else 1):
        assert submit(server, b"fails", b"f.%d" % number, b"x").type == packets.WORK_FAIL
        answer = submit(server, b"raises", b"r.%d" % number, b"x", exceptions=True)
        assert answer.type == packets.WORK_EXCEPTION
        assert answer.body.split(b"\0", 1)[1] == b"no such tenant"


def test_fail_first_counts_for_each_payload(rig: Rig, server_kind: str) -> None:
    """A payload that fails first succeeds at its next try, and each payload has its own count."""
    (server,) = rig.serve(server_kind)
    rig.work(b"moody", act=fail_first(1))
    for payload in (b"one", b"two"):
        kinds = [submit(server, b"moody", b"%s.%d" % (payload, n), payload).type for n in range(2)]
        assert kinds == [packets.WORK_FAIL, packets.WORK_COMPLETE]
    assert rig.ledger.done() == [b"one", b"two"]
    assert len(rig.ledger.tries()) == 4


def test_a_worker_that_vanishes_says_nothing_and_comes_back(rig: Rig) -> None:
    """gearmand gives the job of a vanished worker out again, and the worker that came back executes it."""
    (server,) = rig.serve("gearmand")
    rig.work(b"fragile", act=vanish_first(1))
    assert submit(server, b"fragile", b"v.1", b"x").type == packets.WORK_COMPLETE
    assert [e.answer.type for e in rig.ledger.tries()] == [None, packets.WORK_COMPLETE]


def test_queued_counts_what_does_not_run(rig: Rig, server_kind: str) -> None:
    """Of three jobs with a worker that holds the first, two are queued; a stopped server answers once it goes on."""
    (server,) = rig.serve(server_kind)
    (worker,) = rig.work(b"slow")
    worker.hold()
    with Stream((HOST, server.port)) as stream:
        for number in range(3):
            stream.send(request(packets.SUBMIT_JOB, b"slow", b"q.%d" % number, b""))
        until(worker.holding.is_set, "a worker has the first job")
        until(lambda: server.status(b"slow").total == 3, server.functions)
        assert server.queued(b"slow") == 2
        server.stop()
        server.cont()
        worker.let_go()
        answers = [stream.read().type for _ in range(6)]
    assert answers.count(packets.WORK_COMPLETE) == 3
    assert server.queued(b"slow") == 0
