"""A backlog that moves from one host's spool to another's: nothing lost, nothing twice, keys kept."""

import json
from pathlib import Path

import pytest

from tests.rig.agent import Agent
from tests.rig.callers import cast_all
from tests.rig.rig import Rig
from tests.rig.wait import until

DONE, FAILED = 0, 1
NO_SERVER = {"upstream": {"servers": "127.0.0.1:9"}}
MESSAGE_ID = b"0123456789abcdef0123456789abcdef"


def fill(agent: Agent) -> None:
    """Casts of every kind: with uniques, a message id, bytes that are no text, priorities, held and dead ones."""
    cast_all(agent.socket, b"mail", [b"plain", b"named", b"\0\xff binary"], uniques=[b"", b"order-\xff", MESSAGE_ID])
    cast_all(agent.socket, b"mail", [b"high"], priority="high")
    cast_all(agent.socket, b"bill", [b"held", b"dead"], uniques=[b"held-1", b"dead-1"])
    assert agent.cli("hold", "held-1").returncode == DONE
    assert agent.cli("bury", "dead-1").returncode == DONE


def export(agent: Agent, path: Path, *more: str) -> list[dict[str, object]]:
    """Export into a file, and its lines."""
    finished = agent.cli("export", *more)
    assert finished.returncode == DONE, finished.stderr
    path.write_text(finished.stdout)
    return [json.loads(line) for line in finished.stdout.splitlines()]


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_a_backlog_moves_without_loss(rig: Rig, up: bool) -> None:
    """Out here, in there, purged here: each cast is executed there once, under the key it had here."""
    old = rig.agent(NO_SERVER)
    fill(old)
    if not up:
        assert old.term() == 0
    path = rig.directory / "backlog.jsonl"
    lines = export(old, path, "--hold")
    assert len(lines) == 5, "all but the dead one"
    assert {line["state"] for line in lines} == {"ready", "held"}
    assert old.status()["held"] == 5
    rig.serve("gearmand")
    rig.work(b"mail", b"bill")
    new = rig.agent()
    if not up:
        assert new.term() == 0
    for times in range(2):
        finished = new.cli("import", str(path), "-f", "json")
        assert finished.returncode == DONE, finished.stderr
        said = json.loads(finished.stdout)
        assert (said["imported"], said["repeated"]) == ((5, 0) if not times else (0, 5))
    assert json.loads(old.cli("purge", "--exported", "--yes", "-f", "json").stdout)["changed"] == 5
    status = old.status()
    assert (status["held"], status["dead"], status["purged"]) == (0, 1, 5)
    if not up:
        new.restart()
    payloads = [b"plain", b"named", b"\0\xff binary", b"high"]
    rig.ledger.await_done(payloads)
    assert sorted(rig.ledger.done()) == sorted(payloads), "what was held is held here too"
    keys = {execution.payload: execution.key.decode() for execution in rig.ledger.tries()}
    exported = {str(line.get("payload")): line["key"] for line in lines}
    assert keys[b"plain"] == exported["plain"]
    assert keys[b"\0\xff binary"] == MESSAGE_ID.decode()
    assert new.cli("release", "held-1").returncode == DONE
    rig.ledger.await_done([b"held"])
    again = new.cli("import", str(path), "-f", "json")
    assert json.loads(again.stdout)["repeated"] == 5, "a line is one cast even when that is done"


def test_what_waits_at_a_server_without_workers_moves_once_the_agent_has_stopped(rig: Rig) -> None:
    """It is in flight and cannot be called back, so an export leaves it out and says so; nothing is in flight then."""
    rig.serve("gearmand")
    old = rig.agent()
    cast_all(old.socket, b"nobody", [b"1", b"2"])
    until(lambda: old.status()["in_flight"] == 2, "both in flight")
    finished = old.cli("export", "--hold")
    assert (finished.stdout, finished.stderr) == ("", "exported 0 casts, 2 left out because they are in flight\n")
    assert old.term() == 0
    path = rig.directory / "backlog.jsonl"
    assert [line["payload"] for line in export(old, path, "--hold")] == ["1", "2"]
    new = rig.agent(NO_SERVER)
    assert json.loads(new.cli("import", str(path), "-f", "json").stdout)["imported"] == 2
    assert new.status()["ready"] == 2
    assert old.cli("purge", "--exported", "--yes").returncode == DONE
    assert old.status()["held"] == 0


def test_an_export_says_how_many_of_those_named_are_not_here(rig: Rig) -> None:
    """With the agent up and down: a list of casts to be moved loses none silently; 1 where none was found."""
    agent = rig.agent(NO_SERVER)
    cast_all(agent.socket, b"f", [b"1"])
    (cast,) = agent.backlog()
    for _ in range(2):
        some, none = agent.cli("export", "--hold", str(cast["id"]), "nope"), agent.cli("export", "nope")
        assert (some.returncode, some.stderr.splitlines()[-1]) == (DONE, "exported 1 cast, 1 not found")
        assert (none.returncode, none.stderr.splitlines()[-1]) == (1, "exported 0 casts, 1 not found")
        agent.term()


def test_an_export_without_hold_changes_nothing(rig: Rig) -> None:
    """It is a copy, of the dead too; imported where it came from it is known."""
    agent = rig.agent(NO_SERVER)
    fill(agent)
    path = rig.directory / "copy.jsonl"
    before = agent.status()
    lines = export(agent, path)
    assert sorted(str(line["state"]) for line in lines) == ["dead", "held", "ready", "ready", "ready", "ready"]
    assert len(export(agent, path, "--function", "bill", "--state", "held")) == 1
    assert json.loads(agent.cli("import", str(path), "-f", "json").stdout)["repeated"] == 1
    after = agent.status()
    assert [after[name] for name in ("ready", "held", "dead")] == [before[name] for name in ("ready", "held", "dead")]


def test_a_line_that_is_none_is_named_and_takes_nothing_in(rig: Rig) -> None:
    """Exit 1, the number of the line, and no cast of its piece."""
    agent = rig.agent(NO_SERVER)
    for line in (b'{"function": "f"}', b"no json", b'{"function": "a b", "payload": ""}', b'{"payload": "x"}'):
        finished = agent.cli("import", stdin=b'{"function": "f", "payload": "x"}\n' + line + b"\n")
        assert (finished.returncode, "line 2" in finished.stderr) == (FAILED, True), finished.stderr
    assert agent.status()["accepted"] == 0


def test_an_import_is_refused_where_casts_are(rig: Rig) -> None:
    """A draining agent takes none in, and a limit that would be passed refuses the piece whole."""
    agent = rig.agent({**NO_SERVER, "spool": {"max_casts": 2}})
    lines = b"".join(b'{"function": "f", "payload": "%d"}\n' % n for n in range(3))
    finished = agent.cli("import", stdin=lines)
    assert (finished.returncode, "spool_full" in finished.stderr) == (FAILED, True)
    agent.cli("drain", "--no-wait")
    finished = agent.cli("import", stdin=lines[: lines.index(b"\n") + 1])
    assert (finished.returncode, "draining" in finished.stderr) == (FAILED, True)
    assert agent.status()["accepted"] == 0


def test_dead_casts_are_purged_once_kept_for_long_enough(rig: Rig) -> None:
    """After [spool] keep_dead they are gone and counted; nothing else is."""
    agent = rig.agent({**NO_SERVER, "spool": {"keep_dead": "1s"}})
    cast_all(agent.socket, b"f", [b"1", b"2"], uniques=[b"one", b"two"])
    assert agent.cli("bury", "one").returncode == DONE
    assert agent.term() == 0
    agent.restart()
    until(lambda: agent.status()["purged"] == 1 or (agent.term() == 0 and agent.restart()), agent.status, pause=0.5)
    status = agent.status()
    assert (status["dead"], status["ready"], status["purged"]) == (0, 1, 1)
