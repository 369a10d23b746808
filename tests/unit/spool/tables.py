"""A spool that is open for writing, and its tables by the format: no writer's code stands between."""

from pathlib import Path
from typing import Any

from relay.spool.opening import open_spool

NOW = 1_700_000_000_000_000
SECOND = 1_000_000


class Writer:
    """One spool."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened = open_spool(path, NOW / 1e6, "machine")
        self.execute = self.opened.conn.execute
        self.next_id = self.opened.identity.next_id

    def append(self, *casts: tuple[bytes, bytes, bytes, int], uid: int | None = 7, at: int = NOW) -> list[int]:
        first = self.next_id
        self.execute("BEGIN")
        for function, unique, payload, priority in casts:
            self.execute("INSERT OR IGNORE INTO lanes (function, priority) VALUES (?, ?)", (function, priority))
            lane = self.lane(function, priority)
            self.execute(
                "INSERT INTO casts VALUES (?, ?, ?, NULL, ?, NULL, ?, 0, ?)",
                (self.next_id, lane, at, uid, unique or None, payload),
            )
            self.execute(
                "UPDATE lanes SET accepted = accepted + 1, bytes = bytes + ? WHERE number = ?", (len(payload), lane)
            )
            self.next_id += 1
        self.execute("COMMIT")
        return list(range(first, self.next_id))

    def lane(self, function: bytes, priority: int) -> int:
        found = self.execute("SELECT number FROM lanes WHERE (function, priority) = (?, ?)", (function, priority))
        number: int = found.fetchone()[0]
        return number

    def set_back(self, id_: int, due_at: int | None, error: str = "no") -> None:
        state = "dead" if due_at is None else "deferred"
        (lane,) = self.execute("SELECT lane FROM casts WHERE id = ?", (id_,)).fetchone()
        self.execute(
            "INSERT INTO fates (id, lane, state, due_at, since, attempts, failures, reason, error)"
            " VALUES (?, ?, ?, ?, ?, 3, 2, 'failed', ?)",
            (id_, lane, state, due_at, NOW, error),
        )
        self.execute(f"UPDATE lanes SET {state} = {state} + 1 WHERE number = ?", (lane,))

    def retire(self, id_: int) -> None:
        self.execute("DELETE FROM casts WHERE id = ?", (id_,))


def cast(function: bytes = b"f", payload: bytes = b"x", unique: bytes = b"", priority: int = 1) -> Any:
    """A submission."""
    return (function, unique, payload, priority)
