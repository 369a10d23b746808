"""relay.client against the real agent: every handle it gives is a cast on disk, and no trouble makes two of one."""

import asyncio
import itertools
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.client import (
    AsyncClient,
    Cast,
    Client,
    Draining,
    PayloadTooLarge,
    Rejected,
    SpoolFull,
    TooManyConnections,
    Unanswered,
    Unavailable,
)
from relay.client.flow import Flow
from tests.rig.agent import Agent
from tests.rig.callers import cast_all, id_of
from tests.rig.rig import Rig
from tests.rig.wait import until
from tests.unit.client.twins import Twin, both

#: a timeout, in seconds, that a loaded machine does not reach
LONG_S = 60.0
#: one that is waited for in full
SHORT_S = 0.3
#: one that is waited for in full, and in which the agent answers
FAIR_S = 8.0


def ids_of(handles: list[Any]) -> list[int]:
    """The ids of handles, each of which must be one."""
    return [id_of(handle.encode()) for handle in handles]


def by_unique(agent: Agent) -> dict[str, int]:
    """The backlog: unique -> id; no unique may be there twice."""
    casts = agent.backlog()
    found = {cast["unique"]: cast["id"] for cast in casts}
    assert len(found) == len(casts), "a unique is there twice"
    return found


@both
def test_a_cast_is_on_disk_and_executed(rig: Rig, twin: Twin) -> None:
    """Payload, function and priority as given; the unique that was made is its idempotency key at the worker."""
    rig.serve("gearmand")
    agent = rig.agent()
    with twin(agent.socket, timeout=LONG_S) as client:
        handle = client.cast("plain", b"\0pay\0load\0", priority="high")
    (cast,) = agent.backlog()
    assert (cast["id"], cast["function"], cast["priority"]) == (*ids_of([handle]), "plain", "high")
    assert re.fullmatch("[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", cast["unique"])
    rig.work(b"plain")
    rig.ledger.await_done([b"\0pay\0load\0"])
    (execution,) = rig.ledger.tries()
    assert execution.key.decode() == cast["unique"]


@both
def test_a_delayed_cast_waits(rig: Rig, twin: Twin) -> None:
    """It is kept back by the seconds asked for, rounded up, also with a worker there."""
    rig.serve("gearmand")
    rig.work(b"plain")
    agent = rig.agent()
    with twin(agent.socket, timeout=LONG_S) as client:
        handle = client.cast("plain", b"later", delay=3599.5)
        client.cast("plain", b"now")
    rig.ledger.await_done([b"now"])
    (cast,) = agent.backlog()
    assert cast["id"] == ids_of([handle])[0]
    assert 0 < cast["due_seconds"] <= 3601
    assert rig.ledger.done() == [b"now"]


@both
@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "killed"])
def test_a_restart_between_casts_is_not_noticed(rig: Rig, twin: Twin, crash: bool) -> None:
    """The connection that was kept is dead; the next cast goes over a new one, without an error and once."""
    rig.serve("gearmand")
    agent = rig.agent()
    with twin(agent.socket, timeout=LONG_S) as client:
        handles = [client.cast("nobody", b"before")]
        if crash:
            agent.kill()
        else:
            assert agent.term() == 0
        agent.restart()
        handles.append(client.cast("nobody", b"after"))
    assert ids_of(handles) == [cast["id"] for cast in agent.backlog()]


@both
def test_an_agent_that_is_away_is_unavailable(rig: Rig, twin: Twin) -> None:
    """Before it came, after it was killed and after it stopped; with the cast, to be tried again when it is there."""
    rig.serve("gearmand")
    agent = rig.unstarted_agent()
    with twin(agent.socket, timeout=LONG_S) as client:
        with pytest.raises(Unavailable) as raised:
            client.cast("nobody", b"x")
        assert isinstance(raised.value.__cause__, FileNotFoundError)
        agent.start()
        client.cast("nobody", b"x")
        agent.kill()
        with pytest.raises(Unavailable) as raised:
            client.cast("nobody", b"again")
        assert isinstance(raised.value.__cause__, ConnectionRefusedError)
        agent.restart()
        (handle,) = client.cast_many(raised.value.casts)
        assert by_unique(agent)[str(raised.value.unique)] == ids_of([handle])[0]
        agent.term()
        with pytest.raises(Unavailable):
            client.cast("nobody", b"x")


@both
def test_many_casts_at_once_are_each_on_disk_in_order(rig: Rig, twin: Twin) -> None:
    """5,000 casts, some of them rejected: a handle or the rejection for each, in order, and nothing else is stored."""
    rig.serve("gearmand")
    agent = rig.agent()
    items = [("not good" if n % 100 == 7 else "nobody", b"%d" % n, f"u{n}") for n in range(5000)]
    with twin(agent.socket, timeout=LONG_S) as client:
        answers = list(client.cast_many(items))
    assert [isinstance(answer, Rejected) for answer in answers] == [n % 100 == 7 for n in range(5000)]
    handles = {f"u{n}": id_ for n, id_ in zip(range(5000), answers, strict=True) if isinstance(id_, str)}
    assert by_unique(agent) == {unique: ids_of([handle])[0] for unique, handle in handles.items()}


@both
def test_a_kill_in_the_middle_of_many_casts_loses_no_handle(rig: Rig, twin: Twin) -> None:
    """The agent stays away: each handle that was given is a cast on disk; the rest can be cast again, and is once."""
    rig.serve("gearmand")
    agent = rig.agent()
    source: Iterator[tuple[str, bytes, str]] = (("nobody", b"%d" % n, f"u{n}") for n in itertools.count())
    handles: list[object] = []
    with twin(agent.socket, timeout=FAIR_S) as client, twin(agent.socket, timeout=LONG_S) as patient:
        casting = client.cast_many(source)
        handles += itertools.islice(casting, 3000)
        agent.kill()
        with pytest.raises((Unanswered, Unavailable)) as raised:
            handles.extend(casting)
        error = raised.value
        assert isinstance(error, Unanswered | Unavailable)
        taken = [f"u{n}" for n in range(len(handles), len(handles) + len(error.casts))]
        assert [cast.unique for cast in error.casts] == taken
        agent.restart()
        stored = by_unique(agent)
        assert ids_of(handles) == [stored[f"u{n}"] for n in range(len(handles))]
        handles += patient.cast_many(error.casts)
    stored = by_unique(agent)
    assert ids_of(handles) == [stored[f"u{n}"] for n in range(len(handles))]
    assert len(stored) == len(handles)


@both
def test_a_restart_in_the_middle_of_many_casts_is_not_noticed(rig: Rig, twin: Twin) -> None:
    """Killed and started again three times while 6,000 casts go over: all of them are given a handle, each is once."""
    rig.serve("gearmand")
    agent = rig.agent()
    handles: list[object] = []
    with twin(agent.socket, timeout=LONG_S) as client:
        for handle in client.cast_many(("nobody", b"%d" % n, f"u{n}") for n in range(6000)):
            handles.append(handle)
            if len(handles) in (1, 2000, 4000):
                agent.kill()
                agent.restart()
    stored = by_unique(agent)
    assert ids_of(handles) == [stored[f"u{n}"] for n in range(6000)]
    assert len(stored) == 6000


@both
def test_a_kill_during_a_cast_is_not_noticed_once_the_agent_is_back(
    rig: Rig, twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cast that waits for its answer when the agent dies is sent again under its unique; it is there once."""
    rig.serve("gearmand")
    agent = rig.agent()
    sent = threading.Event()
    with twin(agent.socket, timeout=LONG_S) as client:
        client.cast("nobody", b"first", unique="u0")
        agent.signal(signal.SIGSTOP)
        note = Flow.sent
        monkeypatch.setattr(Flow, "sent", lambda flow: (note(flow), sent.set()))
        handles: list[str] = []
        caller = threading.Thread(target=lambda: handles.append(client.cast("nobody", b"x", unique="u1")))
        caller.start()
        assert sent.wait(LONG_S)
        agent.kill()
        agent.restart()
        caller.join()
    assert by_unique(agent)["u1"] == ids_of(handles)[0]


@both
def test_draining_is_rejected_until_it_is_over(rig: Rig, twin: Twin) -> None:
    """Rejected, not stored; a repeat of what is on disk gets its handle; then the same connection casts again."""
    rig.serve("gearmand")
    agent = rig.agent()
    with twin(agent.socket, timeout=LONG_S) as client:
        handle = client.cast("nobody", b"x", unique="u")
        agent.cli("drain", "--no-wait")
        with pytest.raises(Draining) as raised:
            client.cast("nobody", b"late")
        assert (raised.value.code, raised.value.in_doubt) == ("draining", False)
        assert client.cast("nobody", b"x", unique="u") == handle
        assert [type(answer) for answer in client.cast_many([("nobody", b"late")] * 3)] == [Draining] * 3
        assert agent.cli("resume").returncode == 0
        client.cast("nobody", b"again")
    assert len(agent.backlog()) == 2


@both
def test_refusals_in_between_many_casts_are_each_their_own(rig: Rig, twin: Twin) -> None:
    """The operator drains and resumes again and again while casts come: every answer fits its cast, in order."""
    rig.serve("gearmand")
    agent = rig.agent()
    uniques = [f"u{n}" for n in range(200)]

    def items() -> Iterator[tuple[str, bytes, str]]:
        for number, unique in enumerate(uniques):
            if number % 25 == 0:
                # what came before goes over meanwhile, or after it: the client does not wait for a slow item
                agent.cli("drain", "--no-wait") if number % 50 else agent.cli("resume")
            yield "nobody", b"x", unique

    with twin(agent.socket, timeout=LONG_S) as client:
        answers = dict(zip(uniques, client.cast_many(items()), strict=True))
    refused = {unique for unique, answer in answers.items() if isinstance(answer, Rejected)}
    assert {type(answers[unique]) for unique in refused} == {Draining}
    assert {str(answer.unique) for answer in answers.values() if isinstance(answer, Rejected)} == refused
    handles = {unique: answer for unique, answer in answers.items() if isinstance(answer, str)}
    assert handles
    assert dict(zip(handles, ids_of(list(handles.values())), strict=True)) == by_unique(agent)


def test_a_cancelled_cast_leaves_its_client_sound(rig: Rig) -> None:
    """Cancelled while the agent is silent, it is in doubt; the answer that comes late is taken for no other cast's."""
    rig.serve("gearmand")
    agent = rig.agent()

    async def story() -> list[str]:
        async with AsyncClient(agent.socket, timeout=LONG_S) as client:
            await client.cast("nobody", b"before", unique="u0")
            agent.signal(signal.SIGSTOP)
            casts = [asyncio.create_task(client.cast("nobody", b"x", unique=f"u{n}")) for n in (1, 2)]
            many = client.cast_many([("nobody", b"x", "u3"), ("nobody", b"x", "u4")])
            casts.append(asyncio.create_task(anext(many)))
            # each sends in its first step
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for cast in casts:
                cast.cancel()
            results = await asyncio.gather(*casts, return_exceptions=True)
            assert [type(result) for result in results] == [asyncio.CancelledError] * 3
            agent.signal(signal.SIGCONT)
            handles = [await client.cast("nobody", b"after", unique=f"v{n}") for n in range(40)]
            again = [await client.cast("nobody", b"again", unique=f"u{n}") for n in range(5)]
            return handles + again

    handles = asyncio.run(story())
    names = [f"v{n}" for n in range(40)] + [f"u{n}" for n in range(5)]
    assert dict(zip(names, ids_of(handles), strict=True)) == by_unique(agent)


@both
def test_limits_of_the_agent_are_rejections_of_their_own(rig: Rig, twin: Twin) -> None:
    """A full spool, a payload over the limit (its connection goes on), too many connections."""
    rig.serve("gearmand")
    agent = rig.agent({"spool": {"max_casts": 3}, "intake": {"max_payload": 1000, "max_connections": 2}})
    with twin(agent.socket, timeout=LONG_S) as client:
        answers = list(client.cast_many(("nobody", b"%d" % n) for n in range(5)))
        assert [type(answer) for answer in answers] == [str, str, str, SpoolFull, SpoolFull]
        with pytest.raises(PayloadTooLarge):
            client.cast("nobody", bytes(100_000))
        with pytest.raises(SpoolFull):
            client.cast("nobody", b"x")
        with agent.connect(), twin(agent.socket, timeout=LONG_S) as second, pytest.raises(TooManyConnections):
            second.cast("nobody", b"x")
    assert len(agent.backlog()) == 3


@both
def test_a_silent_agent_is_unanswered_and_the_same_unique_is_one_cast(rig: Rig, twin: Twin) -> None:
    """SIGSTOP: no answer in the timeout. Going on it stores what was sent; trying again finds that, and no answer of
    before is taken for another cast's."""
    rig.serve("gearmand")
    agent = rig.agent()
    with twin(agent.socket, timeout=SHORT_S) as client, twin(agent.socket, timeout=LONG_S) as patient:
        agent.signal(signal.SIGSTOP)
        errors: list[Unanswered] = []
        for payload in (b"1", b"2"):
            with pytest.raises(Unanswered) as raised:
                client.cast("nobody", payload)
            errors.append(raised.value)
        agent.signal(signal.SIGCONT)
        until(lambda: len(agent.backlog()) == 2, "what was sent is stored")
        stored = by_unique(agent)
        handles = [patient.cast("nobody", error.casts[0].payload, unique=error.unique) for error in errors]
        assert ids_of(handles) == [stored[str(error.unique)] for error in errors]
    assert by_unique(agent) == stored


def test_many_threads_share_a_client(rig: Rig) -> None:
    """24 threads, 40 casts each: every thread gets the handles of its own casts, and few connections are kept."""
    rig.serve("gearmand")
    agent = rig.agent()
    got: dict[str, str] = {}
    with Client(agent.socket, timeout=LONG_S) as client:

        def cast(name: int) -> None:
            for number in range(40):
                unique = f"{name}-{number}"
                got[unique] = client.cast("nobody", b"x", unique=unique)

        threads = [threading.Thread(target=cast, args=(name,)) for name in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {unique: id_of(handle.encode()) for unique, handle in got.items()} == by_unique(agent)
    assert len(got) == 24 * 40


def test_many_tasks_share_a_client(rig: Rig) -> None:
    """500 casts at once in one loop: each gets its own handle."""
    rig.serve("gearmand")
    agent = rig.agent()

    async def story() -> list[str]:
        async with AsyncClient(agent.socket, timeout=LONG_S) as client:
            return await asyncio.gather(*[client.cast("nobody", b"x", unique=f"u{n}") for n in range(500)])

    handles = asyncio.run(story())
    assert dict(zip([f"u{n}" for n in range(500)], ids_of(handles), strict=True)) == by_unique(agent)


FORK = """
import json, os, sys
from relay.client import Client

client = Client(sys.argv[1], timeout=60)
answers = client.cast_many(("nobody", b"x", f"many-{n}") for n in range(1000))
first = next(answers)
client.cast("nobody", b"x", unique="kept")
read, write = os.pipe()
child = os.fork()
name = "parent" if child else "child"
got = {f"{name}-{n}": client.cast("nobody", b"x", unique=f"{name}-{n}") for n in range(200)}
many = [first, *answers]
got |= {f"many-{n}": handle for n, handle in enumerate(many)}
if not child:
    os.write(write, json.dumps(got).encode())
    os._exit(0)
os.close(write)
theirs = json.loads(open(read, "rb").read())
assert os.waitpid(child, 0)[1] == 0
print(json.dumps([got, theirs]))
"""


def run(code: str, *arguments: str) -> Any:
    """What a Python of its own prints, as JSON."""
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_parent_and_child_cast_side_by_side_after_a_fork(rig: Rig) -> None:
    """Neither reads the other's answers, also where both go on with a cast_many that was under way."""
    rig.serve("gearmand")
    agent = rig.agent()
    for got in run(FORK, agent.socket):
        stored = by_unique(agent)
        assert len(got) == 1200
        assert {unique: id_of(handle.encode()) for unique, handle in got.items()} == {u: stored[u] for u in got}


GREEN = """
import json, sys, warnings
warnings.simplefilter("ignore")
if sys.argv[2] == "before":
    from relay.client import Client, Unanswered
    client = Client(sys.argv[1], timeout=float(sys.argv[3]))
import eventlet
eventlet.monkey_patch()
if sys.argv[2] == "after":
    from relay.client import Client, Unanswered
    client = Client(sys.argv[1], timeout=float(sys.argv[3]))

ticks, got, unanswered = 0, {}, 0

def tick():
    global ticks
    while True:
        ticks += 1
        eventlet.sleep(0.001)

def cast(name):
    global unanswered
    for number in range(5):
        unique = f"{name}-{number}"
        try:
            got[unique] = client.cast("nobody", b"x" * 1000, unique=unique)
        except Unanswered:
            unanswered += 1

eventlet.spawn(tick)
threads = [eventlet.spawn(cast, name) for name in range(int(sys.argv[4]))]
for thread in threads:
    thread.wait()
answered = ticks
try:
    got |= {f"many-{n}": h for n, h in enumerate(client.cast_many(("nobody", b"", f"many-{n}") for n in range(1000)))}
except Unanswered:
    unanswered += 1
print(json.dumps([got, unanswered, answered]))
"""


@pytest.mark.parametrize("imported", ["before", "after"])
def test_green_threads_share_a_client(rig: Rig, imported: str) -> None:
    """Under eventlet, imported and made before or after monkey_patch: 100 green threads, each gets its own handles."""
    rig.serve("gearmand")
    agent = rig.agent()
    got, unanswered, ticks = run(GREEN, agent.socket, imported, str(LONG_S), "100")
    assert (len(got), unanswered) == (1500, 0)
    assert ticks > 1
    assert {unique: id_of(handle.encode()) for unique, handle in got.items()} == by_unique(agent)


@pytest.mark.parametrize("imported", ["before", "after"])
def test_a_green_thread_that_waits_lets_the_others_run(rig: Rig, imported: str) -> None:
    """With the agent stopped three green threads wait for their answers in vain, and a fourth one ticks on."""
    rig.serve("gearmand")
    agent = rig.agent()
    agent.signal(signal.SIGSTOP)
    got, unanswered, ticks = run(GREEN, agent.socket, imported, str(SHORT_S), "3")
    agent.signal(signal.SIGCONT)
    assert (got, unanswered) == ({}, 16)
    assert ticks > 10


def test_the_examples_of_the_guide_run(rig: Rig) -> None:
    """Each Python block of the client's guide, in order, in one module, with this agent's socket."""
    rig.serve("gearmand")
    rig.work(b"mail.send", b"billing.record")
    agent = rig.agent()
    guide = Path(__file__).parents[2] / "docs" / "clients.md"
    blocks = re.findall(r"^```python\n(.*?)^```", guide.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 4
    code = "\n".join(blocks).replace("/run/relay/relay.sock", agent.socket)
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    agent.await_empty()
    assert {execution.function for execution in rig.ledger.tries()} == {b"mail.send", b"billing.record"}


def test_the_rig_and_the_client_agree_on_handles(rig: Rig) -> None:
    """A caller that speaks the protocol by itself gets the handle of the client's cast for the same unique."""
    rig.serve("gearmand")
    agent = rig.agent()
    with Client(agent.socket, timeout=LONG_S) as client:
        (handle,) = client.cast_many([Cast("nobody", b"x", b"u")])
    record = cast_all(agent.socket, b"nobody", [b"y"], uniques=[b"u"])
    assert [handle] == [other.decode() for other in record.handles]
