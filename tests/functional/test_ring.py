"""Several job servers: which is in use, and where a function's casts go that has workers at one of them only."""

import signal

from tests.rig.agent import Agent
from tests.rig.callers import cast_all
from tests.rig.rig import Rig
from tests.rig.servers import JobServer
from tests.rig.wait import until
from tests.rig.workers import Worker


def used(rig: Rig, agent: Agent) -> JobServer:
    """The server that is in use, once there is one."""
    found = until(lambda: [one["server"] for one in agent.ask("upstreams") if one["role"] == "in use"], agent.log_tail)
    return next(server for server in rig.servers if server.address == found[0])


def other(rig: Rig, server: JobServer) -> JobServer:
    """The other one of two."""
    (found,) = [one for one in rig.servers if one is not server]
    return found


def test_a_function_goes_where_its_workers_are(rig: Rig, server_kind: str) -> None:
    """Two servers; the one in use has no worker for one of two functions, the other has: everything is executed."""
    rig.serve(server_kind, count=2)
    agent = rig.agent()
    here = used(rig, agent)
    there = other(rig, here)
    rig.work(b"here", servers=[here])
    rig.work(b"there", servers=[there])
    payloads = {function: [b"%b/%d" % (function, n) for n in range(500)] for function in (b"here", b"there")}
    for function, casts in payloads.items():
        assert cast_all(agent.socket, function, casts).acknowledged == casts
    for casts in payloads.values():
        rig.ledger.await_done(casts)
    agent.await_empty()
    assert {e.port for e in rig.ledger.tries(b"there")} == {there.port}
    assert {e.port for e in rig.ledger.tries(b"here")} == {here.port}
    assert agent.status()["possible_repeats"] <= len(payloads[b"there"])


def test_what_waits_where_no_worker_is_is_sent_where_one_is(rig: Rig, server_kind: str) -> None:
    """Casts in flight when their workers go away, and come up elsewhere: executed there, each retired once."""
    rig.serve(server_kind, count=2)
    agent = rig.agent()
    here = used(rig, agent)
    (worker,) = rig.work(b"moves", servers=[here])
    cast_all(agent.socket, b"moves", [b"first"])
    rig.ledger.await_done([b"first"])
    worker.stop()
    # it moves still, as far as relay knows: these go out, and wait
    waiting = [b"%d" % n for n in range(5)]
    cast_all(agent.socket, b"moves", waiting)
    until(lambda: here.queued(b"moves") == len(waiting), agent.log_tail)
    rig.work(b"moves", servers=[other(rig, here)])
    rig.ledger.await_done(waiting)
    agent.await_empty()
    status = agent.status()
    assert (status["completed"], status["dead"]) == (1 + len(waiting), 0)
    # the ones that wait there still are executed when a worker comes, and change nothing
    rig.work(b"moves", servers=[here])
    until(lambda: here.queued(b"moves") == 0, agent.log_tail)
    cast_all(agent.socket, b"moves", [b"last"])
    rig.ledger.await_done([b"last"])
    agent.await_empty()
    assert agent.status()["completed"] == 2 + len(waiting)


def test_round_robin_deals_casts_out_to_all(rig: Rig, server_kind: str) -> None:
    """Each of two servers gets a good part, and what one had in flight when it dies is executed at the other."""
    rig.serve(server_kind, count=2)
    rig.work(b"spread", each=2)
    agent = rig.agent({"forwarder": {"rotation": "round_robin"}})
    until(lambda: all(one["state"] == "healthy" for one in agent.status()["upstreams"]), agent.log_tail)
    payloads = [b"%d" % n for n in range(1000)]
    cast_all(agent.socket, b"spread", payloads)
    rig.ledger.await_done(payloads)
    by_port = [len([e for e in rig.ledger.tries() if e.port == server.port]) for server in rig.servers]
    assert min(by_port) > len(payloads) // 5
    rig.servers[0].kill()
    more = [b"more-%d" % n for n in range(500)]
    cast_all(agent.socket, b"spread", more)
    rig.ledger.await_done(more)
    agent.await_empty()


def upstream(agent: Agent, server: JobServer) -> dict[str, object]:
    """What relay-cli says of a server."""
    (found,) = [one for one in agent.ask("upstreams") if one["server"] == server.address]
    return dict(found)


def held_worker(rig: Rig, here: JobServer, there: JobServer) -> Worker:
    """The worker at `here`, which keeps its next job; the one at `there` does not. Both are known to their servers."""
    (worker,) = rig.work(b"f", servers=[here])
    rig.work(b"f", servers=[there])
    worker.hold()
    until(lambda: here.status(b"f").workers and there.status(b"f").workers, "both servers have a worker")
    return worker


def test_a_paused_server_gets_nothing_new_and_finishes_what_it_has(rig: Rig, server_kind: str) -> None:
    """Paused while a job runs: new casts go to the other one, the job ends there; a restart changes nothing."""
    rig.serve(server_kind, count=2)
    agent = rig.agent()
    here = used(rig, agent)
    there = other(rig, here)
    worker = held_worker(rig, here, there)
    cast_all(agent.socket, b"f", [b"held"])
    assert worker.holding.wait(60)
    paused = agent.cli("upstreams", "pause", here.address)
    assert (paused.returncode, paused.stderr) == (0, "")
    assert f"{here.address} is paused." in paused.stdout
    payloads = [b"%d" % n for n in range(100)]
    cast_all(agent.socket, b"f", payloads)
    rig.ledger.await_done(payloads)
    assert {e.port for e in rig.ledger.tries()} == {there.port}
    # one that is left can be used: a warning, and nothing is wrong
    assert [one["code"] for one in agent.status()["problems"]] == ["upstreams_paused"]
    assert agent.cli("doctor").returncode == 0
    assert (upstream(agent, here)["state"], upstream(agent, here)["in_flight"]) == ("paused", 1)
    worker.let_go()
    agent.await_empty()
    assert len(rig.ledger.tries()) == 1 + len(payloads)
    assert f"pause upstream {here.address}" in agent.log
    assert agent.term() == 0

    down = agent.cli("upstreams", "-f", "value", "-c", "server", "-c", "state")
    assert f"{here.address} paused" in down.stdout
    agent.restart()
    cast_all(agent.socket, b"f", [b"after"])
    rig.ledger.await_done([b"after"])
    assert rig.ledger.tries()[-1].port == there.port
    assert agent.ask("upstreams", "resume", here.address)[0]["state"] != "paused"
    assert "was already resumed" in agent.cli("upstreams", "resume", here.address).stdout


def test_a_paused_server_that_dies_is_said_to_be_lost(rig: Rig) -> None:
    """The log has how much was in doubt there, as for any other; the casts are executed elsewhere."""
    rig.serve("gearmand", count=2)
    agent = rig.agent()
    here = used(rig, agent)
    (worker,) = rig.work(b"f", servers=[here])
    worker.hold()
    cast_all(agent.socket, b"f", [b"held"])
    assert worker.holding.wait(60)
    assert agent.cli("upstreams", "pause", here.address).returncode == 0
    here.kill()
    until(lambda: f"upstream {here.address} is lost" in agent.log, agent.log_tail)
    assert "in doubt, and to go out again: 1;" in agent.log
    rig.work(b"f", servers=[other(rig, here)])
    agent.await_empty()


def test_with_every_server_paused_casts_wait_and_say_why(rig: Rig) -> None:
    """Nothing is lost, the drain's blockers name it, a resume ends it; a server that is none is refused."""
    (server,) = rig.serve("gearmand")
    rig.work(b"f")
    agent = rig.agent()
    assert agent.cli("upstreams", "pause", server.address).returncode == 0
    cast_all(agent.socket, b"f", [b"x"])
    blocked = agent.ask("drain", "--dry-run")["blockers"]
    assert [one["reason"] for one in blocked] == ["upstreams paused"]
    problems = {one["code"]: one["text"] for one in agent.status()["problems"]}
    assert problems["upstreams_down"] == f"{server.address}: paused"
    assert server.address in problems["upstreams_paused"]
    doctor = agent.cli("doctor", "-f", "value", "-c", "result", "-c", "finding")
    assert doctor.returncode == 1
    assert f"wrong upstreams_down: {server.address}: paused" in doctor.stdout
    assert agent.cli("upstreams", "pause", "nowhere:1").returncode == 1
    assert agent.cli("upstreams", "pause").returncode == 2
    assert agent.cli("upstreams", "resume", server.address).returncode == 0
    rig.ledger.await_done([b"x"])
    agent.await_empty()
    assert agent.status()["problems"] == []


def test_tries_that_failed_are_told_of_once(rig: Rig) -> None:
    """A server that was reached after tries is in use again after a pause: nothing was tried for that."""
    (server,) = rig.serve("gearmand")
    server.kill()
    agent = rig.agent()
    until(lambda: "cannot be reached" in agent.log, agent.log_tail)
    server.start()
    used(rig, agent)
    for verb in ("pause", "resume"):
        assert agent.cli("upstreams", verb, server.address).returncode == 0
    until(lambda: agent.log.count("is in use") == 2, agent.log_tail)
    assert agent.log.count("is in use: reached after") == 1


def test_a_server_that_asks_for_grace_is_left_so_that_it_ends(rig: Rig) -> None:
    """gearmand after SIGUSR1: the running job ends there, new casts go to the other one, and the server is gone."""
    rig.serve("gearmand", count=2)
    for server in rig.servers:
        server.kill()
    agent = rig.agent()
    # a function nobody works on makes relay ask often, and so notice soon; never sent, it keeps no server from ending
    cast_all(agent.socket, b"nobody", [b"x"])
    for server in rig.servers:
        server.restart()
    here = used(rig, agent)
    there = other(rig, here)
    worker = held_worker(rig, here, there)
    cast_all(agent.socket, b"f", [b"held"])
    assert worker.holding.wait(60)
    assert here.process
    here.process.send_signal(signal.SIGUSR1)
    until(lambda: "so it wants to end" in agent.log, agent.log_tail)
    payloads = [b"%d" % n for n in range(100)]
    cast_all(agent.socket, b"f", payloads)
    rig.ledger.await_done(payloads)
    worker.let_go()
    rig.ledger.await_done([b"held"])
    assert rig.ledger.tries(b"f")[-1].port == here.port
    worker.stop()
    until(lambda: here.process and here.process.poll() is not None, agent.log_tail)
    assert agent.status()["possible_repeats"] == 0
    assert len(rig.ledger.tries()) == 1 + len(payloads)
