"""A function of which a bit is flipped: its casts are executed under no other name, and nobody else's are touched.

Nothing has a checksum over it, but it stands twice in the spool, in a table and in the table's index.
"""

from pathlib import Path

import pytest

from relay.errors import SpoolUnusable
from relay.spool import quarantine, repairing
from relay.spool.checking import check
from tests.unit.spool.writing import Writer, cast

FUNCTION = b"thumbnails"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A spool with casts of two functions, closed."""
    path = tmp_path / "spool" / "spool.db"
    writer = Writer(path)
    writer.accept(*[cast(FUNCTION, b"%d" % number) for number in range(5)])
    writer.accept(*[cast(b"other", b"%d" % number) for number in range(3)])
    writer.close()
    return path


def flip(path: Path, which: int, bit: int = 1) -> None:
    """A bit of the function, where it stands for the which-th time."""
    content = bytearray(path.read_bytes())
    assert content.count(FUNCTION) == 2
    at = content.index(FUNCTION)
    if which:
        at = content.index(FUNCTION, at + 1)
    content[at + 3] ^= bit
    path.write_bytes(content)


@pytest.mark.parametrize("which", [0, 1])
def test_its_casts_are_dead_and_the_others_go_on(path: Path, which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start rebuilds the spool: which of the two names is right cannot be told, so neither is used.

    What is sound of them comes over whole, however much it is.
    """
    flip(path, which)
    monkeypatch.setattr(repairing, "ROTTEN_BYTES", 2)
    writer = Writer(path)
    ((_, reason),) = quarantine.kept(path)
    assert "the function of lane 1 is another one in the index than in the table" in reason
    assert sorted(name.function for name in writer.counts) == [b"lost-lane-1", b"other"]
    assert writer.take(1) == []
    assert [one.cast[2] for one in writer.take(2)] == [b"0", b"1", b"2"]
    dead = writer.rows("SELECT payload, reason, error FROM casts JOIN fates USING (id) WHERE state = 'dead'")
    assert dead == [(b"%d" % number, "damaged", "its function cannot be read (lane 1)") for number in range(5)]
    writer.check_counts()
    # the next start finds nothing
    writer.reopen()
    assert len(quarantine.kept(path)) == 1
    writer.close()
    assert list(check(path)) == []


def test_a_disk_that_reads_it_wrong_once_costs_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read a second time, byte by byte before."""
    flip(path, 0)
    monkeypatch.setattr(quarantine, "read_whole", flip_back)
    writer = Writer(path)
    assert quarantine.kept(path) == []
    assert len(writer.take(1)) == 5
    writer.check_counts()
    writer.close()


def flip_back(path: Path) -> None:
    """What `flip` did to the first of the two."""
    content = path.read_bytes()
    rotten = bytearray(FUNCTION)
    rotten[3] ^= 1
    path.write_bytes(content.replace(bytes(rotten), FUNCTION))


def test_an_index_that_cannot_be_read_condemns_nothing(path: Path) -> None:
    """What stands in the table is believed then."""
    content = bytearray(path.read_bytes())
    where = [content.index(FUNCTION), content.rindex(FUNCTION)]
    # the first byte of a leaf of an index says so
    (page,) = [at // 4096 * 4096 for at in where if content[at // 4096 * 4096] == 10]
    content[page] = 0xEE
    path.write_bytes(content)
    writer = Writer(path)
    assert quarantine.kept(path) == []
    assert len(writer.take(1)) == 5
    writer.close()


@pytest.mark.parametrize(
    ("name", "rotten"),
    [
        (b"accepted_at INTEGER NOT NULL", b"acceptee_at INTEGER NOT NULL"),
        (b'"unique" BLOB', b'"uniqud" BLOB'),
        (b"aged_from INTEGER", b"aged_frnm INTEGER"),
        (b"last_id INTEGER", b"last_if INTEGER"),
    ],
)
def test_a_column_that_lost_its_name_sets_the_spool_aside(path: Path, name: bytes, rotten: bytes) -> None:
    """The text of the schema rots, too: no take could ever name it."""
    content = path.read_bytes()
    assert name in content
    path.write_bytes(content.replace(name, rotten))
    writer = Writer(path)
    ((_, reason),) = quarantine.kept(path)
    assert "the schema is not what it was" in reason
    writer.close()


def test_where_it_cannot_be_rebuilt_the_start_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wrong name may not be used, and nothing is set aside."""
    flip(path, 0)
    content = path.read_bytes()

    def full(*_: object) -> None:
        raise SpoolUnusable("the disk is full")

    monkeypatch.setattr(repairing, "repair", full)
    with pytest.raises(SpoolUnusable, match="another one in the index than in the table, and it cannot be rebuilt"):
        Writer(path)
    assert quarantine.kept(path) == []
    assert path.read_bytes() == content
