"""Unix sockets to listen on: what is taken away for one, what is left alone, and whose it is."""

import grp
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay import doors
from relay.doors import close_door, inode, open_door, peer_uid
from relay.errors import SocketUnusable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the socket is to be."""
    return tmp_path / "relay.sock"


@pytest.fixture
def old(path: Path) -> Iterator[socket.socket]:
    """A socket that another process bound there."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        yield sock


def test_it_listens_with_the_mode_that_was_asked_for(path: Path) -> None:
    """And the process's umask is what it was."""
    before = os.umask(0o022)
    try:
        with open_door(path, 0o660, None, 5):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(str(path))
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_nobody_can_use_it_before_its_group_and_mode_are_set(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then it is its owner's alone, and does not listen."""
    seen: list[int] = []
    note = os.chown
    monkeypatch.setattr(doors.os, "chown", lambda *a: (seen.append(stat.S_IMODE(path.stat().st_mode)), note(*a)))
    group = grp.getgrgid(os.getgid())
    with open_door(path, 0o666, group.gr_name, 5):
        assert seen == [0o600]
        assert path.stat().st_gid == group.gr_gid
        assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_a_stale_socket_is_replaced(path: Path, old: socket.socket) -> None:
    """One that nobody answers on, as a crash leaves it."""
    before = inode(path)
    old.close()
    with open_door(path, 0o600, None, 5):
        assert inode(path) is not None
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
    assert before is not None


def test_a_socket_that_somebody_answers_on_is_left_alone(path: Path, old: socket.socket) -> None:
    """It is refused, and its owner goes on; also one whose callers wait already in a full line."""
    old.listen(0)
    before = inode(path)
    with pytest.raises(SocketUnusable, match="another process answers there"):
        open_door(path, 0o600, None, 5)
    # the probe above stands in the line, which is full now
    with pytest.raises(SocketUnusable, match="another process listens there"):
        open_door(path, 0o600, None, 5)
    assert inode(path) == before


@pytest.mark.parametrize("kind", ["file", "directory", "dangling", "link-to-a-socket"])
def test_what_is_no_socket_is_left_alone(path: Path, kind: str) -> None:
    """A file, a directory, a symlink wherever it leads: refused with the path, and untouched."""
    other = path.with_name("other")
    with socket.socket(socket.AF_UNIX) as sock:
        if kind == "file":
            path.write_text("kept")
        elif kind == "directory":
            path.mkdir()
        else:
            path.symlink_to(other)
        if kind == "link-to-a-socket":
            sock.bind(str(other))
        before = inode(path)
        with pytest.raises(SocketUnusable, match=str(path)):
            open_door(path, 0o600, None, 5)
        assert inode(path) == before
        assert other.exists() == (kind == "link-to-a-socket")


def test_a_group_that_there_is_not_is_said(path: Path) -> None:
    """By its name."""
    with pytest.raises(SocketUnusable, match="no group 'no-such-group'"):
        open_door(path, 0o600, "no-such-group", 5)


def test_a_directory_that_there_is_not_is_said(path: Path) -> None:
    """With the path and the reason."""
    with pytest.raises(SocketUnusable, match="No such file"):
        open_door(path.parent / "missing" / "sock", 0o600, None, 5)


def test_only_our_own_socket_is_removed_at_the_close(path: Path) -> None:
    """One that has taken its place stays."""
    with open_door(path, 0o600, None, 5):
        made = inode(path)
        path.rename(path.with_name("away"))
        with socket.socket(socket.AF_UNIX) as another:
            another.bind(str(path))
            close_door(path, made)
            assert path.exists()
        close_door(path.with_name("away"), made)
        assert not path.with_name("away").exists()
        close_door(path.with_name("away"), made)


def test_the_kernel_says_who_calls() -> None:
    """The uid at the other end of a unix socket; none over TCP."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_uid(ours) == os.getuid()
    with socket.socket() as tcp:
        assert peer_uid(tcp) is None
