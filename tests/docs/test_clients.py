"""docs/clients.md: its examples for clients of Gearman cast what they say, and tell when they could not.

The examples for relay.client run in functional/test_client, and here where the agent does not answer.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.client import CastError, Client
from tests.docs.documents import DOCS, blocks, sections
from tests.rig.agent import Agent, program
from tests.rig.rig import Rig
from tests.rig.servers import free_port
from tests.rig.wait import until
from tests.unit.client.script import Peer, Script, answering

GUIDE = DOCS / "clients.md"
PORT = "4731"
LIMIT_S = 60.0
#: a timeout that is waited for in full
SHORT_S = 1.0


def installed(name: str, *check: str) -> str:
    """Where an interpreter is that passes a check of its own; without it the test is skipped."""
    path = shutil.which(name) or pytest.skip(f"{name} is not installed")
    if check and subprocess.run([path, *check], capture_output=True, timeout=LIMIT_S, check=False).returncode:
        pytest.skip(f"{name} has no client of Gearman")
    return path


def gearman() -> list[str]:
    """A shell that has the command gearman."""
    installed("gearman")
    return ["sh", "-euc"]


def gear() -> list[str]:
    """This Python: the tests install gear."""
    return [sys.executable, "-c"]


def perl() -> list[str]:
    """Perl, with its client."""
    return [installed("perl", "-MGearman::Client", "-e", "1"), "-e"]


def php() -> list[str]:
    """PHP, with its client."""
    return [installed("php", "-r", "exit((int) !class_exists('GearmanClient'));"), "-r"]


def shell() -> list[str]:
    """A shell."""
    return ["sh", "-euc"]


def test_cast_all_of_the_guide_leaves_nothing_out(tmp_path: Path) -> None:
    """With an agent that answers 700 of 2,000 casts and is silent then: each cast is answered once, in its order."""
    (text,) = [block for block in blocks(GUIDE, "python") if "def cast_all" in block]
    names: dict[str, Any] = {"CastError": CastError, "casts": []}

    def silent(peer: Peer) -> None:
        answering(700)(peer)
        while not peer.await_end():
            pass

    casts = [("f", b"x", f"u{number}") for number in range(2000)]
    path = tmp_path / "sock"
    with Script(path, silent, answering(1300, 701)), Client(path, timeout=SHORT_S) as names["relay"]:
        exec(text.partition("assert")[0], names)
        answers = list(names["cast_all"](casts))
    assert answers == [f"H:script:{number + 1}/u{number}" for number in range(2000)]


Interpreter = Callable[[], list[str]]
HELLO = {
    "The command gearman": (gearman, "sh", ["Hello from a command", "Hello from a pipe"]),
    "Python: gear": (gear, "py", ["Hello from gear"]),
    "Perl": (perl, "perl", ["Hello from Perl"]),
    "PHP": (php, "php", ["Hello from PHP"]),
    "The shell": (shell, "sh", ["Hello from a shell", "Hello from a script"]),
}
PRINT_NO_HANDLE = {"The command gearman"}
GIVE_A_KEY = {"Python: gear", "Perl", "PHP", "The shell"}
EACH_EXAMPLE = pytest.mark.parametrize("heading", HELLO)


def listen(rig: Rig) -> tuple[Agent, int]:
    """An agent with the configuration of the guide, but for the port."""
    rig.serve("geard")
    port = free_port()
    (ini,) = blocks(GUIDE, "ini")
    group, option = ini.splitlines()
    name, _, value = option.partition(" = ")
    agent = rig.agent({group.strip("[]"): {name: value.replace(PORT, str(port))}})
    until(lambda: "relay-agent ready" in agent.log, "the agent is ready")
    return agent, port


def run_example(heading: str, agent: Agent, port: int, directory: Path) -> "subprocess.CompletedProcess[str]":
    """Run the example under a heading, with this port, and relay-cli as if its configuration were the host's."""
    interpreter, language, _ = HELLO[heading]
    (code,) = [block for block in blocks(GUIDE, language) if block in sections(GUIDE, 3)[heading]]
    cli = directory / "relay-cli"
    cli.write_text(f'#!/bin/sh\nexec {program("relay-cli")} --config-file {agent.conf} "$@"\n')
    cli.chmod(0o755)
    return subprocess.run(
        [*interpreter(), code.removeprefix("<?php").replace(PORT, str(port))],
        env=os.environ | {"PATH": f"{directory}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_each_client_of_the_guide_has_an_example() -> None:
    """The headings under `Clients of Gearman` are those whose examples run here."""
    text = GUIDE.read_text()
    after = text[text.index("## Clients of Gearman") :].removeprefix("## ").split("\n## ")[0]
    assert [line.removeprefix("### ") for line in after.splitlines() if line.startswith("### ")] == list(HELLO)


@EACH_EXAMPLE
def test_an_example_of_the_guide_casts(heading: str, rig: Rig) -> None:
    """It ends well and without a complaint, prints the handle of each cast if its client can, and they are executed;
    their uniques are keys, but for the command gearman's."""
    agent, port = listen(rig)
    said = run_example(heading, agent, port, rig.directory)
    assert (said.returncode, said.stderr) == (0, "")
    casts = agent.backlog()
    ids = [str(cast["id"]) for cast in casts]
    assert [line.rpartition(":")[2] for line in said.stdout.splitlines()] == ([] if heading in PRINT_NO_HANDLE else ids)
    keys = [cast["unique"] for cast in casts if re.fullmatch("[0-9a-f]{32}", cast["unique"])]
    assert len(keys) == (len(casts) if heading in GIVE_A_KEY else 0)
    rig.work(b"greet")
    agent.await_empty()
    assert [execution.payload.decode() for execution in rig.ledger.tries(b"greet")] == HELLO[heading][2]


@EACH_EXAMPLE
def test_an_example_of_the_guide_tells_a_refusal(heading: str, rig: Rig) -> None:
    """While the agent drains, its standard error has the code; the guide says whose exit status is 0 all the same."""
    agent, port = listen(rig)
    assert agent.cli("drain", "--no-wait").returncode == 0
    said = run_example(heading, agent, port, rig.directory)
    assert "draining" in said.stderr
    assert (said.returncode == 0) == (heading == "The command gearman")
    assert agent.status()["accepted"] == 0


@pytest.mark.parametrize("heading", [heading for heading in HELLO if heading != "Python: gear"])
def test_an_example_of_the_guide_tells_that_no_agent_is_there(heading: str, rig: Rig) -> None:
    """With the agent gone each client but gear, which waits for it, ends and says so; the command gearman with 0."""
    agent, port = listen(rig)
    agent.kill()
    said = run_example(heading, agent, port, rig.directory)
    assert said.stderr + said.stdout
    assert (said.returncode == 0) == (heading == "The command gearman")
