"""A network of a test's own: loopback in a namespace, on which packets can be lost or slowed down.

`own_network` moves the test's thread, and with it every process and thread that the test starts, into a network
namespace where nothing but loopback is, and back again when it ends. Unix sockets are where they were.
Never does: touch the machine's own network. Failure: without root, or without the tools, the test is skipped.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

CLONE_NEWNET = 0x40000000


class Network:
    """The namespace of a test."""

    def run(self, *command: str) -> None:
        """Run a command in it; a tool that this kernel does not let work skips the test."""
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            pytest.skip(f"{command[0]} does not work here: {finished.stderr.strip()}")

    def drop(self, port: int, share: float = 1.0) -> None:
        """From now on this share of the packets to and from a port is lost."""
        chance = ["-m", "statistic", "--mode", "random", "--probability", str(share)] if share < 1 else []
        for end in ("--dport", "--sport"):
            self.run("iptables", "-A", "INPUT", "-i", "lo", "-p", "tcp", end, str(port), *chance, "-j", "DROP")

    def heal(self) -> None:
        """No packet is lost any more."""
        self.run("iptables", "-F", "INPUT")

    def slow(self, rate: str) -> None:
        """All of loopback carries so much, as tc writes it."""
        self.run("tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms")


@pytest.fixture
def own_network() -> Iterator[Network]:
    """The test's own network."""
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    for tool in ("ip", "iptables"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET):
            pytest.skip(f"no network namespace can be made here: {os.strerror(ctypes.get_errno())}")
        try:
            network = Network()
            network.run("ip", "link", "set", "lo", "up")
            yield network
        finally:
            assert libc.setns(before, CLONE_NEWNET) == 0, "there is no way back to the machine's network"
    finally:
        os.close(before)
