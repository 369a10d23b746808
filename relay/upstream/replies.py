"""From what a job server said to a verdict: one table.

Codes are compared without regard to case, because the servers do not agree on it.  What stands in no row is a trouble
of the server's: deferred, and no failure counted.  Pure and total.
"""

from __future__ import annotations

from relay.protocol.packets import Kind
from relay.verdict import Outcome, Verdict, readable

#: ERROR codes (lower case) that say the submission itself can never be taken
_FOR_GOOD = frozenset(("argument_too_large", "invalid_args", "invalid_function_name", "invalid_packet"))
#: ERROR codes (lower case) that say this function's queue is full at this server
_FULL = frozenset(("queue_error", "queue_full", "job_queue_full"))


def verdict(kind: int, text: bytes) -> Verdict:
    """What an end that is not WORK_COMPLETE means; `text` as in `News.troubles`."""
    if kind == Kind.WORK_FAIL:
        return Verdict(Outcome.DEFERRED, "work_fail", "the worker failed", counts=True)
    if kind == Kind.WORK_EXCEPTION:
        return Verdict(Outcome.DEFERRED, "work_exception", readable(text), counts=True)
    code, _, sentence = text.partition(b"\0")
    said = readable(code + (b": " + sentence if sentence else b""))
    name = readable(code).lower()
    if name in _FULL:
        return Verdict(Outcome.DEFERRED, "queue_full", said)
    if name in _FOR_GOOD or name.startswith("invalid_"):
        return Verdict(Outcome.REFUSED, "refused_by_server", said)
    return Verdict(Outcome.DEFERRED, "server_error", said)
