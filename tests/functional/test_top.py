"""relay-cli top on a real terminal, and without one."""

import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl

import pytest

from tests.rig.agent import Agent, program
from tests.rig.callers import cast_all
from tests.rig.rig import Rig

DONE, USAGE, NOT_RUNNING = 0, 2, 69
#: how a terminal leaves and enters the screen that programs like this one draw on
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """top in a terminal of 80 x 24, and what it wrote there."""

    def __init__(self, agent: Agent, *arguments: str) -> None:
        """Start it."""
        self.screen, self.other = pty.openpty()
        ioctl(self.other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.other)
        self.seen = b""
        self.process = subprocess.Popen(
            [program("relay-cli"), "--config-file", str(agent.conf), "top", *arguments],
            stdin=self.other,
            stdout=self.other,
            stderr=self.other,
            env=os.environ | {"TERM": "xterm"},
            start_new_session=True,
        )

    def read_until(self, mark: bytes) -> None:
        """Returns once it wrote this, after what was read before."""
        start, end = len(self.seen), time.monotonic() + 60
        os.set_blocking(self.screen, False)
        while mark not in self.seen[start:]:
            assert time.monotonic() < end, f"{mark!r} never came; last was {self.seen[-2000:]!r}"
            try:
                self.seen += os.read(self.screen, 65536)
            except BlockingIOError:
                time.sleep(0.02)

    def press(self, keys: bytes) -> None:
        """A person types."""
        os.write(self.screen, keys)

    def ended_well(self) -> None:
        """It ended with 0, left its screen, and the terminal is as it was."""
        self.read_until(LEAVE)
        assert self.process.wait(60) == DONE
        assert termios.tcgetattr(self.other) == self.before

    def close(self) -> None:
        """Nothing stays."""
        self.process.kill()
        self.process.wait()
        os.close(self.screen)
        os.close(self.other)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Terminals that are closed at the end."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def test_keys_sort_filter_and_quit(rig: Rig, terminals: list[Terminal]) -> None:
    """The functions are there, the order is said, / takes a word, q ends it and the terminal is as before."""
    rig.serve("gearmand")
    agent = rig.agent()
    cast_all(agent.socket, b"mail.send", [b"x", b"y"])
    cast_all(agent.socket, b"billing", [b"z"])
    terminal = Terminal(agent, "--interval", "100ms")
    terminals.append(terminal)
    terminal.read_until(b"mail.send")
    assert ENTER in terminal.seen
    assert b"2 of 2 functions, by backlog" in terminal.seen
    terminal.press(b"d")
    terminal.read_until(b"dead")
    terminal.press(b"/")
    terminal.read_until(b"filter: _")
    terminal.press(b"billx\x7f\r")
    terminal.read_until(b"*bill*")
    for lines, columns in ((10, 20), (2, 5), (24, 80)):
        ioctl(terminal.other, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        os.killpg(terminal.process.pid, signal.SIGWINCH)
        terminal.read_until(b"relay")
    terminal.press(b"q")
    terminal.ended_well()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_terminal_as_it_was(rig: Rig, terminals: list[Terminal], number: signal.Signals) -> None:
    """However it is ended, a shell behind it can be used."""
    rig.serve("gearmand")
    terminal = Terminal(rig.agent())
    terminals.append(terminal)
    terminal.read_until(b"FUNCTION")
    terminal.process.send_signal(number)
    terminal.read_until(LEAVE)
    assert terminal.process.wait(60) == (130 if number == signal.SIGINT else DONE)
    assert termios.tcgetattr(terminal.other) == terminal.before


def test_an_agent_that_is_restarted_is_waited_for(rig: Rig, terminals: list[Terminal]) -> None:
    """It says that none listens, and goes on when one does."""
    rig.serve("gearmand")
    agent = rig.agent()
    cast_all(agent.socket, b"first", [b"x"])
    terminal = Terminal(agent, "--interval", "100ms")
    terminals.append(terminal)
    terminal.read_until(b"first")
    agent.term()
    terminal.read_until(b"no agent listens")
    agent.restart()
    cast_all(agent.socket, b"second", [b"x"])
    terminal.read_until(b"second")
    terminal.press(b"q")
    terminal.ended_well()


def test_without_a_terminal_it_prints_and_ends(rig: Rig) -> None:
    """One screen of text, or as many as -n says; nothing that only a terminal understands; 69 where no agent runs."""
    rig.serve("gearmand")
    agent = rig.agent()
    cast_all(agent.socket, b"mail", [b"x"])
    once = agent.cli("top", "--interval", "100ms")
    assert once.returncode == DONE, once.stderr
    assert "\x1b" not in once.stdout
    assert [line.split()[:2] for line in once.stdout.splitlines() if line.startswith("mail ")] == [["mail", "1"]]
    twice = agent.cli("top", "-n", "2", "--interval", "100ms", "--sort", "function", "--function", "m*")
    assert twice.stdout.count("1 of 1 functions, by function, m*") == 2
    assert agent.cli("top", "--interval", "1ms").returncode == USAGE
    agent.term()
    assert agent.cli("top", "-n", "1").returncode == NOT_RUNNING
