"""The room kept on the disk: made, found again, given up, made again."""

import os
from pathlib import Path

import pytest

from relay.spool.ballast import BALLAST_BYTES, PLENTY, Ballast


@pytest.fixture
def ballast(tmp_path: Path) -> Ballast:
    """Of a spool that is not there."""
    return Ballast(tmp_path / "spool.db")


def test_it_is_made_of_real_blocks(ballast: Ballast, tmp_path: Path) -> None:
    """The file is on the disk, not just a size: giving it up gives something back."""
    assert ballast.make(PLENTY)
    found = (tmp_path / "spool.db.ballast").stat()
    assert found.st_blocks * 512 >= BALLAST_BYTES
    assert found.st_mode & 0o777 == 0o600


def test_it_is_not_made_without_plenty(ballast: Ballast, tmp_path: Path) -> None:
    """It never takes the last room there is."""
    assert not ballast.make(PLENTY - 1)
    assert list(tmp_path.iterdir()) == []


def test_it_is_found_again(ballast: Ballast, tmp_path: Path) -> None:
    """A later start finds it, whole; one that is not whole is removed."""
    ballast.make(PLENTY)
    again = Ballast(tmp_path / "spool.db")
    again.find()
    assert again.held
    os.truncate(tmp_path / "spool.db.ballast", 0)
    again.find()
    assert not again.held
    assert list(tmp_path.iterdir()) == []


def test_it_is_given_up_once(ballast: Ballast, tmp_path: Path) -> None:
    """Given up, the file is gone; a second time there is nothing to give."""
    ballast.make(PLENTY)
    assert ballast.give_up()
    assert list(tmp_path.iterdir()) == []
    assert not ballast.give_up()
    assert ballast.make(PLENTY)


def test_a_disk_that_has_no_room_leaves_none_behind(
    ballast: Ballast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the blocks cannot be had after all, no half of it stays."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not ballast.make(PLENTY)
    assert list(tmp_path.iterdir()) == []


def test_a_symlink_in_its_place_is_not_followed(ballast: Ballast, tmp_path: Path) -> None:
    """Nobody has a file of theirs filled."""
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "spool.db.ballast").symlink_to(tmp_path / "precious")
    assert not ballast.make(PLENTY)
    assert (tmp_path / "precious").stat().st_blocks * 512 < BALLAST_BYTES


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize(("error", "lacks"), [(None, False), (28, True), (122, True), (5, False)])
def test_what_a_quota_leaves_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool, error: int | None, lacks: bool
) -> None:
    """No space and no quota are told from a disk that fails; the ballast is afterwards what it was."""
    ballast = Ballast(tmp_path / "spool.db")
    if held:
        assert ballast.make(PLENTY)

    def fallocate(descriptor: int, at: int, size: int) -> None:
        if error is not None:
            raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    assert ballast.lacks_room() is lacks
    files = {one.name: one.stat().st_size for one in tmp_path.iterdir()}
    assert files == ({"spool.db.ballast": BALLAST_BYTES} if held else {})
