"""What an attempt came to: done, deferred or refused, as a value.

A verdict never says what to do next; `lifecycle` and the forwarder decide that.  It never carries a payload, and its
text is cut to TEXT_LIMIT, because it ends in the spool, in logs and on an operator's terminal.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

#: bytes of an error's text that are kept
TEXT_LIMIT = 4096


class Outcome(Enum):
    """The three verdicts."""

    DONE = "done"
    DEFERRED = "deferred"
    REFUSED = "refused"


class Verdict(NamedTuple):
    """One attempt's end.

    `reason` is a short code (`work_fail`, `work_exception`, `queue_full`, `link_lost`, ...), `text` what the other side
    said about it, UTF-8 with backslashreplace.  `counts` is True when it is a failure of the work itself, which counts
    against max_attempts; trouble of a server or of the network never does.
    """

    outcome: Outcome
    reason: str
    text: str = ""
    counts: bool = False


DONE = Verdict(Outcome.DONE, "done")


def readable(raw: bytes) -> str:
    """Bytes from the wire as text that can be stored and shown: at most TEXT_LIMIT bytes of them, never failing."""
    return raw[:TEXT_LIMIT].decode("utf-8", "backslashreplace")
