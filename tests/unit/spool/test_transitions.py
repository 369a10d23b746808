"""What can happen to casts on disk, transaction by transaction, on a real file."""

import sqlite3
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ageing import Limit, Step
from relay.spool.accepting import LARGE
from relay.spool.ending import ATTEMPTS_KEPT
from relay.spool.preparing import digest, kept_unique
from relay.spool.statements import pieces, ranges
from tests.unit.spool.writing import ENOUGH, NOW, Writer, cast, setback

MESSAGE_ID = b"0123456789abcdef0123456789abcdef"


# -- accepting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("unique", [b"", b"u%d", b"%032x"])
def test_what_is_accepted_is_taken_as_it_was(writer: Writer, prepared: bool, unique: bytes) -> None:
    """Payloads of any bytes come back under the ids that were told, in order, prepared beforehand or not."""
    writer.accept(cast(payload=b"first of its lane"))
    payloads = [b"", b"\0", b"\xff" * 1000, "ü".encode(), *(b"%d" % number for number in range(300))]
    arrival = writer.arrival(
        [cast(payload=payload, unique=unique % n if unique else b"") for n, payload in enumerate(payloads, 1)],
        prepared=prepared,
    )
    changes = writer.append(arrival)
    taken = writer.take(writer.lane())[1:]
    assert [one.cast[0] for one in taken] == list(arrival.outcome)
    assert [one.cast[2] for one in taken] == payloads
    assert [one.cast[1] for one in taken] == [unique % n if unique else None for n in range(1, len(payloads) + 1)]
    assert changes.fresh[writer.lane()] == [one.cast for one in taken]


@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("unique", [b"", b"u%d"])
def test_large_casts_stand_among_small_ones(writer: Writer, prepared: bool, unique: bytes) -> None:
    """Large and small payloads in one batch, with and without uniques: each comes back as it went in, in order."""
    writer.accept(cast(payload=b"lane"))
    sizes = [1, LARGE + 1, 2, 2 * LARGE, 3]
    arrivals = [
        writer.arrival([cast(unique=unique and unique % number, payload=b"x" * size)], prepared=prepared)
        for number, size in enumerate(sizes)
    ]
    writer.append(*arrivals)
    taken = writer.take(writer.lane())[1:]
    assert [len(one.cast[2]) for one in taken] == sizes
    assert [one.cast[0] for one in taken] == [arrival.outcome[0] for arrival in arrivals]
    again = writer.arrival([cast(unique=b"u1", payload=b"x" * LARGE * 2)], prepared=prepared)
    writer.append(again)
    assert (again.outcome[0] == arrivals[1].outcome[0]) is bool(unique)


def test_lanes_are_functions_by_priority(writer: Writer) -> None:
    """The same function at two priorities is two lanes, each with its own counts."""
    writer.append(
        writer.arrival([cast(b"f", b"1"), cast(b"f", b"22", priority=0), cast(b"g", b"333"), cast(b"f", b"4")])
    )
    assert {(name.function, name.priority): (counts.ready, counts.bytes) for name, counts in writer.counts.items()} == {
        (b"f", 1): (2, 2),
        (b"f", 0): (1, 2),
        (b"g", 1): (1, 3),
    }
    assert [one.cast[2] for one in writer.take(writer.lane(b"f", 0))] == [b"22"]


@pytest.mark.parametrize("prepared", [True, False])
def test_several_callers_share_a_batch_and_ids_grow(writer: Writer, prepared: bool) -> None:
    """Ids grow in the order of arrival over a whole batch; each caller hears of its own."""
    writer.accept(cast(b"a"), cast(b"b"))
    arrivals = [
        writer.arrival([cast(b"a")] * 3, 1, prepared=prepared),
        writer.arrival([cast(b"b"), cast(b"new"), cast(b"a")], None),
        writer.arrival([cast(b"a", unique=b"u")], 0, prepared=prepared),
    ]
    writer.append(*arrivals)
    ids = [id_ for arrival in arrivals for id_ in arrival.outcome]
    assert ids == sorted(set(ids))  # type: ignore[type-var]
    assert len(ids) == 7
    uids = dict(writer.rows("SELECT id, uid FROM casts"))
    assert [uids[id_] for id_ in ids] == [1, 1, 1, None, None, None, 0]


@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("unique", [b"u", b"u" * 64, b"-", MESSAGE_ID, b"\xff\0x"])
def test_an_equal_unique_joins_the_living_cast(writer: Writer, prepared: bool, unique: bytes) -> None:
    """In one arrival, in one batch and batches later: one cast is stored, all get its id, the rest is counted."""
    writer.accept(cast(payload=b"lane"))
    twin = cast(unique=unique)
    first, second = (writer.arrival([twin, cast(), twin], prepared=prepared) for _ in range(2))
    writer.append(first, second)
    third = writer.arrival([twin, cast()], prepared=prepared)
    writer.append(third)
    id_ = first.outcome[0]
    assert [arrival.outcome[0] for arrival in (first, second, third)] == [id_] * 3
    assert first.outcome[2] == second.outcome[2] == id_
    assert len({*first.outcome, *second.outcome, *third.outcome}) == 4
    assert sum(counts.coalesced for counts in writer.counts.values()) == 4
    assert len(writer.take(writer.lane())) == 5


def test_an_equal_unique_of_another_function_is_another_cast(writer: Writer) -> None:
    """A unique names a cast within its function only, a message id too."""
    for unique in (b"u", MESSAGE_ID):
        first, second = writer.accept(cast(b"f", unique=unique), cast(b"g", unique=unique))
        assert first != second


def test_message_ids_with_one_digest_are_told_apart(writer: Writer) -> None:
    """Two message ids with one digest are two casts: the digest finds, the text decides."""
    seen: dict[int, bytes] = {}
    numbers = iter(range(1 << 20))
    # 16 bits of it are a hash: some hundreds are enough for two to share it
    while (key := digest(other := b"%032x" % next(numbers))) not in seen:
        seen[key] = other
    one = seen[key]
    first, second = writer.accept(cast(unique=one), cast(unique=other))
    assert first != second
    assert writer.accept(cast(unique=other), cast(unique=one)) == [second, first]


def test_a_dash_stands_for_the_payload(writer: Writer) -> None:
    """`-` joins casts of one payload and keeps apart those of two."""
    same = writer.arrival([cast(payload=b"p", unique=b"-"), cast(payload=b"q", unique=b"-")])
    again = writer.arrival([cast(payload=b"p", unique=b"-")])
    writer.append(same, again)
    assert again.outcome[0] == same.outcome[0] != same.outcome[1]


def test_an_equal_unique_at_another_priority_joins(writer: Writer) -> None:
    """Function and unique make the twin; its priority does not keep it apart, and it is counted where it came."""
    (id_,) = writer.accept(cast(unique=b"u"))
    late = writer.arrival([cast(unique=b"u", priority=0)])
    writer.append(late)
    assert late.outcome == [id_]
    assert {name.priority: counts.coalesced for name, counts in writer.counts.items()} == {1: 0, 0: 1}


def test_a_deferred_twin_lives_and_a_dead_one_does_not(writer: Writer) -> None:
    """A cast in backoff is joined; beside a dead one, and after a done one, an equal unique is a new cast."""
    (id_,) = writer.accept(cast(unique=b"u"))
    lane = writer.lane()
    writer.store(setbacks=[setback(id_, lane, NOW)])
    assert writer.accept(cast(unique=b"u")) == [id_]
    writer.store(setbacks=[setback(id_, lane, None, deferred=True)])
    (second,) = writer.accept(cast(unique=b"u"))
    assert second != id_
    assert writer.accept(cast(unique=b"u")) == [second]
    writer.store(done=[(second, lane, 1, False, 0)])
    assert writer.accept(cast(unique=b"u"))[0] not in (id_, second)


def test_a_verdict_of_the_batch_comes_before_its_arrivals(writer: Writer) -> None:
    """An equal unique in the batch that retires the first cast is a new cast, not one that is gone."""
    (id_,) = writer.accept(cast(unique=b"u"))
    arrival = writer.arrival([cast(unique=b"u")])
    writer.begin()
    writer.transitions.store([(id_, writer.lane(), 1, False, 0)], [], NOW)
    writer.transitions.append([arrival], NOW, None, ENOUGH, ENOUGH)
    writer.commit()
    assert arrival.outcome[0] != id_
    assert [one.cast[0] for one in writer.take(writer.lane())] == list(arrival.outcome)


@pytest.mark.parametrize("prepared", [True, False])
def test_room_in_casts_is_used_up_and_not_passed(writer: Writer, prepared: bool) -> None:
    """With room for three, the first three are taken and the others are refused, over several callers."""
    writer.accept(cast())
    arrivals = [writer.arrival([cast()] * 2, prepared=prepared) for _ in range(3)]
    writer.append(*arrivals, casts=3)
    assert [[isinstance(one, int) for one in arrival.outcome] for arrival in arrivals] == [
        [True, True],
        [True, False],
        [False, False],
    ]
    assert arrivals[2].outcome == ["spool_full"] * 2


@pytest.mark.parametrize("prepared", [True, False])
def test_room_in_bytes_is_used_up_and_not_passed(writer: Writer, prepared: bool) -> None:
    """What is too large for the room that is left is refused; a smaller one behind it still fits."""
    writer.accept(cast())
    arrival = writer.arrival([cast(payload=b"x" * size) for size in (6, 5, 4, 1, 0)], prepared=prepared)
    writer.append(arrival, size=10)
    assert [one == "spool_full" for one in arrival.outcome] == [False, True, False, True, False]


@pytest.mark.parametrize("closed", ["draining", "disk_full"])
def test_a_closed_spool_refuses_all_but_twins(writer: Writer, closed: str) -> None:
    """While it drains, or without room, a new cast is refused with the code; one that is there is joined."""
    (id_,) = writer.accept(cast(unique=b"u"))
    arrival = writer.arrival([cast(unique=b"u"), cast(), cast(b"new lane"), cast(unique=b"v")])
    writer.append(arrival, closed=closed)
    assert arrival.outcome == [id_, closed, closed, closed]
    full = writer.arrival([cast(unique=b"u"), cast()])
    writer.append(full, casts=0, size=0)
    assert full.outcome == [id_, "spool_full"]


def test_ids_never_come_back(writer: Writer) -> None:
    """After the table became empty, and after a restart with it empty, ids go on growing."""
    seen: list[int] = []
    for _ in range(3):
        ids = writer.accept(cast(), cast())
        assert not seen or min(ids) > max(seen)
        seen += ids
        writer.store(done=[(id_, writer.lane(), 1, False, 0) for id_ in ids])
        assert writer.rows("SELECT count(*) FROM casts") == [(0,)]
        writer.reopen()


# -- taking ------------------------------------------------------------------------------------------------------------


def test_a_take_goes_on_where_the_last_one_ended(writer: Writer) -> None:
    """Slices by count and by bytes, each from the last id of the one before, give every cast once and in order."""
    ids = writer.accept(*[cast(payload=b"x" * size) for size in (1, 5, 50, 1, 1, 1, 9, 1, 1, 1)], cast(b"other"))[:-1]
    for casts, size in ((1, ENOUGH), (3, ENOUGH), (100, 10), (100, 0), (2, 3), (10, ENOUGH), (11, ENOUGH)):
        seen: list[int] = []
        after, exhausted = 0, False
        while not exhausted:
            took = writer.transitions.take(writer.lane(), after, casts, size)
            assert len(took.casts) <= casts
            assert len(took.casts) == 1 or sum(len(one.cast[2]) for one in took.casts) <= size or not took.casts
            assert took.casts or took.exhausted
            seen += [one.cast[0] for one in took.casts]
            after, exhausted = took.last_id, took.exhausted
        assert seen == ids


def test_a_take_of_an_empty_lane_says_so(writer: Writer) -> None:
    """Nothing there: nothing taken, exhausted, the place kept."""
    took = writer.transitions.take(99, 5, 10, ENOUGH)
    assert (took.casts, took.last_id, took.exhausted, took.failed) == ([], 5, True, False)


def test_what_is_deferred_or_dead_is_not_ready(writer: Writer) -> None:
    """A take sees ready casts only."""
    ids = writer.accept(*[cast()] * 4)
    lane = writer.lane()
    writer.store(setbacks=[setback(ids[0], lane, NOW), setback(ids[2], lane, None)])
    assert [one.cast[0] for one in writer.take(lane)] == [ids[1], ids[3]]


def test_due_casts_come_once_with_their_history(writer: Writer) -> None:
    """A due cast is taken with its attempts and failures, and not again before its verdict."""
    ids = writer.accept(*[cast()] * 3)
    lane = writer.lane()
    writer.store(setbacks=[setback(id_, lane, NOW + at, attempts=at, failures=at - 1) for at, id_ in enumerate(ids, 2)])
    took = writer.transitions.take_due(lane, NOW + 3, NOW + 1000, 10, ENOUGH)
    assert [(one.cast[0], one.attempts, one.failures, one.deferred) for one in took.casts] == [
        (ids[0], 2, 1, True),
        (ids[1], 3, 2, True),
    ]
    assert took.next_due == NOW + 4
    assert took.exhausted
    again = writer.transitions.take_due(lane, NOW + 3, NOW + 1000, 10, ENOUGH)
    assert again.casts == []
    writer.store(setbacks=[setback(ids[0], lane, NOW + 2, deferred=True, attempts=9)])
    back = writer.transitions.take_due(lane, NOW + 3, NOW + 1000, 10, ENOUGH)
    assert [(one.cast[0], one.attempts) for one in back.casts] == [(ids[0], 9)]


def test_due_casts_come_oldest_due_first_within_their_bytes(writer: Writer) -> None:
    """The order is that of due_at; bytes bound all but the first, and what was left out is there next time."""
    ids = writer.accept(*[cast(payload=b"x" * 10)] * 4)
    lane = writer.lane()
    writer.store(setbacks=[setback(id_, lane, NOW - at) for at, id_ in enumerate(ids)])
    first = writer.transitions.take_due(lane, NOW, NOW + 1000, 10, 15)
    assert [one.cast[0] for one in first.casts] == [ids[3]]
    assert not first.exhausted
    rest = writer.transitions.take_due(lane, NOW, NOW + 1000, 10, ENOUGH)
    assert [one.cast[0] for one in rest.casts] == [ids[2], ids[1], ids[0]]


def test_a_clock_that_was_set_back_freezes_nothing(writer: Writer) -> None:
    """A cast due later than any backoff reaches was stored by another time: it is taken now."""
    (id_,) = writer.accept(cast())
    lane = writer.lane()
    writer.store(setbacks=[setback(id_, lane, NOW)])
    an_hour_back, backoff_max = NOW - 3_600_000_000, 900_000_000
    took = writer.transitions.take_due(lane, an_hour_back, an_hour_back + backoff_max, 10, ENOUGH)
    assert [one.cast[0] for one in took.casts] == [id_]


def test_what_was_taken_but_not_told_is_there_after_a_restart(writer: Writer) -> None:
    """In flight is memory only: after a restart, due and ready casts are taken again."""
    ids = writer.accept(cast(), cast())
    lane = writer.lane()
    writer.store(setbacks=[setback(ids[0], lane, NOW)])
    writer.transitions.take_due(lane, NOW, NOW + 1000, 10, ENOUGH)
    writer.reopen()
    assert [one.cast[0] for one in writer.take(lane)] == [ids[1]]
    due = writer.transitions.take_due(lane, NOW, NOW + 1000, 10, ENOUGH)
    assert [one.cast[0] for one in due.casts] == [ids[0]]


# -- verdicts ----------------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 39)))
def test_done_casts_go_and_the_others_stay(tmp_path_factory: pytest.TempPathFactory, which: set[int]) -> None:
    """Whatever set of ids is done, contiguous or not: just those are gone, and the counts say so."""
    writer = Writer(tmp_path_factory.mktemp("retire") / "spool" / "spool.db")
    ids = writer.accept(*[cast(payload=b"xy")] * 40)
    changes = writer.store(done=[(ids[at], writer.lane(), 2, False, 0) for at in which])
    assert [one.cast[0] for one in writer.take(writer.lane())] == [id_ for at, id_ in enumerate(ids) if at not in which]
    assert changes.ended == ({writer.lane(): (len(which), 0)} if which else {})
    writer.check_counts()
    writer.close()


def test_retirement_leaves_nothing_behind(writer: Writer) -> None:
    """With a cast that was deferred go its fate and its attempts; repeats are counted."""
    (id_,) = writer.accept(cast())
    lane = writer.lane()
    writer.store(setbacks=[setback(id_, lane, NOW, log=1)])
    assert writer.rows("SELECT count(*) FROM attempts") == [(1,)]
    changes = writer.store(done=[(id_, lane, 1, True, 3)])
    assert changes.ended == {lane: (0, 1)}
    assert [writer.rows(f"SELECT count(*) FROM {table}") for table in ("casts", "fates", "attempts")] == [[(0,)]] * 3
    (counts,) = writer.counts.values()
    assert (counts.completed, counts.repeats, counts.failures, counts.deferred, counts.ready) == (1, 3, 1, 0, 0)


def test_a_setback_counts_what_it_says(writer: Writer) -> None:
    """Failures count where they are failures, doubts are repeats, a cast is in one state at a time."""
    ids = writer.accept(*[cast()] * 3)
    lane = writer.lane()
    changes = writer.store(
        setbacks=[
            setback(ids[0], lane, NOW + 50, doubts=2),
            setback(ids[1], lane, NOW + 20, failed=False, failures=0),
            setback(ids[2], lane, None),
        ]
    )
    (counts,) = writer.counts.values()
    assert (counts.ready, counts.deferred, counts.dead, counts.failures, counts.repeats) == (0, 2, 1, 2, 2)
    assert changes.due == {lane: NOW + 20}
    assert changes.ended == {lane: (3, 0)}
    writer.store(setbacks=[setback(ids[0], lane, NOW + 99, deferred=True), setback(ids[1], lane, None, deferred=True)])
    assert (counts.ready, counts.deferred, counts.dead, counts.failures) == (0, 1, 2, 4)


def test_only_the_last_attempts_are_kept(writer: Writer) -> None:
    """Of a cast that failed 25 times the last ten attempts are told, however long ago they were."""
    (id_,) = writer.accept(cast())
    lane = writer.lane()
    for number in range(1, 26):
        writer.store(setbacks=[setback(id_, lane, NOW, deferred=number > 1, attempts=number, log=number)])
        kept = [row[0] for row in writer.rows("SELECT number FROM attempts WHERE id = ? ORDER BY number", id_)]
        assert kept == list(range(max(1, number - ATTEMPTS_KEPT + 1), number + 1))


# -- when the disk fails ---------------------------------------------------------------------------------------------


def test_a_rollback_leaves_memory_as_the_disk_says(writer: Writer) -> None:
    """After a batch that failed half-way, lanes, counts and taken casts are those of before, and the next one works."""
    ids = writer.accept(cast(unique=b"u"), cast())
    lane = writer.lane()
    writer.store(setbacks=[setback(ids[1], lane, NOW)])
    writer.transitions.take_due(lane, NOW, NOW + 1000, 10, ENOUGH)
    before = {name: counts.values() for name, counts in writer.counts.items()}
    writer.begin()
    writer.transitions.store([(ids[0], lane, 1, False, 0)], [setback(ids[1], lane, None, deferred=True)], NOW)
    writer.transitions.append([writer.arrival([cast(b"new"), cast(unique=b"v")])], NOW, None, ENOUGH, ENOUGH)
    writer.rollback()
    assert {name: counts.values() for name, counts in writer.counts.items()} == before
    writer.check_counts()
    assert writer.transitions.take_due(lane, NOW, NOW + 1000, 10, ENOUGH).casts == []
    fresh = writer.accept(cast(b"new"), cast(unique=b"v"), cast(unique=b"u"))
    assert fresh[2] == ids[0]
    assert not {*fresh[:2]} & {*ids}


def test_a_disk_that_fills_up_in_mid_batch_takes_nothing_back(writer: Writer) -> None:
    """SQLITE_FULL in an insert raises; rolled back, what was there is there, and room makes the same batch work."""
    ids = writer.accept(cast(payload=b"before"))
    (pages,) = writer.conn.execute("PRAGMA page_count").fetchone()
    writer.conn.execute(f"PRAGMA max_page_count = {pages}")
    big = writer.arrival([cast(payload=bytes(100_000))])
    writer.begin()
    with pytest.raises(sqlite3.OperationalError, match="full"):
        writer.transitions.append([big], NOW, None, ENOUGH, ENOUGH)
    writer.rollback()
    assert [one.cast[0] for one in writer.take(writer.lane())] == ids
    writer.check_counts()
    writer.conn.execute("PRAGMA max_page_count = 1000000")
    writer.append(big)
    assert [one.cast[0] for one in writer.take(writer.lane())] == [*ids, *big.outcome]


@pytest.mark.parametrize("column", ["payload", "accepted_at", "uid", '"unique"', "digest", "crc"])
def test_a_damaged_cast_is_buried_and_the_others_are_delivered(writer: Writer, column: str) -> None:
    """A row that is not what was written is not taken; it is dead, with its reason, and the rest goes its way."""
    ids = writer.accept(*[cast(payload=b"p%d" % n, unique=b"u%d" % n) for n in range(5)])
    value = "x'21'" if column in ("payload", '"unique"') else f"{column} + 1"
    writer.conn.execute(f"UPDATE casts SET {column} = {value} WHERE id = ?", (ids[2],))
    lane = writer.lane()
    took = writer.transitions.take(lane, 0, 100, ENOUGH)
    assert [one.cast[0] for one in took.casts] == [ids[at] for at in (0, 1, 3, 4)]
    assert writer.transitions.found_damage
    writer.write(lambda: writer.transitions.bury_doomed(NOW))
    assert not writer.transitions.found_damage
    assert writer.rows("SELECT id, state, reason FROM fates") == [(ids[2], "dead", "damaged")]
    (counts,) = writer.counts.values()
    assert (counts.dead, counts.ready) == (1, 4)
    if column == "payload":
        # as long as it was, for the sums of the fixture
        writer.conn.execute("UPDATE casts SET payload = x'2121' WHERE id = ?", (ids[2],))


def test_damage_of_a_deferred_cast_is_found_when_it_is_due(writer: Writer) -> None:
    """A deferred row is checked like any other, and moves from deferred to dead."""
    (id_,) = writer.accept(cast())
    lane = writer.lane()
    writer.store(setbacks=[setback(id_, lane, NOW)])
    writer.conn.execute("UPDATE casts SET payload = x'00'")
    assert writer.transitions.take_due(lane, NOW, NOW + 10, 10, ENOUGH).casts == []
    writer.write(lambda: writer.transitions.bury_doomed(NOW))
    (counts,) = writer.counts.values()
    assert (counts.dead, counts.deferred, counts.ready) == (1, 0, 0)


def flipped(path: Path, at: int, bit: int, good: bytes) -> None:
    """The file as it was, with one bit changed."""
    raw = bytearray(good)
    raw[at] ^= 1 << bit
    path.write_bytes(raw)


@pytest.mark.parametrize("part", ["record", "payload"])
def test_no_flipped_bit_of_a_cast_keeps_back_the_others(tmp_path: Path, part: str) -> None:
    """Each bit of a row on disk, its header too: the others are delivered as they were, it is delivered so or not at
    all, and what is not delivered is set aside once: dead, or, where SQLite cannot read it at all, deferred."""
    path = tmp_path / "spool" / "spool.db"
    writer = Writer(path)
    payload = b"THE-PAYLOAD-OF-THE-VICTIM"
    writer.accept(cast(payload=b"first"), cast(payload=payload, unique=b"unique"), cast(payload=b"last"))
    lane = writer.lane()
    writer.close()
    good = path.read_bytes()
    at = good.index(payload)
    places = range(at - 35, at) if part == "record" else range(at, at + len(payload))
    for place in places:
        for bit in range(8):
            flipped(path, place, bit, good)
            broken = Writer(path)
            took = broken.transitions.take(lane, 0, 10, ENOUGH)
            payloads = [one.cast[2] for one in took.casts]
            assert payloads in ([b"first", b"last"], [b"first", payload, b"last"])
            found = (broken.transitions.found_damage, broken.transitions.found_unread)
            assert sum(found) == (len(payloads) == 2)
            if any(found):
                broken.write(lambda broken=broken: broken.transitions.bury_doomed(NOW))
                (counts,) = broken.counts.values()
                assert (counts.dead, counts.deferred, counts.ready) == (*found, 2)
                assert [one.cast[2] for one in broken.take(lane)] == [b"first", b"last"]
            broken.close()


def test_due_casts_beyond_a_slice_are_not_forgotten(writer: Writer) -> None:
    """With more due than a take may give it says that there is more, until it has given the last."""
    ids = writer.accept(*[cast()] * 5)
    lane = writer.lane()
    writer.store(setbacks=[setback(id_, lane, NOW) for id_ in ids])
    seen: list[tuple[int, bool]] = []
    for casts in (3, 1, 1):
        took = writer.transitions.take_due(lane, NOW, NOW + 1000, casts, ENOUGH)
        seen.append((len(took.casts), took.exhausted))
    assert seen == [(3, False), (1, False), (1, True)]


# -- the operator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slice_", [1, 3, 100])
def test_every_deferred_cast_is_made_due_once(writer: Writer, slice_: int) -> None:
    """Slice by slice all deferred casts become due now; those that are due already, and dead ones, stay as they are."""
    ids = writer.accept(*[cast()] * 8)
    lane = writer.lane()
    writer.store(
        setbacks=[setback(id_, lane, NOW + 1000 + at) for at, id_ in enumerate(ids[:6])]
        + [setback(ids[6], lane, NOW - 5), setback(ids[7], lane, None)]
    )
    after: int | None = 0
    turns = 0
    while after is not None:
        writer.begin()
        after = writer.transitions.make_due(NOW, after, slice_)
        writer.commit()
        turns += 1
        assert turns < 20
    due = dict(writer.rows("SELECT id, due_at FROM fates WHERE state = 'deferred'"))
    assert due == {**dict.fromkeys(ids[:6], NOW), ids[6]: NOW - 5}
    assert writer.rows("SELECT id FROM fates WHERE state = 'dead'") == [(ids[7],)]


def test_draining_is_remembered_over_a_restart(writer: Writer) -> None:
    """Drain stands in the spool itself, and so does its end."""
    assert writer.opened.draining is False
    for draining in (True, False):
        writer.write(lambda draining=draining: writer.transitions.set_draining(draining))
        writer.reopen()
        assert writer.opened.draining is draining


# -- small parts -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 3000))
def test_pieces_cover_every_row_once(n: int) -> None:
    """A batch is cut into statements that exist, without a gap or an overlap."""
    covered = [row for start, count in pieces(n) for row in range(start, start + count)]
    assert covered == list(range(n))


@given(st.sets(st.integers(0, 60)))
def test_ranges_cover_just_the_ids(ids: set[int]) -> None:
    """A range deletes no id that was not done, and no two ranges could be one."""
    found = list(ranges(sorted(ids)))
    assert [id_ for first, last in found for id_ in range(first, last + 1)] == sorted(ids)
    assert all(later[0] > former[1] + 1 for former, later in pairwise(found))


@given(st.binary(min_size=1, max_size=64))
def test_a_digest_fits_an_integer_of_sqlite(unique: bytes) -> None:
    """64 bits with a sign, for any unique, and for every message id."""
    for one in (unique, b"f" * 32, b"0" * 32):
        assert -(2**63) <= digest(one) < 2**63


def test_what_is_kept_of_a_unique() -> None:
    """None for none; itself; and for `-` a name that depends on the payload alone and is no message id."""
    assert kept_unique(b"", b"p") is None
    assert kept_unique(b"u", b"p") == b"u"
    dash = kept_unique(b"-", b"p")
    assert dash == kept_unique(b"-", b"p") != kept_unique(b"-", b"q")
    assert dash is not None
    assert len(dash) == 33


# -- late completions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["ready", "deferred", "dead", "taken", "gone"])
def test_what_is_done_late_is_retired_whatever_its_state(writer: Writer, state: str) -> None:
    """By the state on disk, once; its fate and its attempts go with it, and what is gone already is passed over."""
    (id_,) = writer.accept(cast())
    lane = writer.lane()
    if state in ("deferred", "taken"):
        writer.store(setbacks=[setback(id_, lane, due_at=NOW)])
    if state == "taken":
        assert writer.transitions.take_due(lane, NOW, NOW, 10, ENOUGH).casts
    if state == "dead":
        writer.store(setbacks=[setback(id_, lane, due_at=None)])
    if state == "gone":
        writer.store(done=[(id_, lane, 1, False, 0)])
    for _ in range(2):
        changes = writer.write(lambda: writer.transitions.retire_late([id_]))
        assert changes.retired_late == [id_]
    (counts,) = writer.counts.values()
    assert (counts.completed, counts.kept, counts.deferred, counts.dead, counts.bytes) == (1, 0, 0, 0, 0)
    for table in ("casts", "fates", "attempts"):
        assert writer.rows(f"SELECT count(*) FROM {table}") == [(0,)]


# -- lifetimes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["take", "sweep"])
def test_what_is_beyond_the_limit_is_buried_and_counted(writer: Writer, way: str) -> None:
    """Ready ones from the oldest on, those in backoff, and scheduled ones from their moment: dead, reason expired."""
    ids = writer.accept(*[cast() for _ in range(4)])
    lane, transitions = writer.lane(), writer.transitions
    writer.store(setbacks=[setback(ids[1], lane, due_at=NOW)])
    limit = Limit(NOW - 1, (Step(ids[3], ids[3], NOW, NOW - 1000),))
    if way == "take":
        assert [one.cast[0] for one in transitions.take(lane, 0, 10, ENOUGH, limit).casts] == [ids[3]]
        assert transitions.take_due(lane, NOW, NOW, 10, ENOUGH, limit).casts == []
    else:
        took = transitions.expire(lane, 0, 0, 10, limit)
        assert (took.last_id, took.exhausted) == (ids[2], True)
    assert transitions.found_doomed
    assert not transitions.found_damage
    writer.write(lambda: transitions.bury_doomed(NOW))
    assert not transitions.found_doomed
    (counts,) = writer.counts.values()
    assert (counts.expired, counts.dead, counts.ready, counts.deferred, counts.failures) == (3, 3, 1, 0, 1)
    assert writer.rows("SELECT DISTINCT reason, error FROM fates") == [("expired", "its lifetime was over")]


def test_a_sweep_leaves_what_is_taken_and_stops_at_the_first_that_is_young(writer: Writer) -> None:
    """What is out is the forwarder's; of ready ones only those behind the cursor; a slice goes on where one ended."""
    ids = writer.accept(*[cast() for _ in range(6)])
    lane, transitions = writer.lane(), writer.transitions
    writer.store(setbacks=[setback(id_, lane, due_at=NOW + id_) for id_ in ids[:3]])
    assert len(transitions.take_due(lane, NOW + ids[0], NOW + ids[2], 1, ENOUGH).casts) == 1
    young = Limit(NOW - 1, ())
    assert transitions.expire(lane, 0, 0, 10, young).last_id == 0
    assert not transitions.found_doomed
    old = Limit(NOW + 1000, ())
    took = transitions.expire(lane, ids[4], 0, 2, old)
    assert (took.last_id, took.next_due) == (ids[5], NOW + ids[1] + 1)
    writer.write(lambda: transitions.bury_doomed(NOW))
    assert [row[0] for row in writer.rows("SELECT id FROM fates WHERE state = 'dead' ORDER BY id")] == [ids[1], ids[5]]
    assert transitions.expire(lane, None, took.next_due or 0, 2, old).next_due is None


def test_ages_are_those_that_can_be_read(writer: Writer) -> None:
    """A value that rotted ends no start: its cast is left out here, and set aside when its turn comes."""
    ids = writer.accept(*[cast() for _ in range(4)])
    writer.conn.execute("UPDATE casts SET accepted_at = 'x' WHERE id = ?", (ids[1],))
    assert [id_ for id_, _ in writer.transitions.ages(4)] == [ids[0], ids[2], ids[3]]
    writer.conn.execute("ALTER TABLE casts RENAME COLUMN accepted_at TO elsewhere")
    assert writer.transitions.ages(4) == []
