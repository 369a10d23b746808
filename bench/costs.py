"""What a peer costs while it is measured: processor time, bytes written to disk, resident memory, from /proc.

A peer is a process and all that it has started.  `wrote` is what the kernel was given to write to the disk, from
/proc/PID/io: pages of files that were dirtied, logs of file systems not counted.
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")


class Costs(NamedTuple):
    cpu_s: float
    wrote: int
    resident: int


def family(root: int) -> list[int]:
    """The process and its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, new = [root], [root]
    while new:
        new = [child for one in new for child in parents.get(one, ())]
        found += new
    return found


def field(text: str, name: str) -> int:
    """A number of a `/proc` file of `name: number` lines; 0 where it is not told."""
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:")), 0)


def of(root: int) -> Costs:
    cpu, wrote, resident = 0.0, 0, 0
    for pid in family(root):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            cpu += (int(stat[11]) + int(stat[12])) / TICKS
            resident += field(Path(f"/proc/{pid}/status").read_text(), "VmRSS") * 1024
            wrote += field(Path(f"/proc/{pid}/io").read_text(), "write_bytes")
        except OSError:
            continue
    return Costs(cpu, wrote, resident)


def each(before: Costs, after: Costs, casts: int) -> dict[str, float]:
    """The same as figures: for each cast, and the memory at the end."""
    return {
        "cpu_us": (after.cpu_s - before.cpu_s) / casts * 1e6,
        "written": (after.wrote - before.wrote) / casts,
        "rss_mib": after.resident / 2**20,
    }


def ran_s(pid: int) -> float:
    """Processor time of all threads of a process, to the nanosecond; 0 where the kernel does not tell."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += int((task / "schedstat").read_text().split()[0])
    return found / 1e9


def peak_mib(pid: int) -> float:
    """The most that was resident."""
    return field(Path(f"/proc/{pid}/status").read_text(), "VmHWM") / 1024
