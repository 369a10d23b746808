"""What was in flight when something went away, and what waits while nothing is there."""

import signal
import threading
from itertools import count
from pathlib import Path

from tests.rig import counts
from tests.rig.agent import Agent
from tests.rig.cable import Cable
from tests.rig.callers import cast_all
from tests.rig.packets import Stream, submission
from tests.rig.rig import Rig
from tests.rig.servers import JobServer
from tests.rig.wait import until

MIB = 1024 * 1024
WINDOW = "from relay.forwarder import window"


def test_none_of_what_was_in_flight_is_never_executed(rig: Rig, server_kind: str) -> None:
    """60 casts in flight, 3 of them running, the connection reset, over and over: each cast is executed, and retired.

    With a unique that was used before, gearmand would take the 57 again and execute none of them.
    """
    turns = counts.count("RESETS", 3, 10)
    (server,) = rig.serve(server_kind)
    cable = Cable(server)
    workers = rig.work(b"f", each=3)
    agent = rig.unstarted_agent()
    agent.configure({"upstream": {"servers": cable.address}})
    agent.start()
    try:
        for turn in range(turns):
            # the function's window opens wide; idle for two seconds it would be narrow again
            first = [b"%d/first-%d" % (turn, n) for n in range(100)]
            cast_all(agent.socket, b"f", first)
            rig.ledger.await_done(first)
            for worker in workers:
                worker.holding.clear()
                worker.hold()
            payloads = [b"%d/%d" % (turn, n) for n in range(60)]
            cast_all(agent.socket, b"f", payloads)
            until(lambda: server.status(b"f")[:2] == (60, 3), lambda: f"{server.status(b'f')}\n{agent.log_tail()}")
            cable.cut()
            until(lambda turn=turn: agent.log.count(" is lost: ") > turn, agent.log_tail)
            # they are there again before a worker takes a job of the old link and the server forgets it
            until(lambda: agent.status()["in_flight"] >= 8, agent.log_tail)
            for worker in workers:
                worker.let_go()
            rig.ledger.await_done(payloads)
            agent.await_empty()
            until(lambda: server.status(b"f").total == 0, agent.log_tail)
    finally:
        cable.close()
    status = agent.status()
    assert (status["completed"], status["dead"]) == (160 * turns, 0)
    # 3 of each turn ran to their end without anybody who listened
    assert len(rig.ledger.tries()) <= (160 + 3) * turns


def test_a_cast_that_kills_each_link_is_dead_and_the_others_are_executed(rig: Rig, server_kind: str) -> None:
    """What is sent beside it is acquitted; it ends dead with `kills_link`, and the link holds from then on."""
    (server,) = rig.serve(server_kind)
    cable = Cable(server)
    rig.work(b"f")
    agent = rig.unstarted_agent()
    agent.configure({"upstream": {"servers": cable.address}})
    agent.start()
    cable.poison = b"poison"
    try:
        payloads = [b"%d" % n for n in range(20)]
        cast_all(agent.socket, b"f", [*payloads[:4], b"poison", *payloads[4:]])
        rig.ledger.await_done(payloads)
        (dead,) = until(lambda: agent.backlog("--state", "dead"), agent.log_tail)
        assert "each link that it was sent on alone was lost" in dead["last_error"]
        agent.await_empty()
        lost = agent.log.count(" is lost: ")
        more = [b"more-%d" % n for n in range(100)]
        cast_all(agent.socket, b"f", more)
        rig.ledger.await_done(more)
        agent.await_empty()
        assert agent.log.count(" is lost: ") == lost
    finally:
        cable.close()
    status = agent.status()
    assert (status["completed"], status["dead"], status["failures"]) == (120, 1, 0)


def resident(agent: Agent) -> int:
    """Bytes that an agent has in memory."""
    assert agent.process
    lines = Path(f"/proc/{agent.process.pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def test_ten_thousand_functions_without_workers_delay_none_that_has_some(rig: Rig) -> None:
    """Its casts take at most twice as long as they do on an agent without the others, which stays under 100 MiB."""
    rig.serve("gearmand")
    rig.work(b"moving")
    alone, beside = rig.agent(), rig.agent()
    with Stream(beside.socket) as stream:
        for hundred in range(100):
            stream.send(b"".join(submission(b"standing-%d" % (100 * hundred + n), b"x" * 1000) for n in range(100)))
            for _ in range(100):
                stream.read()
    numbers = count()

    def timed(agent: Agent) -> float:
        """Seconds from the first submission to the last execution."""
        payloads = [b"%d" % next(numbers) for _ in range(1000)]
        before = len(rig.ledger.executions)
        cast_all(agent.socket, b"moving", payloads)
        rig.ledger.await_done(payloads)
        executions = [e.at for e in rig.ledger.executions[before:]]
        return max(executions) - min(executions)

    # in turn, since others use the machine, too: what each took at its best is what it takes
    took = [(timed(alone), timed(beside)) for _ in range(8)]
    # what a worker has done is retired a moment later
    until(lambda: (now := beside.status())["ready"] + now["in_flight"] == 10_000, beside.status)
    assert resident(beside) < 100 * MIB
    assert min(two for _, two in took[1:]) < 2 * min(one for one, _ in took[1:]), took


class Watch(threading.Thread):
    """Looks again and again at how many jobs each server holds."""

    def __init__(self, servers: list[JobServer]) -> None:
        """It looks from now on."""
        super().__init__(daemon=True)
        self.servers = servers
        self.most = 0
        self.looks = 0
        self._ending = threading.Event()
        self.start()

    def run(self) -> None:
        """A look at each, and a pause."""
        while not self._ending.wait(0.005):
            for server in self.servers:
                try:
                    held = sum(status.total for status in server.functions().values())
                except OSError:
                    continue
                self.most = max(self.most, held)
                self.looks += held > 0

    def end(self) -> None:
        """No more looks."""
        self._ending.set()
        self.join()


def test_what_gathered_while_all_servers_were_away_is_drained_within_the_window(rig: Rig, server_kind: str) -> None:
    """Three servers down while callers cast as fast as they can, then back: at no moment more than `window` at any.

    Not for the functions either that are cast for the first time meanwhile.
    """
    window, functions = 100, [b"f", b"g", b"h"]
    fresh = [b"fresh-%d" % number for number in range(20)]
    rig.serve(server_kind, count=3)
    rig.work(*functions, *fresh, each=2)
    # on a machine so slow that a worker is silent for long, functions do not count as stalled all the same
    agent = rig.agent({"forwarder": {"window": window}}, prelude=f"{WINDOW}; window.STALL_S = 600")
    for function in functions:
        cast_all(agent.socket, function, [b"%b/first-%d" % (function, n) for n in range(200)])
    agent.await_empty()
    for server in rig.servers:
        server.kill()
    payloads = {function: [b"%b/%d" % (function, n) for n in range(1500)] for function in functions}
    for function, casts in payloads.items():
        assert cast_all(agent.socket, function, casts, window=1000).acknowledged == casts
    watch = Watch(rig.servers)
    for server in rig.servers:
        server.restart()
    until(lambda: len(rig.ledger.executions) > 1000, agent.log_tail)
    payloads |= {function: [b"%b/%d" % (function, n) for n in range(8)] for function in fresh}
    for function in fresh:
        cast_all(agent.socket, function, payloads[function])
    rig.ledger.await_done(payload for casts in payloads.values() for payload in casts)
    agent.await_empty()
    watch.end()
    assert watch.looks > 10
    assert window // 2 < watch.most <= window
    assert agent.status()["completed"] == 600 + 4500 + 160


def test_another_configuration_under_load_repeats_only_what_was_on_links_that_went(rig: Rig, server_kind: str) -> None:
    """Windows, rotation and servers change by SIGHUP while callers cast: nothing is lost, repeats are few."""
    window = 100
    one, two = rig.serve(server_kind, count=2)
    rig.work(b"f", each=2)
    agent = rig.agent({"forwarder": {"window": window}}, servers=[one])
    casting = rig.cast_in_background(
        agent, b"f", (b"%d" % n for n in count()), held_back=lambda r: r.count > 1000 + len(rig.ledger.executions)
    )

    def reload(servers: list[JobServer], **forwarder: object) -> int:
        """Another configuration in force, and some hundred casts executed under it; the repeats so far."""
        reloads, executed = agent.log.count("the configuration was reloaded"), len(rig.ledger.executions)
        agent.configure({"forwarder": forwarder, "upstream": {"servers": ", ".join(s.address for s in servers)}})
        agent.signal(signal.SIGHUP)
        until(lambda: agent.log.count("the configuration was reloaded") > reloads, agent.log_tail)
        until(lambda: len(rig.ledger.executions) > executed + 500, agent.log_tail)
        assert casting.is_alive()
        repeats: int = agent.status()["possible_repeats"]
        return repeats

    # what only adds, or changes windows, repeats nothing
    assert reload([one], window=50, function_window=20) == 0
    assert reload([one, two], window=window, function_window=window) == 0
    assert reload([two, one], rotation="round_robin") == 0
    assert reload([one, two], rotation="sticky") == 0
    reload([two])
    reload([one])
    record = casting.stop()
    rig.ledger.await_done(record.acknowledged)
    agent.await_empty()
    assert not record.unanswered
    assert not record.refused
    executed = [e.payload for e in rig.ledger.tries()]
    assert len(executed) - len(set(executed)) <= 2 * window
    assert agent.status()["completed"] == len(record.acknowledged)
