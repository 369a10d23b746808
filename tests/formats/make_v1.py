"""Make v1.db, the golden spool of format 1: `python -m tests.formats.make_v1`.

Made once, by the relay that wrote format 1; a later relay must open it, and is not asked to make it again.  It is kept
as an agent leaves it that stopped in good order: one file, its WAL written back.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from relay.spool.changes import Attempt, Setback
from tests.unit.spool.writing import NOW, Writer, cast

GOLDEN = Path(__file__).with_name("v1.db")


def make(path: Path) -> None:
    """A spool with something of everything that format 1 can hold."""
    writer = Writer(path, "machine-one")
    writer.conn.execute("UPDATE spools SET spool_id = '0123456789ab'")
    writer.accept(cast(b"notify", b"done"))
    writer.accept(
        cast(b"notify", b"plain"),
        cast(b"notify", b"named", b"order-1"),
        cast(b"notify", b"\0\xff binary \0", b"0123456789abcdef0123456789abcdef"),
        cast(b"notify", b"of the payload", b"-"),
    )
    writer.accept(cast(b"notify", b"high", priority=0), cast(b"notify", b"low", priority=2))
    late, last = writer.accept(cast(b"bill", b"deferred"), cast(b"bill", b"dead", b"dead-1"))
    first = writer.identity.next_id
    attempt = Attempt(3, NOW, 250_000, "gear1:4730", "work_fail", "the worker failed")
    lane = writer.lane(b"bill")
    writer.store(
        done=[(first, writer.lane(b"notify"), 4, False, 1)],
        setbacks=[
            Setback(late, lane, False, NOW + 60_000_000, 3, 2, True, 1, "work_fail", "the worker failed", (attempt,)),
            Setback(last, lane, False, None, 50, 50, True, 0, "work_exception", "ValueError: no", ()),
        ],
    )
    writer.write(lambda: writer.transitions.set_draining(True))
    writer.machine = "machine-two"
    writer.reopen()
    writer.conn.execute("UPDATE spools SET spool_id = 'ba9876543210' WHERE machine_id = 'machine-two'")
    writer.append(writer.arrival([cast(b"notify", b"after the move")], None))
    writer.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        made = Path(home) / "spool" / "spool.db"
        make(made)
        shutil.copy(made, GOLDEN)
