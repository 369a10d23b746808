"""Metrics and health from outside: over the control socket, over TCP, and through relay-cli, against what was cast."""

import http.client
import json
import os
import signal
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.rig.agent import Agent
from tests.rig.callers import cast_all
from tests.rig.rig import Rig
from tests.rig.servers import HOST, free_port
from tests.rig.wait import until
from tests.rig.workers import COMPLETE, FAIL

Samples = dict[tuple[str, str], float]


def samples(text: str) -> Samples:
    """(name, value of its label) -> number."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, ",".join(sample.labels.values())] = sample.value
    return found


def scraped(agent: Agent) -> Samples:
    """What relay-cli prints for the textfile collector."""
    finished = agent.cli("status", "-f", "prometheus")
    assert finished.returncode == 0, finished.stderr
    return samples(finished.stdout)


@pytest.fixture
def port() -> int:
    """A port to listen on."""
    return free_port()


def get(port: int, path: str, method: str = "GET") -> tuple[int, str, str]:
    """Status, content type and body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()
    finally:
        connection.close()


def test_metrics_are_the_counts_of_the_spool(rig: Rig) -> None:
    """Accepted, completed by upstream, failed and refused by reason, backlog by state, time to completion: as cast."""
    (server,) = rig.serve("gearmand")
    rig.work(b"plain")
    rig.work(b"moody", act=lambda _payload, tries: FAIL if tries == 1 else COMPLETE)
    agent = rig.agent({"intake": {"max_payload": 100}})
    cast_all(agent.socket, b"plain", [b"%d" % n for n in range(50)])
    cast_all(agent.socket, b"moody", [b"x"])
    agent.await_empty()
    cast_all(agent.socket, b"nobody", [b"four", b"five5"])
    assert [refusal.code for refusal in cast_all(agent.socket, b"plain", [b"y" * 101]).refused] == ["payload_too_large"]
    agent.cli("drain", "--no-wait")
    assert [refusal.code for refusal in cast_all(agent.socket, b"plain", [b"late"]).refused] == ["draining"]
    said = scraped(agent)
    assert said["relay_casts_accepted_total", ""] == 53
    assert said["relay_casts_completed_total", server.address] == said["relay_casts_retired_total", ""] == 51
    assert said["relay_casts_rejected_total", "payload_too_large"] == 1
    assert said["relay_casts_rejected_total", "draining"] == 1
    assert said["relay_attempts_failed_total", "work_fail"] == 1
    assert said["relay_backlog_casts", "ready"] + said["relay_backlog_casts", "in_flight"] == 2
    assert said["relay_backlog_bytes", ""] == 9
    assert said["relay_function_backlog_casts", "nobody"] == 2
    assert said["relay_upstream_up", server.address] == 1
    assert (said["relay_draining", ""], said["relay_accepting", ""]) == (1, 0)
    assert said["relay_completion_seconds_count", ""] == 51
    assert said["relay_batch_casts_sum", ""] == 53
    assert said["relay_commit_seconds_count", ""] >= said["relay_batch_casts_count", ""] > 0
    assert said["process_resident_memory_bytes", ""] > 0


def test_what_the_spool_counts_survives_a_restart_and_is_there_without_an_agent(rig: Rig) -> None:
    """After a kill and a restart the totals go on; with the agent down they are read from disk, and stderr says so."""
    rig.serve("gearmand")
    rig.work(b"plain")
    agent = rig.agent()
    cast_all(agent.socket, b"plain", [b"1", b"2"])
    agent.await_empty()
    cast_all(agent.socket, b"nobody", [b"3"])
    agent.kill()
    finished = agent.cli("status", "-f", "prometheus")
    assert "agent not running" in finished.stderr
    down = samples(finished.stdout)
    assert (down["relay_casts_accepted_total", ""], down["relay_backlog_casts", "ready"]) == (3, 1)
    assert down["relay_accepting", ""] == 0
    assert down["relay_disk_free_bytes", ""] > 0
    assert down["relay_function_backlog_casts", "nobody"] == 1
    agent.restart()
    up = scraped(agent)
    assert (up["relay_casts_accepted_total", ""], up["relay_casts_retired_total", ""]) == (
        3,
        down["relay_casts_retired_total", ""],
    )


def test_the_port_serves_metrics_and_health_and_nothing_else(rig: Rig, port: int) -> None:
    """Both with their types; every other path is 404 and every change 405, so that nobody reads or drains over it."""
    rig.serve("gearmand")
    agent = rig.agent({"control": {"metrics_listen": f"{HOST}:{port}"}})
    cast_all(agent.socket, b"nobody", [b"x"])
    status, kind, body = get(port, "/metrics")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    assert samples(body)["relay_casts_accepted_total", ""] == 1
    status, kind, body = get(port, "/health")
    assert (status, kind, json.loads(body)["status"]) == (200, "application/health+json", "pass")
    assert [get(port, path)[0] for path in ("/v1/status", "/v1/casts", "/v1/drain", "/")] == [404] * 4
    assert get(port, "/v1/drain", "POST")[0] == 404
    assert get(port, "/metrics", "POST")[0] == 405
    assert agent.status()["draining"] is False


def test_a_port_that_is_taken_ends_the_start(rig: Rig, port: int) -> None:
    """73 and one line that names the option: monitoring that silently is not there is worse."""
    rig.serve("gearmand")
    rig.agent({"control": {"metrics_listen": f"{HOST}:{port}"}})
    second = rig.unstarted_agent({"control": {"metrics_listen": f"{HOST}:{port}"}})
    second.spawn()
    assert second.wait() == os.EX_CANTCREAT
    assert f"[control] metrics_listen {HOST}:{port}: " in second.log


def test_an_upstream_that_is_down_is_a_warning(rig: Rig, port: int) -> None:
    """200 with warn, and the server by its name: an orchestrator must not restart an agent for it."""
    (server,) = rig.serve("gearmand")
    rig.agent({"control": {"metrics_listen": f"{HOST}:{port}"}})
    until(lambda: json.loads(get(port, "/health")[2])["status"] == "pass", "the agent is well")
    server.kill()
    until(lambda: json.loads(get(port, "/health")[2])["status"] == "warn", "the server is missed")
    status, _, body = get(port, "/health")
    assert status == 200
    (check,) = json.loads(body)["checks"]["upstream:connected"]
    assert (check["componentId"], check["status"]) == (server.address, "warn")


def test_an_agent_that_hangs_is_told_in_bounded_time(rig: Rig) -> None:
    """status of a stopped agent ends by itself, with 1 and a line that names its pid; --patience says how soon."""
    rig.serve("gearmand")
    agent = rig.agent()
    agent.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        finished = agent.cli("--patience", "100ms", "status")
        took = time.monotonic() - began
    finally:
        agent.signal(signal.SIGCONT)
    assert finished.returncode == 1
    assert agent.process
    assert f"(pid {agent.process.pid}) has not answered for 0.1 s" in finished.stderr
    assert took < 55, "far less than the minute that other verbs wait"
