"""Logging goes where oslo.log's options say, stdout without any; tried in processes of their own, for it is global."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import logging, sys
from relay.agent import logs
from relay.conf.load import load
from relay.errors import BadConfiguration
try:
    logs.setup(load(sys.argv[1:])[1])
except BadConfiguration as error:
    sys.exit(f"bad: {error}")
logging.getLogger("relay.agent").info("said by relay")
logging.getLogger("relay.agent").debug("whispered by relay")
logging.getLogger("gear.Client").info("said by gear")
"""


def run(tmp_path: Path, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """A program that sets logging up as the agent does, and speaks."""
    (tmp_path / "relay.conf").write_text(text)
    command = [sys.executable, "-c", PROGRAM, "--config-file", str(tmp_path / "relay.conf"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_log_is_on_stdout(tmp_path: Path) -> None:
    """Without an option INFO goes to stdout, nothing to stderr, and gear is quiet below WARN."""
    finished = run(tmp_path)
    assert "INFO relay.agent [-] said by relay" in finished.stdout
    assert "whispered" not in finished.stdout
    assert "gear" not in finished.stdout
    assert finished.stderr == ""


def test_debug_is_heard(tmp_path: Path) -> None:
    """With --debug relay's debug lines appear, gear's INFO still does not."""
    finished = run(tmp_path, "--debug")
    assert "DEBUG relay.agent [-] whispered by relay" in finished.stdout
    assert "gear" not in finished.stdout


def test_a_log_file_takes_it_all(tmp_path: Path) -> None:
    """--log-file moves the log there."""
    finished = run(tmp_path, "--log-file", str(tmp_path / "agent.log"))
    assert finished.stdout == ""
    assert "said by relay" in (tmp_path / "agent.log").read_text()


def test_a_log_file_that_cannot_be_written_is_a_bad_configuration(tmp_path: Path) -> None:
    """The error is one line that names the file."""
    finished = run(tmp_path, "--log-file", str(tmp_path / "missing" / "agent.log"))
    assert finished.returncode == 1
    assert finished.stderr.startswith("bad: logging: ")
    assert "missing/agent.log" in finished.stderr


def test_a_bad_log_option_is_a_bad_configuration(tmp_path: Path) -> None:
    """A wrong value of oslo.log's own that is in use is found at the start."""
    finished = run(tmp_path, "--log-file", str(tmp_path / "log"), text="[DEFAULT]\nlog_rotation_type = sometimes\n")
    assert finished.returncode == 1
    assert finished.stderr.startswith("bad: logging: ")
    assert "log_rotation_type" in finished.stderr
