"""What an operator does to casts with relay-cli: each verb against a running agent and against a stopped one."""

import json
import os
import pty
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig.agent import Agent, program
from tests.rig.callers import cast_all, id_of
from tests.rig.rig import Rig
from tests.rig.wait import until
from tests.rig.workers import COMPLETE, FAIL

NO_SERVER = {"upstream": {"servers": "127.0.0.1:9"}}
DONE, FAILED, USAGE, NOT_RUNNING, OWNED = 0, 1, 2, 69, 75


def change(agent: Agent, *arguments: str, stdin: bytes | None = None) -> dict[str, Any]:
    """A verb that changes casts, and its answer, whose sums are checked."""
    finished = agent.cli(*arguments, "-f", "json", stdin=stdin)
    assert finished.returncode == DONE, finished.stderr
    answer: dict[str, Any] = json.loads(finished.stdout)
    assert answer["skipped"] == answer["in_flight"] + answer["twins"] + answer["other"]
    assert answer["matched"] == answer["skipped"] + answer["changed"] or answer["dry_run"]
    return answer


def states(agent: Agent) -> dict[str, int]:
    """How many casts are in each state on disk."""
    found: dict[str, int] = {}
    for cast in agent.backlog():
        found[cast["state"]] = found.get(cast["state"], 0) + 1
    return found


@pytest.fixture(params=["up", "down"])
def idle(request: pytest.FixtureRequest, rig: Rig) -> Iterator[Agent]:
    """An agent with six casts of two functions and no job server; or its spool, once it has stopped."""
    agent = rig.agent(NO_SERVER)
    cast_all(agent.socket, b"mail.a", [b"0", b"1", b"2"], uniques=[b"u0", b"u1", b"u2"])
    cast_all(agent.socket, b"bill", [b"3", b"4", b"5"])
    if request.param == "down":
        assert agent.term() == 0
    yield agent
    agent.status()


def test_hold_and_release(idle: Agent) -> None:
    """By filter, by id, by handle and unique, by stdin; what is held stays held until it is released."""
    first = idle.backlog()[0]
    assert change(idle, "hold", "--function", "mail.*", "--yes")["changed"] == 3
    assert states(idle) == {"held": 3, "ready": 3}
    assert change(idle, "hold", "--function", "mail.*", "--yes")["matched"] == 0
    assert change(idle, "hold", str(first["id"]))["other"] == 1
    assert change(idle, "release", "u1", f"H:any:{first['id']}")["changed"] == 2
    assert states(idle) == {"held": 1, "ready": 5}
    ids = idle.cli("backlog", "--function", "bill", "-f", "value", "-c", "id").stdout
    assert change(idle, "hold", "-", stdin=ids.encode())["changed"] == 3
    assert change(idle, "release", "--all", "--yes")["changed"] == 4
    assert states(idle) == {"ready": 6}


def test_bury_revive_and_purge(idle: Agent) -> None:
    """Buried is dead with its reason; revived is ready; purged is gone and counted; only the dead are purged."""
    assert change(idle, "bury", "--function", "bill", "--limit", "2", "--yes")["changed"] == 2
    dead = idle.ask("dead")
    assert [(cast["function"], cast["reason"]) for cast in dead] == [("bill", "buried")] * 2
    assert idle.ask("dead", "--reasons") == [{"function": "bill", "reason": "buried", "casts": 2}]
    assert change(idle, "revive", str(dead[0]["id"]))["changed"] == 1
    assert change(idle, "purge", "--all", "--yes")["changed"] == 1
    assert change(idle, "purge", "u0")["other"] == 1
    status = idle.status()
    assert (status["purged"], status["dead"], status["accepted"]) == (1, 0, 6)
    assert states(idle) == {"ready": 5}


def test_a_dry_run_changes_nothing(idle: Agent) -> None:
    """It says what it would do, needs no --yes, and leaves every count as it was."""
    before = states(idle)
    for verb in ("hold", "bury"):
        answer = change(idle, verb, "--function", "mail.*", "--dry-run")
        assert (answer["matched"], answer["changed"], answer["dry_run"]) == (3, 0, True)
    assert states(idle) == before


def test_a_revive_skips_living_twins(idle: Agent) -> None:
    """A dead cast whose function and unique a living one has stays dead, and is counted."""
    change(idle, "bury", "u0", "u1")
    if idle.process is not None and idle.process.poll() is None:
        cast_all(idle.socket, b"mail.a", [b"again"], uniques=[b"u0"])
        answer = change(idle, "revive", "--state", "dead", "--yes")
        assert (answer["changed"], answer["twins"]) == (1, 1)
    else:
        assert change(idle, "revive", "--state", "dead", "--yes")["changed"] == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("hold",), USAGE),
        (("hold", "--function", "*"), USAGE),
        (("purge", "--all"), USAGE),
        (("bury", "u0", "--function", "x"), USAGE),
        (("release", "--all", "--function", "x"), USAGE),
        (("hold", "--until", "1h", "--all", "--yes"), USAGE),
        (("hold", "--new", "--all", "--yes"), USAGE),
        (("revive", "nothing-has-this-name"), FAILED),
        (("show", "nothing-has-this-name"), FAILED),
    ],
    ids=lambda one: "-".join(one) if isinstance(one, tuple) else "",
)
def test_what_is_not_said_clearly_is_refused(idle: Agent, arguments: tuple[str, ...], code: int) -> None:
    """Bulk without --yes where there is no terminal, no selection, two of them: 2; a name that no cast bears: 1."""
    finished = idle.cli(*arguments)
    assert (finished.returncode, bool(finished.stderr or finished.stdout)) == (code, True)
    assert states(idle) == {"ready": 6}


@pytest.mark.parametrize(("answer", "held"), [(b"y\n", 3), (b"n\n", 0), (b"\n", 0)])
def test_a_terminal_is_asked(idle: Agent, answer: bytes, held: int) -> None:
    """It says how many casts it is about, and only yes is yes."""
    keyboard, terminal = pty.openpty()
    arguments = [program("relay-cli"), "--config-file", str(idle.conf), "hold", "--function", "bill"]
    process = subprocess.Popen(arguments, stdin=terminal, stderr=terminal, stdout=subprocess.DEVNULL)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(keyboard, 4096)
    assert b"hold 3 casts?" in shown
    os.write(keyboard, answer)
    assert process.wait(60) == (DONE if held else FAILED)
    os.close(keyboard)
    os.close(terminal)
    assert states(idle).get("held", 0) == held


def test_hold_new_keeps_back_what_is_still_to_come(rig: Rig) -> None:
    """Old and new casts of the function are held, over a restart too; a release of the function ends it all."""
    rig.serve("geard")
    rig.work(b"mail", b"bill")
    agent = rig.agent()
    assert change(agent, "hold", "--function", "mail", "--new", "--yes")["changed"] == 0
    cast_all(agent.socket, b"mail", [b"1"])
    assert agent.term() == 0
    assert agent.ask("hold", "--list") == [{"function": "mail", "until": None, "held": 1}]
    agent.restart()
    cast_all(agent.socket, b"mail", [b"2"])
    cast_all(agent.socket, b"bill", [b"3"])
    rig.ledger.await_done([b"3"])
    assert agent.status()["held"] == 2
    assert [problem["code"] for problem in agent.status()["problems"]] == ["holding"]
    assert agent.ask("hold", "--list") == [{"function": "mail", "until": None, "held": 2}]
    assert change(agent, "release", "--function", "mail", "--yes")["changed"] == 2
    cast_all(agent.socket, b"mail", [b"4"])
    rig.ledger.await_done([b"1", b"2", b"4"])
    assert agent.ask("hold", "--list") == []
    assert sorted(rig.ledger.done()) == [b"1", b"2", b"3", b"4"]


def test_a_hold_of_what_is_to_come_says_so(idle: Agent) -> None:
    """In words, where none is here to be held, with the moment that it ends at; a dry run holds nothing."""
    hold = ("hold", "--function", "later", "--new", "--yes")
    assert "to come" not in idle.cli(*hold, "--dry-run").stdout
    assert idle.cli(*hold).stdout == (
        "Held 0 of 0 casts. What is still to come for later is held until it is released.\n"
    )
    assert idle.cli(*hold, "--until", "2100-01-31T06:00").stdout == (
        "Held 0 of 0 casts. What is still to come for later is held until 2100-01-31 06:00:00.\n"
    )


def test_a_hold_until_a_moment_ends_by_itself(rig: Rig) -> None:
    """At that moment what it kept back is executed; what an operator holds by name stays held."""
    rig.serve("geard")
    rig.work(b"mail")
    agent = rig.agent()
    change(agent, "hold", "--function", "mail", "--new", "--until", "2s", "--yes")
    record = cast_all(agent.socket, b"mail", [b"1", b"2"])
    assert agent.status()["held"] == 2
    change(agent, "release", str(id_of(record.handles[0])))
    change(agent, "hold", "--function", "nothing", "--yes")
    rig.ledger.await_done([b"1", b"2"])
    assert agent.ask("hold", "--list") == []


def test_nothing_held_is_sent_while_casts_stream(rig: Rig) -> None:
    """Holds in the midst of traffic: what is said to be held is not executed until it is released, then all is."""
    rig.serve("gearmand")
    rig.work(b"busy", each=2)
    agent = rig.agent()
    payloads = [b"%d" % n for n in range(6000)]
    casting = rig.cast_in_background(agent, b"busy", payloads, window=500)
    for _ in range(6):
        held = change(agent, "hold", "--function", "busy", "--yes")
        kept = [cast["id"] for cast in agent.backlog("--state", "held")]
        done = set(rig.ledger.done())
        texts = {
            json.loads(agent.cli("show", str(id_), "--payload", "-f", "json").stdout)["payload"] for id_ in kept[:5]
        }
        assert held["changed"] <= len(kept)
        assert not {text.encode() for text in texts} & done
        change(agent, "release", "--state", "held", "--yes")
    casting.join(120)
    agent.await_empty()
    assert sorted(set(rig.ledger.done())) == sorted(payloads)
    assert len(rig.ledger.done()) == len(payloads), "no link was lost: nothing was sent twice"


def test_what_is_in_flight_is_skipped(rig: Rig) -> None:
    """A cast at a worker is skipped and counted by hold and bury, and shown as in flight."""
    rig.serve("geard")
    gate = threading.Event()
    rig.work(b"slow", act=lambda _payload, _try: (gate.wait(60), COMPLETE)[1])
    agent = rig.agent()
    (handle,) = cast_all(agent.socket, b"slow", [b"x"]).handles
    until(lambda: rig.ledger.count_try(b"probe") and agent.status()["in_flight"] == 1, agent.status)
    for verb in ("hold", "bury"):
        answer = change(agent, verb, handle.decode())
        assert (answer["in_flight"], answer["changed"]) == (1, 0)
    assert agent.ask("show", handle.decode())["in_flight"] is True
    gate.set()
    rig.ledger.await_done([b"x"])


def test_retry_ends_a_backoff(rig: Rig) -> None:
    """A cast that would wait for an hour is executed now."""
    rig.serve("geard")
    failing = True
    rig.work(b"moody", act=lambda _payload, _try: FAIL if failing else COMPLETE)
    agent = rig.agent({"forwarder": {"backoff_initial": "1h", "backoff_max": "1h"}})
    cast_all(agent.socket, b"moody", [b"x"])
    until(lambda: agent.status()["deferred"] == 1, agent.status)
    shown = agent.ask("show", str(agent.backlog()[0]["id"]))
    assert [(attempt["number"], attempt["reason"]) for attempt in shown["history"]] == [(1, "work_fail")]
    assert shown["history"][0]["upstream"] == rig.servers[0].address
    failing = False
    assert change(agent, "retry", "--all", "--yes")["changed"] == 1
    rig.ledger.await_done([b"x"])


def test_show_tells_all_of_a_cast(idle: Agent) -> None:
    """By id, handle and unique the same; the payload only when asked for, as bytes with --raw."""
    first = idle.backlog()[0]
    for name in (str(first["id"]), f"H:host:{first['id']}", "u0"):
        shown = idle.ask("show", name)
        assert {**shown, "age_seconds": 0} == {**shown, **first, "age_seconds": 0}
        assert "payload" not in shown
        assert shown["key"].endswith(f"-{first['id']}")
    assert idle.ask("show", "u0", "--payload")["payload"] == "0"
    assert idle.cli("show", "u0", "--raw").stdout == "0"
    table = idle.cli("show", "u0")
    assert table.returncode == DONE
    assert "mail.a" in table.stdout


def test_an_agent_that_starts_meanwhile_keeps_its_spool(rig: Rig) -> None:
    """With no control socket to be found, and an agent that owns the spool: 75, and nothing is changed."""
    rig.serve("geard")
    agent = rig.agent()
    cast_all(agent.socket, b"nobody", [b"x"])
    nowhere = str(agent.directory / "nowhere.sock")
    finished = agent.cli("--control", nowhere, "bury", "--all", "--yes")
    assert finished.returncode == OWNED, finished.stderr
    assert agent.status()["dead"] == 0


def test_each_change_is_a_line_of_the_log(rig: Rig) -> None:
    """Who, what, which casts, how many: one line a change, none for a dry run."""
    agent = rig.agent(NO_SERVER)
    cast_all(agent.socket, b"nobody", [b"x", b"y"])
    change(agent, "hold", "--function", "no*", "--dry-run")
    change(agent, "hold", "--function", "no*", "--yes")
    line = f"uid {os.geteuid()}: hold function='no*': matched 2, changed 2, skipped 0"
    assert agent.log.count(": hold function=") == agent.log.count(line) == 1


def test_holds_of_what_is_to_come_and_their_ends_are_lines_of_the_log(rig: Rig) -> None:
    """Who held what until when; a release that ends such a hold says so; one that lapses says how many it let go."""
    agent, me = rig.agent(NO_SERVER), f"uid {os.geteuid()}"
    change(agent, "hold", "--function", "a", "--new", "--yes")
    change(agent, "hold", "--function", "b*", "--new", "--until", "@4000000000", "--yes")
    cast_all(agent.socket, b"a", [b"x"])
    change(agent, "release", "--function", "a", "--yes")
    change(agent, "release", "--all", "--yes")
    change(agent, "hold", "--function", "c", "--new", "--until", "1s", "--yes")
    cast_all(agent.socket, b"c", [b"x", b"y"])
    until(lambda: states(agent) == {"ready": 3}, "the hold lapses")
    for line in (
        f"{me}: hold new function='a'\n",
        f"{me}: hold new function='b*' until=2096-10-02T07:06:40Z\n",
        f"{me}: release function='a': matched 1, changed 1, skipped 0; ended the hold of new casts of a\n",
        f"{me}: release all: matched 0, changed 0, skipped 0; ended the hold of new casts of b*\n",
    ):
        assert agent.log.count(line) == 1, line
    until(lambda: "the hold of new casts of c lapsed: released 2\n" in agent.log, "the log says so")
