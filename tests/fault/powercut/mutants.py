"""Agents that are wrong on purpose: a suite that does not tell them from the real one proves nothing.

`python -m tests.fault.powercut.mutants NAME --config-file FILE` runs relay-agent with one thing in it changed: one of
these, which break the promise, or one of `tests.rig.mutants`, for other rows.
"""

import asyncio
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from relay.agent.main import main
from relay.protocol.upstream import Conversation, News
from relay.spool import wal
from relay.upstream.link import Link
from tests.rig.mutants import OTHERS


def _instead(change: Callable[[sqlite3.Connection, str], str | None]) -> None:
    """Have every connection execute what `change` makes of a statement, or the statement where it makes nothing."""

    class Changed(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            return super().execute(change(self, sql) or sql, *parameters)

    connect = sqlite3.connect
    sqlite3.connect = lambda *arguments, **options: connect(*arguments, factory=Changed, **options)  # type: ignore[assignment]


def _synchronous(level: str) -> None:
    """Set another level than FULL, and say that it is FULL."""
    answers = {"PRAGMA synchronous = FULL": f"PRAGMA synchronous = {level}", "PRAGMA synchronous": "SELECT 2"}
    _instead(lambda _, sql: answers.get(sql))


def synchronous_normal() -> None:
    """No sync of the write-ahead log at a COMMIT."""
    _synchronous("NORMAL")


def synchronous_off() -> None:
    """No sync at all."""
    _synchronous("OFF")


def acknowledge_before_commit() -> None:
    """Each COMMIT of the writer happens only when its next transaction begins; callers are answered at once."""

    def late(conn: sqlite3.Connection, sql: str) -> str | None:
        if threading.current_thread().name != "committer":
            return None
        if sql == "BEGIN IMMEDIATE" and conn.in_transaction:
            sqlite3.Connection.execute(conn, "COMMIT")
        return "SELECT 1" if sql == "COMMIT" else None

    _instead(late)


def no_rewrite() -> None:
    """A start that checkpoints a log which may be in the page cache only."""
    wal.rewrite = lambda _: None


def no_truncate() -> None:
    """A start that goes on behind such a log."""
    no_rewrite()
    _instead(lambda _, sql: "SELECT 0, 0, 0" if "wal_checkpoint" in sql else None)


def retire_before_verdict() -> None:
    """What was submitted is taken for done."""
    submit, feed = Link.submit, Conversation.feed

    def submit_and_believe(link: Link[Any], jobs: Iterable[Any]) -> None:
        jobs = list(jobs)
        submit(link, jobs)
        news: News[Any] = News(done=[job[0] for job in jobs])
        asyncio.get_running_loop().call_soon(link._listener.told, link, news)

    def feed_and_forget(conversation: Conversation[Any], data: bytes) -> News[Any]:
        news = feed(conversation, data)
        news.done.clear()
        return news

    Link.submit = submit_and_believe  # type: ignore[method-assign]
    Conversation.feed = feed_and_forget  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    mutate.__name__: mutate
    for mutate in (
        synchronous_normal,
        synchronous_off,
        acknowledge_before_commit,
        retire_before_verdict,
        no_rewrite,
        no_truncate,
    )
}

if __name__ == "__main__":
    (MUTANTS | OTHERS)[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
