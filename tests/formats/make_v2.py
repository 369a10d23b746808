"""Make v2.db, the golden spool of format 2: `python -m tests.formats.make_v2`.

Made once, by the relay that wrote format 2; a later relay must open it, and is not asked to make it again.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from relay.spool.edits import Verb
from relay.spool.moving import bring_in, parse
from tests.unit.spool.writing import NOW, Writer, cast

GOLDEN = Path(__file__).with_name("v2.db")
IMPORTED = b'{"origin": "0123456789ab-7", "key": "0123456789ab-7", "function": "moved", "payload": "from elsewhere"}'


def make(path: Path) -> None:
    """A spool with something of everything that format 2 has beyond format 1."""
    writer = Writer(path, "machine-one")
    writer.conn.execute("UPDATE spools SET spool_id = '0123456789ab'")
    ready, held, dead, again, exported = writer.accept(
        *[cast(b"notify", name, name) for name in (b"ready", b"held", b"dead", b"again", b"exported")]
    )
    writer.edit(Verb.HOLD, held, again)
    writer.edit(Verb.BURY, dead)
    writer.edit(Verb.RELEASE, again)
    writer.edit(Verb.HOLD, exported, held_by="export")
    writer.edit(Verb.MARK, exported)
    writer.write(lambda: writer.transitions.holds.set("later.*", NOW + 3_600_000_000))
    writer.accept(cast(b"later.on", b"held from the start"))
    first_id, writer.next_id = writer.next_id, writer.next_id + 1

    def moved() -> None:
        bring_in(writer.transitions, writer.identity, [parse(IMPORTED)], first_id, NOW)

    writer.write(moved)
    assert ready < held
    writer.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        made = Path(home) / "spool" / "spool.db"
        make(made)
        shutil.copy(made, GOLDEN)
