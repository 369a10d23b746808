"""Opening the spool: what it makes, what it refuses, and in which order."""

import fcntl
import os
import signal
import socket
import sqlite3
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.errors import SpoolOwned, SpoolUnusable
from relay.spool import opening, quarantine, schema
from relay.spool.locking import lock
from relay.spool.opening import ID_SCALE, Identity, Opened, close_spool, machine_id, open_spool
from tests.unit.spool.writing import Writer, cast


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a spool would be; its directory is not there yet."""
    return tmp_path / "spool" / "spool.db"


@pytest.fixture
def directory(path: Path) -> Path:
    """The spool's directory, made, and nothing in it."""
    path.parent.mkdir(mode=0o700)
    return path.parent


def opened(path: Path, machine: str = "machine", now_s: float = 1000.0) -> Opened:
    """Open without waiting."""
    return open_spool(path, now_s, machine, lock_wait_s=0)


@contextmanager
def python(code: str, *arguments: object) -> Iterator[int]:
    """Another process that has run `code` and waits; its pid."""
    code += "\nprint('there', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        try:
            yield process.pid
        finally:
            process.kill()


def mode(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


# -- what it makes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_everything_it_makes_is_for_its_user_alone(path: Path, umask: int) -> None:
    """The directory is 0700, and each file in it 0600, whatever the umask."""
    before = os.umask(umask)
    try:
        writer = Writer(path)
        writer.accept(cast())
        assert mode(path.parent) == 0o700
        assert {one.name: mode(one) for one in path.parent.iterdir()} == dict.fromkeys(
            ("spool.db", "spool.db-wal", "spool.db-shm", "spool.db.lock"), 0o600
        )
        writer.close()
    finally:
        os.umask(before)


def test_commits_are_durable(path: Path) -> None:
    """WAL and synchronous=FULL are in force, at the first opening and at later ones."""
    for _ in range(2):
        one = opened(path)
        assert one.conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert one.conn.execute("PRAGMA synchronous").fetchone() == (2,)
        assert one.conn.execute("PRAGMA trusted_schema").fetchone() == (0,)
        close_spool(one)


@pytest.mark.parametrize("pragma", [name for name, _, _ in opening.PRAGMAS if name != "auto_vacuum"])
def test_a_pragma_that_does_not_hold_ends_the_start(path: Path, monkeypatch: pytest.MonkeyPatch, pragma: str) -> None:
    """What SQLite says it has set is read back: FULL that is not in force must not pass as a promise."""
    expected = [(name, value, "no such value" if name == pragma else read) for name, value, read in opening.PRAGMAS]
    monkeypatch.setattr(opening, "PRAGMAS", tuple(expected))
    with pytest.raises(SpoolUnusable, match=f"will not set {pragma} to "):
        opened(path)


def test_nothing_is_written_before_full_and_the_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FULL, the log written once more, TRUNCATE, the first write: an old log is settled before anything is added."""
    close_spool(opened(path))
    seen: list[str] = []

    class Traced(sqlite3.Connection):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            self.set_trace_callback(seen.append)

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: real(*given, factory=Traced, **options))
    monkeypatch.setattr(opening.wal, "rewrite", lambda path: seen.append(f"rewrite {path.name}"))
    close_spool(opened(path))
    # nobody else writes the log meanwhile
    rewriting = ["BEGIN IMMEDIATE", "rewrite spool.db", "ROLLBACK"]
    wanted = ["PRAGMA synchronous = FULL", *rewriting, "PRAGMA wal_checkpoint(TRUNCATE)"]
    assert sorted(map(seen.index, wanted)) == list(map(seen.index, wanted))
    assert not [statement for statement in seen[: seen.index(wanted[-1])] if statement.startswith("INSERT")]


# -- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o720, 0o702])
def test_a_directory_that_others_may_write_is_refused(path: Path, directory: Path, bits: int) -> None:
    """Who may write the directory may replace the spool: the start ends, and nothing was made."""
    directory.chmod(bits)
    with pytest.raises(SpoolUnusable, match=f"{directory} may be written by others .mode {bits:04o}"):
        opened(path)
    assert list(directory.iterdir()) == []


def test_a_directory_that_others_may_read_is_taken(path: Path, directory: Path) -> None:
    """0755 is no danger to the spool: its files are 0600."""
    directory.chmod(0o755)
    close_spool(opened(path))
    assert mode(path) == 0o600


def test_a_parent_that_is_missing_is_named(tmp_path: Path) -> None:
    """relay makes one directory, not a path of them."""
    with pytest.raises(SpoolUnusable, match=f"{tmp_path}/a/b: No such file"):
        opened(tmp_path / "a" / "b" / "spool.db")


def test_a_file_in_place_of_the_directory_is_named(tmp_path: Path) -> None:
    """A directory that is a file is refused as what it is."""
    (tmp_path / "spool").write_text("mine")
    with pytest.raises(SpoolUnusable, match="is not a directory"):
        opened(tmp_path / "spool" / "spool.db")


@pytest.mark.parametrize("kind", ["directory", "symlink", "dangling symlink", "socket", "fifo"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, path: Path, directory: Path, kind: str) -> None:
    """A path that is something else, or leads elsewhere, is not followed, and nothing is made behind it."""
    elsewhere = tmp_path / "elsewhere"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    else:
        path.symlink_to(elsewhere)
        if kind == "symlink":
            elsewhere.touch(0o600)
    with pytest.raises(SpoolUnusable, match=f"{path} is not a regular file"):
        opened(path)
    assert elsewhere.exists() == (kind == "symlink")
    assert not elsewhere.exists() or elsewhere.read_bytes() == b""


def test_a_lock_that_is_a_symlink_is_refused(tmp_path: Path, path: Path, directory: Path) -> None:
    """The lock's file is not followed elsewhere: no file of another's is emptied for a pid."""
    (tmp_path / "precious").write_text("keep")
    path.with_name("spool.db.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(SpoolUnusable, match=r"spool\.db\.lock"):
        opened(path)
    assert (tmp_path / "precious").read_text() == "keep"


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o666])
def test_a_file_open_to_others_is_refused(path: Path, bits: int) -> None:
    """A spool that others could read or write since is looked at by an operator first."""
    close_spool(opened(path))
    path.chmod(bits)
    with pytest.raises(SpoolUnusable, match=f"open to others .mode {bits:04o}"):
        opened(path)


@pytest.mark.parametrize("version", [0, 1, -1, schema.VERSION + 1])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_strangers_database_stays_byte_for_byte(path: Path, directory: Path, version: int, journal: str) -> None:
    """A database of somebody else's, whatever version it claims, is refused and not touched."""
    conn = sqlite3.connect(path)
    conn.execute(f"PRAGMA journal_mode = {journal}")
    conn.execute("CREATE TABLE t (x)")
    conn.execute(f"PRAGMA user_version = {version}")
    conn.commit()
    conn.close()
    path.chmod(0o600)
    before = path.read_bytes()
    with pytest.raises(SpoolUnusable, match="none of relay's" if version < 2 else "newer relay"):
        opened(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [schema.VERSION + 1, 1000])
def test_a_newer_spool_is_refused_and_keeps_its_version(path: Path, version: int) -> None:
    """A spool of a newer relay is never guessed at: the text names both versions."""
    one = opened(path)
    one.conn.execute(f"PRAGMA user_version = {version}")
    close_spool(one)
    with pytest.raises(SpoolUnusable, match=f"has format {version}.* knows up to {schema.VERSION}"):
        opened(path)
    conn = sqlite3.connect(path)
    assert conn.execute("PRAGMA user_version").fetchone() == (version,)
    conn.close()


def test_a_negative_version_is_none_of_ours(path: Path) -> None:
    """A version below zero is no version that relay ever gave, even with relay's tables."""
    one = opened(path)
    one.conn.execute("PRAGMA user_version = -1")
    close_spool(one)
    with pytest.raises(SpoolUnusable, match="none of relay's"):
        opened(path)


@contextmanager
def left_by_a_crash(path: Path, *casts: bytes) -> Iterator[None]:
    """A spool with these casts in its log, as a killed agent leaves it."""
    code = "import sys, pathlib\nfrom tests.unit.spool.writing import Writer, cast\n"
    code += "writer = Writer(pathlib.Path(sys.argv[1]))"
    code += "".join(f"\nwriter.accept(cast(payload={payload!r}))" for payload in casts)
    with python(code, path):
        pass
    assert path.with_name("spool.db-wal").stat().st_size > 0
    yield


def test_the_log_of_a_newer_spool_is_left_alone(path: Path) -> None:
    """A newer relay that crashed left its casts in the log: an older one that is started by mistake changes neither."""
    with left_by_a_crash(path, b"one", b"two"):
        conn = sqlite3.connect(path, isolation_level=None)
        conn.execute("PRAGMA wal_autocheckpoint = 0")
        conn.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        log = path.with_name("spool.db-wal")
        before = path.read_bytes(), log.read_bytes()
        path.with_name("kept").write_bytes(before[0])
        path.with_name("kept-wal").write_bytes(before[1])
        conn.close()
    for end in ("", "-wal"):
        path.with_name(f"kept{end}").replace(f"{path}{end}")
    path.chmod(0o600)
    with pytest.raises(SpoolUnusable, match="made by a newer relay"):
        opened(path)
    assert (path.read_bytes(), log.read_bytes()) == before


# -- what it sets aside ------------------------------------------------------------------------------------------------


def kept(path: Path) -> list[Path]:
    """The quarantines there are."""
    return [one for one, _ in quarantine.kept(path)]


def cut(path: Path) -> None:
    """Half of the file is gone."""
    os.truncate(path, path.stat().st_size // 8192 * 4096)


def overwrite(path: Path) -> None:
    """Zeros where the first pages were."""
    with path.open("r+b") as file:
        file.write(bytes(8192))


def scribble(path: Path) -> None:
    """The tables that each COMMIT needs are nonsense; the first page is as it was."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"not a database, but long enough to be looked at " * 30),
    "short": lambda path: path.write_bytes(b"short"),
    "cut": cut,
    "overwritten": overwrite,
    "scribbled": scribble,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_spool_that_cannot_be_read_is_set_aside(path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is renamed byte for byte with its log, said loudly, and a new spool begins, whose ids are higher."""
    writer = Writer(path)
    old = writer.accept(cast(), cast())
    writer.close()
    DAMAGES[damage](path)
    before = path.read_bytes()
    path.with_name("spool.db-wal").write_bytes(b"a log")
    again = Writer(path, now_s=2000.0)
    (directory,) = kept(path)
    assert (directory / "spool.db").read_bytes() == before
    assert (directory / "spool.db-wal").read_bytes()[:5] == b"a log"
    assert mode(directory) == 0o700
    assert [record.levelname for record in caplog.records if record.levelname != "WARNING"] == ["CRITICAL"]
    assert str(directory) in caplog.text
    assert again.accept(cast())[0] > max(old)
    again.close()


def test_ids_after_a_quarantine_are_higher_though_the_clock_went_back(path: Path) -> None:
    """The lock's file knows how far ids had come: a clock that was set back makes none come again."""
    writer = Writer(path, now_s=5000.0)
    old = writer.accept(cast())
    writer.close()
    path.write_bytes(b"short")
    again = Writer(path, now_s=1.0)
    assert again.accept(cast())[0] > max(old)
    again.close()


@pytest.mark.parametrize("missing", [True, False])
def test_a_log_whose_database_is_gone_is_kept(path: Path, missing: bool) -> None:
    """SQLite would delete the log beside an empty or a missing database; relay sets it aside."""
    with left_by_a_crash(path, b"one"):
        pass
    log = path.with_name("spool.db-wal")
    before = log.read_bytes()
    if missing:
        path.unlink()
    else:
        os.truncate(path, 0)
    close_spool(opened(path))
    (directory,) = kept(path)
    assert (directory / "spool.db-wal").read_bytes() == before


@pytest.mark.parametrize("step", range(6))
def test_a_quarantine_that_was_killed_is_gone_on_with(path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before any of its renames, the next start finishes it: one directory, with database and log together."""
    writer = Writer(path)
    writer.accept(cast())
    writer.close()
    scribble(path)
    path.with_name("spool.db-wal").write_bytes(b"a log")
    steps = iter(range(step))
    real = Path.rename

    class Killed(BaseException):
        pass

    def rename(self: Path, target: Path) -> Path:
        if next(steps, None) is None:
            raise Killed
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    try:
        close_spool(opened(path))
        finished = True
    except Killed:
        finished = False
    monkeypatch.undo()
    assert finished == (step >= 4), "three files, and the directory itself"
    close_spool(opened(path))
    (directory,) = kept(path)
    assert {one.name for one in directory.iterdir()} >= {"spool.db", "spool.db-wal", "reason"}
    assert not list(path.parent.glob("*partial*"))


def test_a_damaged_log_is_kept_and_what_can_be_read_of_it_is(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bit that rots in the log takes what is behind it: a copy is kept before the checkpoint, and it is said."""
    with left_by_a_crash(path, b"one", b"two", b"three"):
        pass
    log = path.with_name("spool.db-wal")
    content = bytearray(log.read_bytes())
    content[content.index(b"two") + 1] ^= 4
    log.write_bytes(content)
    writer = Writer(path)
    (directory,) = kept(path)
    assert (directory / "spool.db-wal").read_bytes() == content
    assert "CRITICAL" in [record.levelname for record in caplog.records]
    assert [one.cast[2] for one in writer.take(writer.lane())] == [b"one"]
    writer.close()
    caplog.clear()
    close_spool(opened(path))
    assert not caplog.records


HALF_DONE = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("PRAGMA journal_mode = DELETE").fetchall()
conn.execute("PRAGMA cache_size = 1")
conn.execute("BEGIN")
conn.execute("CREATE TABLE half (x)")
for number in range(100): conn.execute("INSERT INTO half VALUES (zeroblob(5000))")
"""


def test_a_journal_that_a_kill_left_is_rolled_back(path: Path) -> None:
    """A spool has one only while it is being made; killed there, it is none that cannot be opened."""
    writer = Writer(path)
    writer.accept(cast(payload=b"kept"))
    writer.close()
    with python(HALF_DONE, path):
        pass
    assert path.with_name("spool.db-journal").stat().st_size > 0
    writer._open()
    assert [one.cast[2] for one in writer.take(1)] == [b"kept"]
    assert writer.rows("SELECT name FROM sqlite_master WHERE name = 'half'") == []
    assert kept(path) == []
    writer.close()


def test_a_small_spool_without_vacuum_gets_it(path: Path) -> None:
    """A database that was made without auto_vacuum=INCREMENTAL is rewritten while it is small, with all its casts."""
    writer = Writer(path)
    writer.accept(cast(payload=b"kept"))
    writer.conn.execute("PRAGMA auto_vacuum = NONE")
    writer.conn.execute("PRAGMA journal_mode = DELETE")
    writer.conn.execute("VACUUM")
    assert writer.conn.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    writer.reopen()
    assert writer.conn.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert [one.cast[2] for one in writer.take(writer.lane())] == [b"kept"]
    writer.close()


def test_a_lock_that_cannot_be_written_is_a_lock(path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk the pid does not get into the file; the spool is owned all the same."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    close_spool(opened(path))


# -- one owner ---------------------------------------------------------------------------------------------------------

TAKE_LOCK = "import sys, pathlib\nfrom relay.spool.locking import lock\nlock(pathlib.Path(sys.argv[1]), 0)"


def test_a_spool_has_one_owner(path: Path, directory: Path) -> None:
    """While another process has the lock the start ends with its pid, before the file is even looked at."""
    path.mkdir()
    with python(TAKE_LOCK, path) as pid, pytest.raises(SpoolOwned, match=f"pid {pid}. owns {path}"):
        opened(path)
    with pytest.raises(SpoolUnusable, match="not a regular file"):
        opened(path)


def test_the_lock_is_waited_for(path: Path, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An owner that ends within the wait is no obstacle: each pause is followed by a try, and one line tells of it."""
    pauses: list[float] = []
    with python(TAKE_LOCK, path) as pid:

        def end_it(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                os.kill(pid, signal.SIGKILL)
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

        os.close(lock(path, 60, end_it))
    assert len(pauses) == 3
    assert caplog.messages == [f"another agent (pid {pid}) owns {path}: it is waited for, 60 s at most"]


def test_a_refusal_lets_the_lock_go(path: Path, directory: Path) -> None:
    """After a start that was refused for another reason, the next one is not told that somebody owns the spool."""
    path.mkdir()
    for _ in range(2):
        with pytest.raises(SpoolUnusable):
            opened(path)
    path.rmdir()
    close_spool(opened(path))
    close_spool(opened(path))


# -- the checkpoint ----------------------------------------------------------------------------------------------------

READ_ON = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
if sys.argv[2] == "busy": conn.execute("BEGIN")
if sys.argv[2] == "writes": conn.execute("BEGIN IMMEDIATE")
conn.execute("SELECT count(*) FROM casts").fetchall()
"""


def test_a_reader_that_blocks_the_checkpoint_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader in a transaction, older than what the WAL holds, ends the start: the text has its pid."""
    monkeypatch.setattr(opening, "CHECKPOINT_WAIT_S", 0)
    writer = Writer(path)
    writer.accept(cast(payload=b"before"))
    with python(READ_ON, path, "busy") as pid:
        writer.accept(cast(payload=b"behind its back"))
        writer.close()
        with pytest.raises(SpoolUnusable, match=rf"a reader \(pid {pid} \(.*\)\) blocks the checkpoint"):
            opened(path)
    again = Writer(path)
    assert [one.cast[2] for one in again.take(1)] == [b"before", b"behind its back"]
    again.close()


def test_who_writes_into_the_spool_is_named(path: Path) -> None:
    """A start is refused while somebody else has a transaction that writes: the text has its pid, too."""
    close_spool(opened(path))
    with (
        python(READ_ON, path, "writes") as pid,
        pytest.raises(SpoolUnusable, match=rf"somebody \(pid {pid} \(.*\)\) writes into it"),
    ):
        opened(path)
    close_spool(opened(path))


def test_a_reader_at_rest_blocks_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who has the spool open between two reads does not hinder a start, and the WAL begins empty."""
    monkeypatch.setattr(opening, "CHECKPOINT_WAIT_S", 0)
    writer = Writer(path)
    writer.accept(cast())
    with python(READ_ON, path, "idle"):
        writer.accept(cast())
        writer.close()
        again = Writer(path)
        assert len(again.take(1)) == 2
        again.close()


# -- who it is ---------------------------------------------------------------------------------------------------------


def test_a_spool_knows_itself_again(path: Path) -> None:
    """The same machine finds the same spool id at each start."""
    first = opened(path)
    close_spool(first)
    second = opened(path)
    close_spool(second)
    assert second.identity == first.identity
    assert len(first.identity.spools) == 1
    assert len(first.identity.spools[0][1]) == 12
    assert set(first.identity.spools[0][1]) <= set(b"0123456789abcdef")


def test_another_machine_gives_a_new_id_and_old_casts_keep_theirs(path: Path) -> None:
    """A spool copied to another machine names its new casts anew, so that two copies never share a key."""
    writer = Writer(path, "here")
    (old,) = writer.accept(cast())
    name = writer.identity.spool_id(old)
    writer.machine = "there"
    writer.reopen()
    (new,) = writer.accept(cast())
    assert writer.identity.spool_id(old) == name != writer.identity.spool_id(new)
    renamed = writer.identity.spool_id(new)
    writer.reopen()
    assert (writer.identity.spool_id(old), writer.identity.spool_id(new)) == (name, renamed)
    writer.close()


def test_a_move_before_the_first_cast_leaves_one_id(path: Path) -> None:
    """A spool that moved while nothing was accepted in between has one id: the last machine's."""
    first = opened(path, "here")
    close_spool(first)
    second = opened(path, "there")
    close_spool(second)
    assert len(second.identity.spools) == 1
    assert second.identity.spools[0][1] != first.identity.spools[0][1]
    assert second.identity.next_id == first.identity.next_id


def test_a_cast_falls_under_the_id_of_its_time() -> None:
    """The spool id of a cast is that of the latest beginning not after it."""
    identity = Identity(((10, b"a"), (20, b"b"), (30, b"c")), 40)
    assert [identity.spool_id(id_) for id_ in (10, 19, 20, 29, 30, 99)] == [b"a", b"a", b"b", b"b", b"c", b"c"]


def test_ids_of_a_new_spool_begin_at_its_time(path: Path, tmp_path: Path) -> None:
    """A spool made later, in place of one that was removed, gives out higher ids."""
    first = Writer(path, now_s=1000.9)
    assert first.accept(cast()) == [1000 * ID_SCALE]
    first.close()
    later = Writer(tmp_path / "other" / "spool.db", now_s=1001.0)
    assert later.accept(cast())[0] == 1001 * ID_SCALE
    later.close()


@pytest.mark.parametrize("now_s", [0.0, 1e9])
def test_ids_never_come_back_when_all_is_gone(path: Path, now_s: float) -> None:
    """With every cast retired and the agent started again, by whatever clock, the next id is a new one."""
    writer = Writer(path)
    ids = writer.accept(cast(), cast(b"g"), cast())
    writer.store(done=[(ids[0], 1, 1, False, 0), (ids[1], 2, 1, False, 0), (ids[2], 1, 1, False, 0)])
    assert writer.rows("SELECT count(*) FROM casts") == [(0,)]
    writer.now_s = now_s
    writer.reopen()
    assert writer.accept(cast())[0] > max(ids)
    writer.close()


def test_starts_are_counted(path: Path) -> None:
    """meta says how often the spool was opened."""
    for _ in range(3):
        one = opened(path)
        close_spool(one)
    one = opened(path)
    assert one.conn.execute("SELECT value FROM meta WHERE name = 'starts'").fetchone() == (4,)
    close_spool(one)


def test_the_machine_id_is_text_or_nothing() -> None:
    """Whatever this machine has: one line of ASCII, or empty."""
    assert machine_id() == machine_id().strip()
    assert machine_id().isascii()


def test_a_rollback_journal_of_a_spool_in_the_making_is_undone(tmp_path: Path) -> None:
    """What a power cut leaves while the database changes to WAL mode at its very first start is no reason to refuse."""
    path = tmp_path / "spool" / "spool.db"
    path.parent.mkdir(mode=0o700)
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA user_version = 1")
    conn.execute("PRAGMA user_version = 0")
    conn.close()
    page = path.read_bytes()
    nonce = 7
    check = nonce + sum(page[at] for at in range(len(page) - 200, 0, -200))
    header = struct.pack(">8sIIIII", bytes.fromhex("d9d505f920a163d7"), 1, nonce, 1, 512, len(page))
    path.with_name("spool.db-journal").write_bytes(
        header.ljust(512, b"\0") + struct.pack(">I", 1) + page + struct.pack(">I", check)
    )
    path.write_bytes(page[:18] + b"\2\2" + page[20:])
    path.chmod(0o600)
    opened = open_spool(path, 1_000_000.0, "machine", 0)
    assert opened.conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert opened.identity.next_id
    close_spool(opened)
    assert not quarantine.kept(path)


def test_a_copy_of_a_log_is_made_once(path: Path) -> None:
    """A start that is refused behind it, again and again, does not fill the disk with copies."""
    with left_by_a_crash(path, b"one"):
        first = quarantine.keep_log(path, "why", 1000.0)
        assert quarantine.keep_log(path, "why", 2000.0) == first
        log = path.with_name("spool.db-wal")
        log.write_bytes(log.read_bytes() + b"more")
        assert quarantine.keep_log(path, "why", 3000.0) != first
    assert len(kept(path)) == 2


def test_a_quarantine_that_moved_nothing_is_decided_anew(path: Path) -> None:
    """Somebody may have put a sound spool there meanwhile: it stays."""
    writer = Writer(path)
    writer.accept(cast())
    writer.close()
    partial = path.with_name("spool.db.quarantine-partial")
    partial.mkdir()
    (partial / "reason").write_text("it was")
    writer = Writer(path)
    assert writer.rows("SELECT count(*) FROM casts") == [(1,)]
    writer.close()
    assert kept(path) == []
    assert not partial.exists()


def test_a_lock_that_cannot_be_had_is_refused(directory: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file system without locks says it: not by a bug."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(SpoolUnusable, match="No locks available"):
        opened(path)


def test_nothing_is_written_before_the_log_is_at_its_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a reader blocks the checkpoint, the log is left as it was found."""
    monkeypatch.setattr(opening, "CHECKPOINT_WAIT_S", 0)
    reading = "import sqlite3, sys\nc = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True, isolation_level=None)"
    reading += "\nc.execute('BEGIN')\nc.execute('SELECT * FROM casts').fetchall()"
    with left_by_a_crash(path, b"one"), python(reading, path):
        log = path.with_name("spool.db-wal")
        before = log.read_bytes()
        with pytest.raises(SpoolUnusable, match="blocks the checkpoint"):
            opened(path)
        assert log.read_bytes() == before
