"""What a figure needs beside it: the machine, the software, the disk. Reads only, and says `unknown` where
it cannot."""

import importlib.metadata
import os
import platform
import re
import sqlite3
import subprocess
from pathlib import Path

from bench.peers import Absent, program

BROKERS = ("beanstalkd", "mosquitto", "nats-server", "rabbitmq-server")


def filesystem(path: Path) -> str:
    """The type and device of what `path` lies on, by the longest mount point above it."""
    best = ("", "unknown", "unknown")
    real = path.resolve()
    for line in Path("/proc/mounts").read_text().splitlines():
        device, point, kind = line.split()[:3]
        if real.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind, device)
    return f"{best[1]} on {best[2]}"


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def version(name: str) -> str:
    try:
        command = [program(name), "--version"]
    except Absent:
        return "not installed"
    told = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10).stdout
    first = next((line.strip() for line in told.splitlines() if line.strip()), "unknown")
    return re.split(r" sha=| - ", first)[0]


def packages() -> str:
    """The versions of the brokers that Debian has installed."""
    command = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}, ", *BROKERS]
    try:
        told = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10).stdout
    except OSError:
        return "unknown"
    return told.rstrip(", ") or "none"


def relay_version() -> str:
    try:
        found = importlib.metadata.version("relay-agent")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
    return found


def load_average() -> str:
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def describe(disk: Path) -> dict[str, str]:
    return {
        "cores": f"{len(os.sched_getaffinity(0))} ({processor()})",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "disk": filesystem(disk),
        "load average": load_average(),
        "relay": relay_version(),
        "redis": version("redis-server"),
        "gearmand": version("gearmand"),
        "others": packages(),
    }
