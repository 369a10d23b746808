"""The row of what a Python service would call: relay's client beside other libraries, each call waited for."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack

from bench import costs
from bench.inprocess import LIBRARIES
from bench.peers import Absent, Broken, Gearmand, Relay, closed_port
from bench.plan import Contender, Figures, Plan


def told_by(who: str, where: str, plan: Plan) -> Figures:
    if importlib.util.find_spec(LIBRARIES[who][0]) is None:
        raise Absent(LIBRARIES[who][0])
    command = [sys.executable, "-m", "bench.inprocess", who, where, str(plan.casts), str(plan.seconds)]
    told = subprocess.run(command, check=False, capture_output=True, text=True)
    if told.returncode or not told.stdout:
        raise Broken(f"{who} fails: {told.stderr[-1000:]}")
    figures: Figures = json.loads(told.stdout)
    return figures


def by_client(who: str, start: Callable[[ExitStack, Plan], Relay | Gearmand]) -> Callable[[Plan], Figures]:
    """What the server costs counts, too."""

    def measure(plan: Plan) -> Figures:
        with ExitStack() as stack:
            server = start(stack, plan)
            before = costs.of(server.process.pid)
            figures = told_by(who, server.address, plan)
            beside = costs.each(before, costs.of(server.process.pid), int(figures["casts"]))
            return figures | {name: figures[name] + beside[name] for name in beside}

    return measure


def by_file(who: str) -> Callable[[Plan], Figures]:
    def measure(plan: Plan) -> Figures:
        with tempfile.TemporaryDirectory(dir=plan.disk) as directory:
            return told_by(who, directory, plan)

    return measure


def relay(stack: ExitStack, plan: Plan) -> Relay:
    return stack.enter_context(Relay(plan.disk, f"127.0.0.1:{stack.enter_context(closed_port())}"))


def gearmand(stack: ExitStack, plan: Plan) -> Gearmand:
    return stack.enter_context(Gearmand(plan.disk))


CONTENDERS = {
    "relay.client": Contender(by_client("relay.client", relay), Relay.worth, quick=False),
    "gear.Client, gearmand": Contender(by_client("gear.Client", gearmand), Gearmand.worth),
    "persist-queue, SQLiteQueue": Contender(by_file("persist-queue"), "fsync before the call returns"),
    "huey, SqliteHuey(fsync=True)": Contender(by_file("huey"), "fsync before the call returns"),
}
