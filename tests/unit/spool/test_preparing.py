"""What is prepared in the event loop's thread is what the writer would have made, cast by cast."""

import sqlite3
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from relay.cast import Arrival, Submission
from relay.spool import schema
from relay.spool.preparing import digest, is_message_id, kept_unique, prepare
from relay.spool.transitions import Transitions
from tests.unit.spool.writing import ENOUGH, NOW, cast

KNOWN = [(b"f", 1), (b"g", 1), (b"f", 0), (b"f", 2)]
UNIQUES = st.sampled_from([b"", b"-", b"u", b"0" * 32, b"0" * 31 + b"1", b"F" * 32]) | st.binary(max_size=64)
LANES = st.sampled_from(KNOWN) | st.just((b"unknown", 1))


@st.composite
def submissions(draw: st.DrawFn, uniques: st.SearchStrategy[bytes] = UNIQUES) -> Submission:
    """A cast for a lane that is known, most of the time."""
    function, priority = draw(LANES)
    return cast(function, draw(st.binary(max_size=20)), draw(uniques), priority)


CASTS = st.lists(submissions(), max_size=12) | st.lists(submissions(st.just(b"")), max_size=12)
IDS = st.integers(1, 2**62)
UIDS = st.none() | st.integers(0, 2**32 - 1)


class Spool:
    """An empty spool in memory with the lanes of KNOWN."""

    def __init__(self) -> None:
        self.conn = sqlite3.connect(":memory:", isolation_level=None)
        schema.migrate(self.conn)
        self.transitions = Transitions(self.conn)
        self.conn.execute("BEGIN")
        self.lanes = {key: self.transitions.ledger.lane(*key) for key in KNOWN}

    def append(self, arrivals: list[Arrival]) -> dict[str, Any]:
        """All that comes of accepting these."""
        self.transitions.append(arrivals, NOW, None, ENOUGH, ENOUGH)
        self.transitions.conclude()
        changes = self.transitions.committed()
        found = {
            "outcome": [list(arrival.outcome) for arrival in arrivals],
            "casts": self.conn.execute("SELECT * FROM casts ORDER BY id").fetchall(),
            "lanes": self.conn.execute("SELECT * FROM lanes ORDER BY number").fetchall(),
            "fresh": {lane: list(fresh) for lane, fresh in changes.fresh.items()},
            "last": changes.last_ids,
        }
        self.conn.close()
        return found


# what most casts are, and chance makes seldom: all lanes known, ids over 32 bits
@example([[cast(b"f", b"x"), cast(b"f", b"y"), cast(b"g", b"")]], 2**61 + 5, 0)
@example([[cast(b"f", b"x", b"u"), cast(b"f", b"y", b"-"), cast(b"g", b"", b"0" * 32)]], 2**61 + 5, None)
@given(st.lists(CASTS, max_size=4), IDS, UIDS)
def test_prepared_or_not_the_spool_is_the_same(several: list[list[Submission]], first: int, uid: int | None) -> None:
    """Rows, counts, answers and what is told to the forwarder do not depend on the preparation."""
    results = []
    for prepared in (True, False):
        spool, id_ = Spool(), first
        arrivals = []
        for casts in several:
            arrival = Arrival(casts, uid, lambda one: None)
            arrival.first_id = id_
            id_ += len(casts)
            if prepared:
                arrival.prepared = prepare(arrival, NOW, spool.lanes)
            arrivals.append(arrival)
        results.append(spool.append(arrivals))
    assert results[0] == results[1]


@given(CASTS)
def test_only_known_lanes_are_prepared(casts: list[Submission]) -> None:
    """An arrival is prepared exactly if the spool has all of its lanes: nothing else may number one."""
    lanes = {key: number for number, key in enumerate(KNOWN, 1)}
    arrival = Arrival(casts, 1, lambda one: None)
    arrival.first_id = 1
    made = prepare(arrival, NOW, lanes)
    assert (made is not None) == all((one[0], one[3]) in lanes for one in casts)


@given(CASTS)
def test_a_run_of_a_lane_is_kept_together(casts: list[Submission]) -> None:
    """The casts for the forwarder are those of the arrival, in its order, one list for each run of a lane."""
    lanes = {key: number for number, key in enumerate(KNOWN, 1)}
    arrival = Arrival(casts, 1, lambda one: None)
    arrival.first_id = 7
    made = prepare(arrival, NOW, lanes)
    if made is not None:
        flat = [(lane, id_, payload) for lane, run in made.fresh for id_, _, payload, _ in run]
        assert flat == [(lanes[one[0], one[3]], 7 + at, one[2]) for at, one in enumerate(casts)]
        assert all(former[0] != later[0] for former, later in zip(made.fresh, made.fresh[1:], strict=False))


@given(st.text("0123456789abcdefABCDEFg-\n", min_size=30, max_size=34))
def test_a_message_id_is_32_lower_case_hex_digits(text: str) -> None:
    """Nothing longer, shorter, in capitals or with a line end is a message id."""
    assert is_message_id(text.encode()) == (len(text) == 32 and set(text) <= set("0123456789abcdef"))


def test_a_line_end_does_not_hide_behind_a_message_id() -> None:
    """32 digits are one; with a line end behind them they are not."""
    assert is_message_id(b"0123456789abcdef" * 2)
    assert not is_message_id(b"0123456789abcdef" * 2 + b"\n")


def test_a_dash_is_a_name_made_of_the_whole_payload() -> None:
    """Equal payloads share it, those that differ at their end do not; it is no message id."""
    one, other = kept_unique(b"-", bytes(1000) + b"a"), kept_unique(b"-", bytes(1000) + b"b")
    assert one == kept_unique(b"-", bytes(1000) + b"a")
    assert one != other
    assert one is not None
    assert not is_message_id(one)
    assert kept_unique(b"", b"x") is None
    assert kept_unique(b"u", b"x") == b"u"


def test_message_ids_of_one_moment_are_neighbours_and_not_the_same() -> None:
    """Their digests share the first 48 bits; the others tell nearly all of a thousand apart."""
    digests = [digest(b"0198f0c2a4b1%020x" % number) for number in range(1000)]
    assert len({one >> 16 for one in digests}) == 1
    assert len(set(digests)) > 900
