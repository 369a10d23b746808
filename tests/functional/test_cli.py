"""relay-cli from outside: what its verbs answer, with the agent up and down, and their exit codes."""

import csv
import io
import json
import os
import sys

import pytest

from tests.rig.callers import cast_all, id_of
from tests.rig.rig import Rig
from tests.rig.wait import until
from tests.rig.workers import COMPLETE, FAIL

DONE, USAGE, NOT_RUNNING, NOT_DRAINED = 0, 2, 69, 75

# fmt: off
STATUS_KEYS = {
    "state", "accepting", "draining", "ready", "deferred", "held", "in_flight", "dead", "oldest_seconds",
    "spool_bytes", "payload_bytes", "accepted", "completed", "purged", "failures", "coalesced", "expired",
    "possible_repeats", "upstreams", "problems", "version",
}
BACKLOG_KEYS = {
    "id", "function", "unique", "priority", "state", "bytes", "age_seconds", "attempts", "failures", "due_seconds",
    "last_error", "uid",
}
# fmt: on


def test_status_of_a_running_agent(rig: Rig) -> None:
    """All keys of the contract, the numbers of what was cast, the upstream by its name."""
    (server,) = rig.serve("gearmand")
    rig.work(b"plain")
    agent = rig.agent()
    cast_all(agent.socket, b"plain", [b"done"])
    agent.await_empty()
    cast_all(agent.socket, b"nobody", [b"four", b"five5"])
    status = agent.status()
    assert status.keys() >= STATUS_KEYS
    assert (status["state"], status["accepting"], status["draining"]) == ("running", True, False)
    assert status["ready"] + status["deferred"] + status["in_flight"] == 2
    assert (status["accepted"], status["completed"]) == (3, 1)
    assert (status["payload_bytes"], status["oldest_seconds"] > 0) == (9, True)
    assert status["spool_bytes"] >= agent.spool.stat().st_size
    (upstream,) = status["upstreams"]
    assert upstream.keys() >= {"server", "state", "in_flight", "last_error"}
    assert upstream["server"] == server.address


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_status_costs_little_processor_time(rig: Rig, up: bool) -> None:
    """Whether the agent runs or not: 0.2 s where a bare start of Python takes 0.04 s."""
    rig.serve("gearmand")
    agent = rig.agent()
    cast_all(agent.socket, b"nobody", [b"x"])
    if not up:
        assert agent.term() == 0
    own = ("-c", STATUS, "--config-file", str(agent.conf), "status")
    # a ratio, in turns, for a busy machine makes both dear
    bare, status = zip(*[(_processor_s("-c", "pass"), _processor_s(*own)) for _ in range(7)], strict=True)
    assert min(status) <= 5 * min(bare)


STATUS = "import sys; from relay.cli.main import main; sys.exit(main(sys.argv[1:]))"


def _processor_s(*arguments: str) -> float:
    """Seconds of processor time that Python takes for this, its output thrown away."""
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(sys.executable, [sys.executable, *arguments], os.environ, file_actions=quiet)
    _, status, used = os.wait4(child, 0)
    assert os.waitstatus_to_exitcode(status) == DONE
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "killed"])
def test_status_and_backlog_answer_with_the_agent_down(rig: Rig, crash: bool) -> None:
    """From the spool itself: state down, the same casts and sums as before, exit 0, and stderr says so."""
    rig.serve("gearmand")
    agent = rig.agent()
    record = cast_all(agent.socket, b"nobody", [b"x", b"yy"])
    before = agent.backlog()
    if crash:
        agent.kill()
    else:
        assert agent.term() == 0
    status = agent.status()
    assert status.keys() >= STATUS_KEYS
    assert (status["state"], status["accepting"], status["upstreams"]) == ("down", False, [])
    assert (status["accepted"], status["ready"] + status["deferred"]) == (2, 2)
    assert [cast["id"] for cast in agent.backlog()] == [id_of(handle) for handle in record.handles]
    assert [cast["bytes"] for cast in agent.backlog()] == [cast["bytes"] for cast in before] == [1, 2]
    for verb in ("status", "backlog"):
        assert agent.cli(verb, "-f", "json").stderr.strip(), f"{verb} says that the agent is down"


def test_backlog_lists_casts_oldest_first_with_their_keys(rig: Rig) -> None:
    """Each cast with the contract's keys, in the order accepted; an empty backlog is an empty array."""
    rig.serve("gearmand")
    agent = rig.agent()
    assert agent.backlog() == []
    cast_all(agent.socket, b"nobody", [b"a", b"bb"], uniques=[b"u1", b""])
    cast_all(agent.socket, b"nobody2", [b"ccc"], priority="high")
    casts = agent.backlog()
    assert [cast.keys() >= BACKLOG_KEYS for cast in casts] == [True] * 3
    assert [(c["function"], c["bytes"], c["priority"]) for c in casts] == [
        ("nobody", 1, "normal"),
        ("nobody", 2, "normal"),
        ("nobody2", 3, "high"),
    ]
    assert casts[0]["unique"] == "u1"
    assert all(cast["failures"] == 0 and cast["age_seconds"] >= 0 for cast in casts)


def test_backlog_filters(rig: Rig) -> None:
    """--function takes a glob, --limit the oldest, --state and --older-than what they say."""
    rig.serve("gearmand")
    agent = rig.agent()
    for function in (b"mail.send", b"mail.sort", b"bill"):
        cast_all(agent.socket, function, [b"x", b"y"])
    assert {c["function"] for c in agent.backlog("--function", "mail.*")} == {"mail.send", "mail.sort"}
    assert [c["function"] for c in agent.backlog("--function", "bill")] == ["bill", "bill"]
    assert [c["id"] for c in agent.backlog("--limit", "3")] == [c["id"] for c in agent.backlog()[:3]]
    assert agent.backlog("--state", "dead") == []
    assert agent.backlog("--older-than", "1h") == []
    assert len(agent.backlog("--newer-than", "1h")) == 6


def test_backlog_formats(rig: Rig) -> None:
    """jsonl is an object a line, csv has a header, value has the column asked for and nothing else."""
    rig.serve("gearmand")
    agent = rig.agent()
    record = cast_all(agent.socket, b"nobody", [b"a", b"b"])
    ids = [id_of(handle) for handle in record.handles]
    lines = agent.cli("backlog", "-f", "jsonl").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ids
    rows = list(csv.DictReader(io.StringIO(agent.cli("backlog", "-f", "csv").stdout)))
    assert [int(row["id"]) for row in rows] == ids
    assert agent.cli("backlog", "-f", "value", "-c", "id").stdout.split() == [str(number) for number in ids]
    table = agent.cli("backlog")
    assert table.returncode == DONE
    assert table.stdout.count("nobody") == 2


def test_cast_takes_its_payload_from_argument_file_or_stdin(rig: Rig) -> None:
    """All three are executed byte for byte, and the handle that is printed is the cast's."""
    rig.serve("gearmand")
    rig.work(b"plain")
    agent = rig.agent()
    payload = b"from a file\0\xff\n"
    (rig.directory / "payload").write_bytes(payload)
    asked = {
        b"from an argument": agent.cli("cast", "plain", "from an argument"),
        payload: agent.cli("cast", "plain", "--file", str(rig.directory / "payload")),
        b"from stdin\n\0": agent.cli("cast", "plain", stdin=b"from stdin\n\0"),
    }
    assert [finished.returncode for finished in asked.values()] == [DONE] * 3
    ids = [id_of(finished.stdout.strip().encode()) for finished in asked.values()]
    assert ids == sorted(set(ids))
    rig.ledger.await_done(asked)
    assert sorted(rig.ledger.done()) == sorted(asked)


def test_what_changes_something_needs_the_agent(rig: Rig) -> None:
    """With the agent down cast, drain and resume exit 69, and the spool is as it was."""
    rig.serve("gearmand")
    agent = rig.agent()
    cast_all(agent.socket, b"nobody", [b"x"])
    assert agent.term() == 0
    before = agent.backlog()
    for arguments in (("cast", "plain", "x"), ("drain", "--timeout", "1"), ("resume",)):
        finished = agent.cli(*arguments)
        assert (arguments, finished.returncode) == (arguments, NOT_RUNNING)
        assert finished.stderr.strip()
    assert [cast["id"] for cast in agent.backlog()] == [cast["id"] for cast in before]
    assert agent.status()["draining"] is False


@pytest.mark.parametrize(
    "arguments", [("levitate",), ("status", "--levitate"), ("backlog", "--limit", "many"), ("cast",)]
)
def test_wrong_usage_exits_2(rig: Rig, arguments: tuple[str, ...]) -> None:
    """An unknown verb or option, a value that is none, a missing argument: 2, and stderr says what is wrong."""
    rig.serve("gearmand")
    agent = rig.agent()
    finished = agent.cli(*arguments)
    assert finished.returncode == USAGE
    assert finished.stderr.strip()


def test_drain_empties_the_spool_refuses_and_stays(rig: Rig, unique_server_kind: str) -> None:
    """Exit 0 once all is executed; new casts get ERROR draining, after a restart too; resume ends it."""
    rig.serve(unique_server_kind)
    rig.work(b"plain")
    agent = rig.agent()
    payloads = [b"plain-%d" % n for n in range(500)]
    cast_all(agent.socket, b"plain", payloads)
    finished = agent.cli("drain", "--timeout", "100", "-f", "json")
    assert finished.returncode == DONE, finished.stderr
    assert json.loads(finished.stdout)["remaining"] == 0
    assert sorted(rig.ledger.done()) == sorted(payloads)
    status = agent.status()
    assert (status["state"], status["draining"], status["accepting"]) == ("drained", True, False)
    for _ in range(2):
        assert [r.code for r in cast_all(agent.socket, b"plain", [b"late"]).refused] == ["draining"]
        assert agent.term() == 0
        agent.restart()
        assert agent.status()["draining"] is True
    assert agent.cli("drain", "--timeout", "100").returncode == DONE
    assert agent.cli("resume").returncode == DONE
    assert agent.status()["state"] == "running"
    assert cast_all(agent.socket, b"plain", [b"again"]).acknowledged == [b"again"]
    rig.ledger.await_done([b"again"])
    assert b"late" not in rig.ledger.done()


def test_drain_names_its_blockers(rig: Rig, unique_server_kind: str) -> None:
    """When time is up it exits 75 with the function, its count and a reason, stays draining, and may be asked again."""
    rig.serve(unique_server_kind)
    agent = rig.agent()
    cast_all(agent.socket, b"nobody", [b"a", b"b", b"c"])
    finished = agent.cli("drain", "--timeout", "1", "-f", "json")
    assert finished.returncode == NOT_DRAINED, finished.stderr
    answer = json.loads(finished.stdout)
    assert answer["remaining"] == 3
    (blocker,) = answer["blockers"]
    assert (blocker["function"], blocker["count"]) == ("nobody", 3)
    assert "worker" in blocker["reason"]
    assert agent.status()["state"] == "draining"
    rig.work(b"nobody")
    assert agent.cli("drain", "--timeout", "100").returncode == DONE
    assert sorted(rig.ledger.done()) == [b"a", b"b", b"c"]


def test_drain_makes_what_waits_in_backoff_due(rig: Rig, unique_server_kind: str) -> None:
    """A cast that failed once and would wait for most of an hour is executed by a drain."""
    rig.serve(unique_server_kind)
    failing = True
    rig.work(b"moody", act=lambda _payload, _try: FAIL if failing else COMPLETE)
    agent = rig.agent({"forwarder": {"backoff_initial": "1h", "backoff_max": "1h"}})
    cast_all(agent.socket, b"moody", [b"x"])
    until(lambda: agent.status()["deferred"] == 1, agent.status)
    failing = False
    assert agent.cli("drain", "--timeout", "100").returncode == DONE
    assert rig.ledger.done() == [b"x"]


def test_drain_without_waiting_and_dry_run(rig: Rig) -> None:
    """--dry-run changes nothing; --no-wait returns at once with what remains, and leaves the agent draining."""
    rig.serve("gearmand")
    agent = rig.agent()
    cast_all(agent.socket, b"nobody", [b"a"])
    agent.cli("drain", "--dry-run")
    assert agent.status()["draining"] is False
    finished = agent.cli("drain", "--no-wait", "-f", "json")
    assert json.loads(finished.stdout)["remaining"] == 1
    assert agent.status()["draining"] is True


def test_a_full_spool_is_a_problem_until_there_is_room(rig: Rig) -> None:
    """A limit that is reached stands in `problems` with its option, `accepting` is false; with room both are over."""
    rig.serve("gearmand")
    agent = rig.agent({"spool": {"max_casts": 2}})
    done = cast_all(agent.socket, b"later", [b"1", b"2", b"3"])
    assert (done.acknowledged, [refusal.code for refusal in done.refused]) == ([b"1", b"2"], ["spool_full"])
    status = agent.status()
    assert not status["accepting"]
    assert [problem["code"] for problem in status["problems"]] == ["spool_full"]
    assert "max_casts (2)" in status["problems"][0]["text"]
    rig.work(b"later")
    until(lambda: agent.status()["accepting"], agent.status)
    assert agent.status()["problems"] == []
    assert "no longer a problem: spool_full" in agent.log
