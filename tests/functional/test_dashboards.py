"""What packaging/ has for monitoring: rules that promtool takes and tests, and no metric that relay does not export."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.callers import cast_all
from tests.rig.rig import Rig

PACKAGING = Path(__file__).parents[2] / "packaging"
RULES = PACKAGING / "prometheus" / "relay.rules.yaml"
DASHBOARD = PACKAGING / "grafana" / "relay.json"
METRIC = re.compile(r"\b(?:relay|process)_[a-z0-9_]+")


@pytest.fixture
def promtool() -> str:
    """The program."""
    return shutil.which("promtool") or pytest.skip("promtool is not installed")


def run(*command: str) -> str:
    """What it printed; AssertionError unless it exits 0."""
    finished = subprocess.run(command, cwd=RULES.parent, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def expressions() -> Iterator[str]:
    """Every expression of the dashboard, and the text of the rules."""
    yield "".join([line for line in RULES.read_text().splitlines(keepends=True) if not line.startswith("#")])
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from [target["expr"] for target in panel["targets"]]


def test_the_rules_are_sound(promtool: str) -> None:
    """promtool finds no fault with them."""
    assert "SUCCESS" in run(promtool, "check", "rules", RULES.name)


def test_each_alert_fires_when_it_should_and_not_before(promtool: str) -> None:
    """The tests beside the rules pass, and each alert is in them."""
    assert "SUCCESS" in run(promtool, "test", "rules", "relay.rules.test.yaml")
    tests = (RULES.parent / "relay.rules.test.yaml").read_text()
    alerts = re.findall(r"alert: (\w+)", RULES.read_text())
    assert len(alerts) > 5
    assert [
        alert for alert in alerts if f'alertname="{alert}"' not in tests and f"alertname: {alert}\n" not in tests
    ] == []


def test_each_metric_that_is_asked_for_is_exported(rig: Rig) -> None:
    """Rules and dashboard name what a running agent has; a panel over nothing would look like peace."""
    rig.serve("gearmand")
    agent = rig.agent()
    cast_all(agent.socket, b"nobody", [b"x"])
    exported = set(METRIC.findall(agent.cli("status", "-f", "prometheus").stdout))
    asked = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert len(asked) > 10
    # a label's values are there only once they were counted, but the name always is
    assert sorted(asked - exported) == []


def test_the_dashboard_can_be_imported() -> None:
    """Panels with ids of their own that do not lie over one another, and each asks the data source of the variable."""
    board = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        assert grid["x"] + grid["w"] <= 24
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
