"""relay-cli doctor, on hosts that are well and on some that are not."""

import json

from tests.rig.agent import Agent
from tests.rig.callers import cast_all
from tests.rig.rig import Rig
from tests.rig.wait import until

OK, WRONG = 0, 1


def findings(agent: Agent, code: int) -> dict[str, list[tuple[str, str]]]:
    """Check -> its results with their findings."""
    finished = agent.cli("doctor", "-f", "json")
    assert finished.returncode == code, finished.stdout + finished.stderr
    found: dict[str, list[tuple[str, str]]] = {}
    for row in json.loads(finished.stdout):
        assert row["advice"] or row["result"] == "ok" or row["check"] == "intake", row
        found.setdefault(row["check"], []).append((row["result"], row["finding"]))
    return found


def test_a_host_that_is_well(rig: Rig, server_kind: str) -> None:
    """Exit 0; everything was looked at, and the server is as it was: no job, no function that it had not."""
    (server,) = rig.serve(server_kind)
    rig.work(b"plain")
    until(server.functions, "the worker is there")
    before = server.functions()
    found = findings(rig.agent(), OK)
    assert found.keys() >= {
        "configuration",
        "SQLite",
        "spool directory",
        "spool",
        "disk",
        "file system",
        "agent",
        "intake",
    }
    ((result, said),) = found[f"upstream {server.address}"]
    assert result == "ok"
    assert "answers GET_STATUS" in said
    assert "workers for 1 functions" in said
    assert server.functions() == before


def test_functions_without_workers_are_named(rig: Rig) -> None:
    """A warning each: nothing is wrong with this host."""
    rig.serve("gearmand")
    agent = rig.agent()
    cast_all(agent.socket, b"misspelt", [b"x", b"y"])
    until(lambda: "workers" in findings(agent, OK), lambda: findings(agent, OK))
    assert findings(agent, OK)["workers"] == [("warning", "2 casts of misspelt have no workers")]


def test_with_the_agent_down_the_rest_is_looked_at(rig: Rig) -> None:
    """That it does not run is a warning; a server that is away and a spool open to all are wrong: exit 1."""
    (server,) = rig.serve("gearmand")
    agent = rig.agent()
    assert agent.term() == 0
    assert [result for result, _ in findings(agent, OK)["agent"]] == ["warning"]
    server.kill()
    agent.spool.chmod(0o644)
    found = findings(agent, WRONG)
    assert found[f"upstream {server.address}"] == [("wrong", "Connection refused")]
    assert [result for result, _ in found["spool"]] == ["wrong"]


def test_a_configuration_that_is_wrong_ends_it(rig: Rig) -> None:
    """The option by its name, exit 1."""
    rig.serve("gearmand")
    agent = rig.unstarted_agent({"forwarder": {"windw": 3}})
    ((result, said),) = findings(agent, WRONG)["configuration"]
    assert result == "wrong"
    assert "[forwarder] windw is not an option" in said


def test_a_disk_that_is_too_full_is_wrong(rig: Rig) -> None:
    """By the limit that the configuration names, with the agent's own problem beside it."""
    rig.serve("gearmand")
    agent = rig.agent({"spool": {"min_free": 1 << 60}})
    found = findings(agent, WRONG)
    assert [result for result, _ in found["disk"]] == ["wrong"]
    assert any(said.startswith("disk_full: ") for _, said in found["agent"])
