"""The README can be followed line by line."""

import ast
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from relay.cli import exits
from relay.protocol.caller import SENTENCES
from tests.docs.documents import DOCUMENTS, README, ROOT, blocks, name, rows, sections
from tests.rig.rig import Rig
from tests.rig.servers import free_port
from tests.rig.wait import until

BIN = Path(sys.executable).parent
TRY = "/tmp/relay-try"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_each_make_target_exists(document: Path) -> None:
    """Each `make` target that a document names is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    text = document.read_text()
    for target in set(re.findall(r"`make (\w+)`|^make (\w+)$", text, re.MULTILINE)):
        wanted = target[0] or target[1]
        assert re.search(rf"^{wanted}:", makefile, re.MULTILINE), f"make {wanted}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_each_program_exists(document: Path) -> None:
    """Each program of .venv/bin that a document names is installed."""
    for program in set(re.findall(r"\.venv/bin/([\w-]+)", document.read_text())):
        assert (BIN / program).exists(), program


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_each_link_leads_somewhere(document: Path) -> None:
    """Each relative link of a document leads to a file, and its fragment to a heading there."""
    for address in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if address.startswith("http"):
            continue
        path, _, fragment = address.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), address
        if fragment:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert fragment in anchors, address


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_each_environment_of_tox_exists(document: Path) -> None:
    """Each tox environment that a document names is in tox.ini."""
    for environment in re.findall(r"tox -e (\w+)", document.read_text()):
        assert f"[testenv:{environment}]" in (ROOT / "tox.ini").read_text(), environment


CALLERS = blocks(README, "python")
GREETINGS = (b"Hello from a service", b"Hello from a plain socket")
EACH_CALLER = pytest.mark.parametrize(
    ("text", "payload"), [*zip(CALLERS, GREETINGS, strict=True)], ids=["client", "plain"]
)


def test_the_callers_of_the_readme_are_short() -> None:
    """No caller in Python is longer than 15 lines."""
    assert [text for text in CALLERS if len(text.splitlines()) > 15] == []


@EACH_CALLER
def test_a_caller_of_the_readme_casts(text: str, payload: bytes, rig: Rig) -> None:
    """Each caller in Python prints the handle of its cast, and the cast is in the backlog."""
    agent = rig.agent(servers=rig.serve("geard"))
    said = subprocess.run([sys.executable, "-c", text, agent.socket], capture_output=True, text=True, check=True)
    (cast,) = agent.backlog()
    assert said.stdout.strip().rpartition(":")[2] == str(cast["id"])
    assert (cast["function"], cast["bytes"]) == ("greet", len(payload))


@EACH_CALLER
def test_a_caller_of_the_readme_tells_a_refusal(text: str, payload: bytes, rig: Rig) -> None:
    """While the agent drains, each caller in Python ends with 1 and says which code refused it."""
    agent = rig.agent(servers=rig.serve("geard"))
    assert agent.cli("drain", "--no-wait").returncode == 0
    said = subprocess.run([sys.executable, "-c", text, agent.socket], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "refused" in said.stderr
    assert "draining" in said.stderr


def test_the_quick_start_runs(tmp_path_factory: pytest.TempPathFactory, rig: Rig) -> None:
    """The blocks of the quick start, run one after the other in a shell, execute both casts and stop everything."""
    directory = rig.directory / "try"
    script = "".join(blocks(README, "sh"))
    script = script.replace("make venv\n", "").replace(TRY, str(directory)).replace("4730", str(free_port()))
    script = "set -e\n" + script.replace(".venv/bin/", f"{BIN}/") + "wait\n"
    assert ".venv" not in script.replace(str(BIN), "")
    shell = subprocess.Popen(
        ["bash", "-c", script],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said = shell.communicate(timeout=120)[0].decode()
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
    assert "Drained" in said, said
    assert "Running: new casts are accepted." in said
    assert "upstreams_down" in said
    assert re.findall(r"^Hello.*$", said, re.MULTILINE) == ["Hello, world", "Hello from a pipe"]
    until(lambda: "relay-agent stopped" in (directory / "agent.log").read_text(), "the agent stopped")


def test_each_code_of_a_refusal_is_there() -> None:
    """The table of refusals has each code that something refuses with (beside the list of sentences), and no other."""
    sources = [path for part in ("protocol", "intake", "spool") for path in (ROOT / "relay" / part).glob("*.py")]
    nodes = [node for path in sources for node in ast.walk(ast.parse(path.read_text()))]
    said = Counter(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    codes = {row[0].strip("`") for row in rows(sections(README, 2)["How to cast"])}
    assert codes == {code for code in SENTENCES if said[code] > 1}


def test_each_exit_code_is_there() -> None:
    """The table of exit codes has each code that relay-cli ends with."""
    text = sections(README, 2)["Exit codes"]
    theirs = text[text.index("`relay-cli`") :]
    ours = {getattr(value, "exit_code", value) for key, value in vars(exits).items() if not key.startswith("_")}
    for code in [code for code in ours if isinstance(code, int)]:
        assert re.search(rf"\b{code}\b", theirs), code


def test_each_request_that_is_named_is_answered(rig: Rig) -> None:
    """What the README says is answered is: background submissions, the requests it names, the text commands."""
    from tests.rig import packets

    agent = rig.agent(servers=rig.serve("geard"))
    with agent.connect() as stream:
        for kind in (packets.SUBMIT_JOB_BG, packets.SUBMIT_JOB_HIGH_BG, packets.SUBMIT_JOB_LOW_BG):
            stream.send(packets.request(kind, b"f", b"", b"x"))
            assert stream.read().type == packets.JOB_CREATED
        stream.send(packets.request(packets.SUBMIT_JOB_EPOCH, b"f", b"", b"4000000000", b"x"))
        assert stream.read().type == packets.JOB_CREATED
        stream.send(packets.request(packets.ECHO_REQ, b"x"))
        assert stream.read().type == packets.ECHO_RES
        stream.send(packets.request(packets.OPTION_REQ, b"exceptions"))
        assert stream.read().type == packets.OPTION_RES
        stream.send(packets.request(packets.GET_STATUS, b"H:elsewhere:1"))
        assert stream.read() == (packets.STATUS_RES, b"H:elsewhere:1\x000\x000\x000\x000")
        for kind in (packets.SUBMIT_JOB, packets.CAN_DO):
            stream.send(packets.request(kind, b"f", b"", b"x", b"y"))
            assert stream.read().type == packets.ERROR
    for command in (b"version", b"status", b"workers", b"prioritystatus"):
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(agent.socket)
            caller.sendall(command + b"\n")
            assert not caller.recv(4096).startswith(b"ERR")
