"""The row of casts: every answer reaches the cast that it answers, whatever is cut, lost and sent again."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.client.errors import CastError, Draining, Rejected, TooManyConnections, Unanswered, Unavailable
from relay.client.flow import TRIES, WINDOW_BYTES, WINDOW_CASTS, Flow
from relay.client.submission import Cast
from relay.protocol.framing import LENGTH_LIMIT, Framer
from relay.protocol.packets import REQ, RES, Kind, decode, encode

GONE = ConnectionResetError("gone")
REFUSED = ConnectionRefusedError(111, "Connection refused")


def created(*handles: str) -> bytes:
    """JOB_CREATED for each."""
    return b"".join(encode(RES, Kind.JOB_CREATED, handle.encode()) for handle in handles)


def refused(code: str) -> bytes:
    """An ERROR."""
    return encode(RES, Kind.ERROR, code.encode(), b"Because.")


def flow_of(*uniques: str, kept: bool = False) -> Flow:
    """A flow with these casts, and a connection."""
    flow = Flow(2.0)
    for unique in uniques:
        flow.add(("f", b"x", unique))
    flow.connected(kept=kept)
    return flow


def sent(flow: Flow) -> list[str]:
    """Send all that is to be sent: its uniques."""
    packets = Framer(frozenset([REQ]), LENGTH_LIMIT, 0).feed(flow.outgoing())
    flow.sent()
    return [decode(kind, body)[1].decode() for kind, body in packets]


def test_answers_are_given_in_the_caller_s_order() -> None:
    """A cast that cannot be sent is rejected between the others, never before its turn."""
    flow = Flow(2.0)
    for item in (("f", b"", "1"), ("not good", b"", "2"), ("f", b"", "3")):
        flow.add(item)
    flow.connected(kept=False)
    assert sent(flow) == ["1", "3"]
    assert list(flow.answers()) == []
    flow.feed(created("H:1"))
    first, second = flow.answers()
    assert (first, type(second).__name__) == ("H:1", "BadFunction")
    flow.feed(refused("draining"))
    (third,) = flow.answers()
    assert isinstance(third, Draining)
    assert third.unique == "3"
    assert flow.settled
    assert flow.reusable


def test_nothing_is_sent_twice_on_one_connection_and_all_of_it_on_the_next() -> None:
    """What a new connection is given is what has no answer, in order, under the same uniques."""
    flow = flow_of("1", "2")
    assert sent(flow) == ["1", "2"]
    assert flow.outgoing() == b""
    flow.add(("f", b"x", "3"))
    assert sent(flow) == ["3"]
    flow.feed(created("H:1"))
    flow.lost(GONE)
    flow.connected(kept=False)
    assert sent(flow) == ["2", "3"]
    flow.feed(created("H:2", "H:3"))
    assert list(flow.answers()) == ["H:1", "H:2", "H:3"]


def test_a_connection_lost_after_sending_is_tried_once_more() -> None:
    """Then it is Unanswered, with the casts that may be on disk."""
    flow = flow_of("1")
    sent(flow)
    flow.lost(GONE)
    flow.connected(kept=False)
    sent(flow)
    with pytest.raises(Unanswered) as raised:
        flow.lost(GONE)
    assert raised.value.casts == (Cast("f", b"x", "1"),)
    assert raised.value.__cause__ is GONE


def test_a_kept_connection_that_took_nothing_costs_no_try() -> None:
    """Found dead before a byte has left: the new ones have both their tries."""
    flow = flow_of("1", kept=True)
    flow.outgoing()
    flow.lost(GONE)
    for _ in range(TRIES - 1):
        flow.connected(kept=False)
        sent(flow)
        flow.lost(GONE)
    flow.connected(kept=False)
    sent(flow)
    flow.feed(created("H:1"))
    assert flow.settled


def test_an_answer_gives_the_tries_back() -> None:
    """A long row may lose its connection more often than a single cast."""
    flow = flow_of(*"12345")
    for number in range(5):
        sent(flow)
        flow.feed(created(f"H:{number}"))
        if not flow.settled:
            flow.lost(GONE)
            flow.connected(kept=False)
    assert flow.settled


def test_nobody_there_is_unavailable_where_nothing_was_sent() -> None:
    """At once, with the cause; also where a kept connection was found dead, and after earlier casts went well."""
    flow = flow_of("1")
    sent(flow)
    flow.feed(created("H:1"))
    flow.add(("f", b"x", "2"))
    flow.outgoing()
    flow.lost(GONE)
    with pytest.raises(Unavailable) as raised:
        flow.refused(REFUSED, "/the/socket")
    assert raised.value.unique == "2"
    assert raised.value.__cause__ is REFUSED
    assert "/the/socket" in str(raised.value)


def test_nobody_there_is_waited_for_while_something_is_in_doubt() -> None:
    """Until the time is up: the agent may come back, and then knows."""
    flow = flow_of("1")
    sent(flow)
    flow.lost(GONE)
    flow.refused(REFUSED, "/the/socket")
    assert isinstance(flow.late(flow.timeout), Unanswered)


def test_a_full_backlog_of_connections_is_waited_for() -> None:
    """A busy agent is not an absent one; in the end nothing was sent."""
    flow = Flow(2.0)
    flow.add(("f", b"x"))
    flow.refused(BlockingIOError(11, "Resource temporarily unavailable"), "/the/socket")
    assert isinstance(flow.late(flow.timeout), Unavailable)


def test_a_rejection_of_a_second_try_leaves_the_first_in_doubt() -> None:
    """The first one may have been stored and executed: `in_doubt` says so, for those that were sent before only."""
    flow = flow_of("1")
    sent(flow)
    flow.lost(GONE)
    flow.add(("f", b"x", "2"))
    flow.connected(kept=False)
    sent(flow)
    flow.feed(refused("draining") * 2)
    assert [answer.in_doubt for answer in flow.answers() if isinstance(answer, Rejected)] == [True, False]


def test_an_error_that_closes_answers_everything_unanswered() -> None:
    """Sent or not: the agent reads nothing after it, and nothing more goes over that connection."""
    flow = flow_of("1", "2")
    flow.feed(refused("too_many_connections"))
    assert [type(answer) for answer in flow.answers()] == [TooManyConnections] * 2
    assert not flow.reusable


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        encode(RES, Kind.ECHO_RES, b""),
        encode(RES, Kind.WORK_COMPLETE, b"H:1", b""),
        encode(REQ, Kind.JOB_CREATED, b"H:1"),
    ],
)
def test_what_no_agent_answers_is_no_answer(data: bytes) -> None:
    """Unanswered, and the connection is not used again."""
    flow = flow_of("1")
    sent(flow)
    with pytest.raises(Unanswered):
        flow.feed(data)
    assert not flow.reusable


def test_an_answer_to_nothing_is_never_matched() -> None:
    """Before anything was sent on this connection a JOB_CREATED is another's."""
    flow = flow_of("1", kept=True)
    with pytest.raises(Unanswered):
        flow.feed(created("H:1"))
    assert list(flow.answers()) == []


def test_half_an_answer_makes_a_connection_unfit_for_others() -> None:
    """All casts have their answers, but more is to come."""
    flow = flow_of("1")
    sent(flow)
    flow.feed(created("H:1", "H:2")[:-1])
    assert flow.settled
    assert not flow.reusable


def test_the_window_is_bounded_in_casts_and_bytes() -> None:
    """One more cast than the bytes allow always fits."""
    flow = Flow(2.0)
    while flow.room:
        flow.add(("f", b""))
    assert len(flow.outgoing()) > 0
    assert sum(1 for _ in Framer(frozenset([REQ]), LENGTH_LIMIT, 0).feed(packed(flow))) == WINDOW_CASTS
    flow = Flow(2.0)
    flow.add(("f", bytes(WINDOW_BYTES)))
    assert not flow.room


def test_an_answer_gives_its_bytes_back() -> None:
    """Large casts follow one another as they are answered."""
    flow = Flow(2.0)
    flow.add(("f", bytes(WINDOW_BYTES)))
    flow.connected(kept=False)
    sent(flow)
    assert not flow.room
    flow.feed(created("H:1"))
    assert flow.room


def packed(flow: Flow) -> bytes:
    """All unanswered casts on a new connection."""
    flow.connected(kept=False)
    return flow.outgoing()


def test_patience_is_given_back_by_an_answer_only() -> None:
    """A turn without one takes from it; a connection lost does not add to it."""
    flow = flow_of("1", "2")
    sent(flow)
    flow.turned(0.5)
    assert flow.patience_s == 0.5
    flow.lost(GONE)
    flow.connected(kept=False)
    flow.turned(0.25)
    assert flow.patience_s == 0.25
    sent(flow)
    flow.feed(created("H:1"))
    flow.turned(0.1)
    assert flow.patience_s == 2.0


class Model:
    """An agent: stores casts by their unique, answers in order."""

    def __init__(self) -> None:
        """Empty."""
        self.stored: dict[str, str] = {}

    def answer(self, unique: str) -> bytes:
        """What a submission is answered."""
        return created(self.stored.setdefault(unique, f"H:{unique}"))


@given(data=st.data(), count=st.integers(1, 12))
def test_every_handle_is_its_own_cast_s(data: st.DataObject, count: int) -> None:
    """Connections lost and answers cut anywhere: handles in order, each of its cast; on error the rest is named."""
    flow, agent, got = Flow(2.0), Model(), list[str]()
    uniques = [f"{number:03d}" for number in range(count)]
    source: Iterator[str] = iter(uniques)
    flow.connected(kept=data.draw(st.booleans()))
    pending = b""
    try:
        for _ in range(200):
            for unique in itertools.islice(source, data.draw(st.integers(0, 4))):
                flow.add(("f", b"", unique))
            for unique in sent(flow):
                pending += agent.answer(unique)
            cut = data.draw(st.integers(0, len(pending)))
            flow.feed(pending[:cut])
            pending = pending[cut:]
            got += [answer for answer in flow.answers() if isinstance(answer, str)]
            if not flow.settled and data.draw(st.integers(0, 9)) == 0:
                flow.lost(GONE)
                pending = b""
                flow.connected(kept=False)
            if len(got) == count:
                break
    except CastError as error:
        got += [answer for answer in flow.answers() if isinstance(answer, str)]
        taken = [str(cast.unique) for cast in error.casts]
        assert uniques[len(got) : len(got) + len(taken)] == taken
    assert got == [f"H:{unique}" for unique in uniques[: len(got)]]
