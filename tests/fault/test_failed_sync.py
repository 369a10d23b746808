"""A WAL fsync that really failed, so that pages which never reached the disk stand in the cache; then the power goes.

The disk is an ext4 in an image on a tmpfs.  Under the part of the log that comes next the image gets holes, and the
tmpfs is filled: what is written there cannot reach the disk, the kernel says EIO once, and forgets that it owes the
page.  Then there is room again, relay is started anew, and all that it acknowledges from then on must outlive a power
cut.
"""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.spool.wal import inspect
from tests.rig import disks
from tests.rig.agent import Agent
from tests.rig.callers import cast_all, id_of
from tests.rig.disks import LoopDisk
from tests.rig.rig import Rig
from tests.rig.small_disk import SmallDisk, small_disk
from tests.rig.strace import SYNCS, attached
from tests.rig.wait import until

FUNCTION = b"work"
NOBODY = {"upstream": {"servers": "127.0.0.1:1"}}
FS_IOC_FIEMAP = 0xC020660B
#: the log is written from its beginning again when it has come so far
LOG_BYTES = 4 * 2**20
#: where its holes begin
HOLES_FROM = 2**20
FRAME_BYTES = 4096 + 24


@pytest.fixture
def below(rig: Rig) -> Iterator[SmallDisk]:
    """What the image lies on."""
    with small_disk(rig, 96) as one:
        yield one


@pytest.fixture
def disk(rig: Rig, below: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopDisk]:
    """The ext4, with every block of it in the image."""
    monkeypatch.setattr(disks, "IN_MEMORY", below.directory)
    with LoopDisk("ext4") as one:
        descriptor = os.open(one._image, os.O_RDWR)
        os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size)
        os.close(descriptor)
        yield one
        for agent in rig.agents:
            agent.close()


def extents(path: Path) -> list[tuple[int, int, int]]:
    """Where a file lies on its file system: (offset in the file, offset on the disk, bytes) of each piece."""
    most = 100
    request = bytearray(struct.pack("=QQIIII", 0, 1 << 62, 0, 0, most, 0)) + bytearray(56 * most)
    with path.open("rb") as file:
        fcntl.ioctl(file, FS_IOC_FIEMAP, request)
    (found,) = struct.unpack_from("=I", request, 20)
    return [struct.unpack_from("=QQQ", request, 32 + 56 * number) for number in range(found)]


def hollow(log: Path, image: Path) -> None:
    """Take the blocks under the later part of the log out of the image."""
    holes = [(at, size) for offset, at, size in extents(log) if offset >= HOLES_FROM]
    assert holes
    for at, size in holes:
        subprocess.run(["fallocate", "--punch-hole", "-o", str(at), "-l", str(size), image], check=True)


def held(agent: Agent, *payloads: bytes, window: int = 1) -> set[int]:
    """Cast; the ids acknowledged."""
    return {id_of(handle) for handle in cast_all(agent.socket, FUNCTION, payloads, window=window).handles}


def stage(rig: Rig, disk: LoopDisk) -> tuple[Agent, set[int]]:
    """An agent with a backlog, whose log has just been begun anew: what is in force of it lies before the holes."""
    agent = rig.agent({"spool": {"path": disk.path / "spool" / "spool.db"}, **NOBODY})
    agent.spool = disk.path / "spool" / "spool.db"
    log = Path(f"{agent.spool}-wal")
    promised = held(agent, *[b"before" * 600] * 1200, window=100)
    for _ in range(1000):
        if inspect(agent.spool).frames * FRAME_BYTES < HOLES_FROM // 2 and log.stat().st_size >= LOG_BYTES:
            break
        promised |= held(agent, *[b"before" * 600] * 10)
    os.sync()
    return agent, promised


def after_a_cut(agent: Agent, disk: LoopDisk, promised: set[int]) -> None:
    """Once casts are accepted some more are; the power goes, and all of them are there."""
    until(lambda: agent.status()["accepting"], lambda: f"casts are accepted again\n{agent.log_tail()}")
    after = held(agent, *[b"after"] * 20)
    assert len(after) == 20
    disk.cut()
    agent.kill()
    disk.back()
    agent.start()
    there = {cast["id"] for cast in agent.backlog()}
    assert (len(promised - there), len(after - there)) == (0, 0)


def test_a_restart_after_a_sync_that_failed(rig: Rig, below: SmallDisk, disk: LoopDisk) -> None:
    """The log in the cache is not the log on the disk: what is acknowledged next does not stand behind the hole."""
    agent, promised = stage(rig, disk)
    hollow(Path(f"{agent.spool}-wal"), disk._image)
    below.fill()
    for _ in range(2000):
        record = cast_all(agent.socket, FUNCTION, [b"meanwhile" * 400])
        promised |= {id_of(handle) for handle in record.handles}
        if record.refused:
            break
    assert "cannot be written: disk I/O error" in agent.log, "a sync failed for real"
    agent.kill()
    below.empty()
    agent.start()
    after_a_cut(agent, disk, promised)


def test_going_on_after_a_sync_that_failed(rig: Rig, disk: LoopDisk) -> None:
    """The same connection writes the failed frames anew: what is acknowledged next is on the disk.

    Here the call is made to fail, not the disk: a loop device takes a write that was cut short for a whole one, and a
    disk that lies is another fault.
    """
    agent, promised = stage(rig, disk)
    with attached(agent, SYNCS, "error=EIO"):
        assert held(agent, *[b"meanwhile" * 400] * 20) == set()
    assert "cannot be written: disk I/O error" in agent.log
    after_a_cut(agent, disk, promised)
