"""relay-cli shape, with the agent up and down."""

import json

import pytest

from tests.rig.callers import cast_all
from tests.rig.rig import Rig

USAGE = 2


def test_the_shape_is_that_of_the_backlog(rig: Rig) -> None:
    """TOTAL first, the largest function next, T the sum of its row; the same from disk; filters and buckets hold."""
    rig.serve("gearmand")
    agent = rig.agent()
    cast_all(agent.socket, b"few", [b"x"])
    cast_all(agent.socket, b"many", [b"x"] * 5, priority="high")
    cast_all(agent.socket, b"many", [b"x"] * 4)
    up = agent.ask("shape", "--first", "1h")
    assert [(row["function"], row["T"], row["1h"]) for row in up] == [("TOTAL", 10, 10), ("many", 9, 9), ("few", 1, 1)]
    assert list(up[0]) == ["function", "T", *[f"{2**n}h" for n in range(9)], "256h+"]
    assert [row["T"] for row in agent.ask("shape", "--function", "f*")] == [1, 1]
    assert [row["T"] for row in agent.ask("shape", "--state", "dead")] == [0]
    assert list(agent.ask("shape", "--buckets", "1")[0]) == ["function", "T", "0s+"]
    assert agent.cli("shape", "-f", "value", "-c", "T").stdout.split() == ["10", "9", "1"]
    for wrong in (("--buckets", "0"), ("--buckets", "99"), ("--first", "0"), ("--limit", "3")):
        assert agent.cli("shape", *wrong).returncode == USAGE
    assert agent.term() == 0
    finished = agent.cli("shape", "--first", "1h", "-f", "json")
    assert json.loads(finished.stdout) == up
    assert "agent not running" in finished.stderr


@pytest.mark.parametrize("query", ["first=0", "buckets=0", "buckets=x", "first=nan", "limit=1", "colour=red"])
def test_buckets_that_are_none_are_refused(rig: Rig, query: str) -> None:
    """400 with a sentence, over the control socket."""
    from pathlib import Path

    from relay.cli.ask import Agent
    from relay.cli.exits import Failed

    rig.serve("gearmand")
    agent = rig.agent()
    with pytest.raises(Failed, match="bad_filter"):
        Agent(Path(agent.control)).ask("GET", f"/v1/shape?{query}")
