"""From a reply to a verdict: every row, and anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.packets import Kind
from relay.upstream.replies import verdict
from relay.verdict import TEXT_LIMIT, Outcome


def test_a_failure_of_the_work_counts() -> None:
    """WORK_FAIL and WORK_EXCEPTION are failures against max_attempts; the exception keeps its text."""
    failed = verdict(Kind.WORK_FAIL, b"")
    raised = verdict(Kind.WORK_EXCEPTION, "ValueError: \0 ü".encode() + b"\xff")
    assert (failed.outcome, failed.reason, failed.counts) == (Outcome.DEFERRED, "work_fail", True)
    assert (raised.outcome, raised.reason, raised.counts) == (Outcome.DEFERRED, "work_exception", True)
    assert raised.text == "ValueError: \0 ü\\xff"


@pytest.mark.parametrize("code", [b"queue_full", b"QUEUE_ERROR", b"Queue_Full", b"JOB_QUEUE_FULL"])
def test_a_full_queue_defers_and_counts_nothing(code: bytes) -> None:
    """The function's queue is full at this server: trouble of the server's, in whatever case it says so."""
    found = verdict(Kind.ERROR, code + b"\0no room")
    assert (found.outcome, found.reason, found.counts) == (Outcome.DEFERRED, "queue_full", False)
    assert found.text == f"{code.decode()}: no room"


@pytest.mark.parametrize(
    "code",
    [b"invalid_function_name", b"INVALID_FUNCTION_NAME", b"ARGUMENT_TOO_LARGE", b"invalid_packet", b"INVALID_ARGS"],
)
def test_what_can_never_be_taken_is_refused(code: bytes) -> None:
    """The submission itself is at fault: refused for good, and no failure of the work."""
    found = verdict(Kind.ERROR, code + b"\0no")
    assert (found.outcome, found.reason, found.counts) == (Outcome.REFUSED, "refused_by_server", False)


@pytest.mark.parametrize("text", [b"server_error\0oops", b"", b"\0", b"unknown_command", b"ERR\0\0\0", b"\xff\xfe\0x"])
def test_anything_else_is_trouble_of_the_servers(text: bytes) -> None:
    """An unknown code must not bury casts: deferred, nothing counted."""
    found = verdict(Kind.ERROR, text)
    assert (found.outcome, found.reason, found.counts) == (Outcome.DEFERRED, "server_error", False)


@given(st.sampled_from([Kind.WORK_FAIL, Kind.WORK_EXCEPTION, Kind.ERROR, 77]), st.binary(max_size=200))
def test_no_text_makes_it_fail_or_pass_for_done(kind: int, text: bytes) -> None:
    """Total: whatever stands in the reply there is a verdict, never done, with a text that can be stored."""
    found = verdict(kind, text)
    assert found.outcome is not Outcome.DONE
    found.text.encode()
    assert not found.counts or kind in (Kind.WORK_FAIL, Kind.WORK_EXCEPTION)


@pytest.mark.parametrize("kind", [Kind.WORK_EXCEPTION, Kind.ERROR])
def test_a_long_text_is_cut(kind: int) -> None:
    """What a worker or a server says ends in the spool and in the log: no more of it than the limit."""
    assert len(verdict(kind, b"x" * 100_000).text) <= TEXT_LIMIT
