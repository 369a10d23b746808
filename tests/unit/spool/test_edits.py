"""What an operator does to casts on disk: each verb in each state, the counts, and what the forwarder is told."""

import pytest

from relay.lifecycle import TABLE, State
from relay.spool.edits import _EVENTS, Verb, concerned
from tests.unit.spool.writing import ENOUGH, NOW, Writer, cast, setback

HOUR = 3_600_000_000


def make(writer: Writer, state: State) -> int:
    """A cast in this state."""
    (id_,) = writer.accept(cast())
    lane = writer.lane()
    if state is State.DEFERRED:
        writer.store(setbacks=[setback(id_, lane, NOW + HOUR)])
    elif state is State.DEAD:
        writer.store(setbacks=[setback(id_, lane, None)])
    elif state is State.HELD:
        writer.edit(Verb.HOLD, id_)
    return id_


def state_of(writer: Writer, id_: int) -> str | None:
    """What the disk says."""
    found = writer.rows("SELECT state FROM backlog WHERE id = ?", id_)
    return str(found[0][0]) if found else None


def due(writer: Writer, now: int = NOW) -> list[int]:
    """The casts that may go now, beside the fresh ones."""
    return [one.cast[0] for one in writer.transitions.take_due(writer.lane(), now, ENOUGH << 20, 100, ENOUGH).casts]


@pytest.mark.parametrize("state", [State.READY, State.DEFERRED, State.HELD, State.DEAD])
@pytest.mark.parametrize("verb", [Verb.HOLD, Verb.RELEASE, Verb.BURY, Verb.REVIVE, Verb.PURGE])
def test_each_verb_moves_by_the_table(writer: Writer, verb: Verb, state: State) -> None:
    """Where the table has the pair the cast is in the next state and counted there; elsewhere nothing changes."""
    id_ = make(writer, state)
    target = TABLE.get((state, _EVENTS[verb]))
    tally = writer.edit(verb, id_)
    assert (tally.changed, tally.other, tally.matched) == (int(target is not None), int(target is None), 1)
    left = None if target is State.PURGED else (target or state).value
    assert state_of(writer, id_) == left
    assert (state.value in concerned(verb)) == (target is not None)
    writer.reopen()
    assert state_of(writer, id_) == left


@pytest.mark.parametrize("verb", [Verb.HOLD, Verb.BURY])
def test_what_is_in_flight_is_skipped_and_counted(writer: Writer, verb: Verb) -> None:
    """A cast that is at an upstream stays as it is, its neighbour is changed."""
    first, second = writer.accept(cast(), cast())
    tally = writer.edit(verb, first, second, busy={first})
    assert (tally.matched, tally.changed, tally.in_flight, tally.ids) == (2, 1, 1, [second])
    assert state_of(writer, first) == "ready"


def test_what_left_is_told_to_whoever_forwards(writer: Writer) -> None:
    """Held and buried casts are named by lane, so that they leave its memory; released ones may be taken again."""
    ready, deferred = make(writer, State.READY), make(writer, State.DEFERRED)
    assert due(writer, NOW + HOUR) == [deferred]
    writer.edit(Verb.HOLD, ready, deferred)
    assert writer.changed.left == {writer.lane(): [ready, deferred]}
    assert writer.take(writer.lane()) == []
    writer.edit(Verb.RELEASE, ready, deferred)
    assert writer.changed.left == {}
    assert writer.changed.due == {writer.lane(): NOW}
    assert due(writer) == [ready, deferred]


def test_a_released_cast_is_ready_with_its_history_and_is_retired_whole(writer: Writer) -> None:
    """It counts as ready, is taken once with its failures, survives a restart, and leaves no fate behind."""
    id_ = make(writer, State.DEFERRED)
    writer.edit(Verb.HOLD, id_)
    writer.edit(Verb.RELEASE, id_)
    writer.reopen()
    ((name, counts),) = writer.counts.items()
    assert (counts.ready, counts.deferred, counts.held) == (1, 0, 0)
    (taken,) = writer.transitions.take_due(name.number, NOW, ENOUGH << 20, 10, ENOUGH).casts
    assert (taken.cast[0], taken.attempts, taken.failures, taken.deferred) == (id_, 1, 1, False)
    assert due(writer) == [], "what is out is not taken twice"
    changes = writer.store(done=[(id_, name.number, 1, False, 0)])
    assert changes.ended == {name.number: (1, 0)}
    assert writer.rows("SELECT * FROM fates") == []
    assert not writer.transitions.ledger.again
    assert writer.transitions.ledger.taken_due == {name.number: set()}


def test_an_operators_reason_ends_with_what_it_was_for(writer: Writer) -> None:
    """A released or revived cast is not said to be held or buried; why an attempt had failed before a hold stays."""
    fresh, failed, buried = make(writer, State.READY), make(writer, State.DEFERRED), make(writer, State.READY)
    before = writer.rows(f"SELECT reason FROM fates WHERE id = {failed}")
    writer.edit(Verb.HOLD, fresh, failed)
    writer.edit(Verb.BURY, buried)
    reasons = "SELECT reason FROM fates ORDER BY id"
    assert writer.rows(reasons) == [("held",), *before, ("buried",)]
    writer.edit(Verb.RELEASE, fresh, failed)
    writer.edit(Verb.REVIVE, buried)
    assert writer.rows(reasons) == [("",), *before, ("",)]
    assert before != [("",)]


def test_a_released_cast_that_fails_is_deferred_as_any_other(writer: Writer) -> None:
    """Its fate says so, the counts go with it, and it can be taken when it is due."""
    id_ = make(writer, State.HELD)
    writer.edit(Verb.RELEASE, id_)
    assert due(writer) == [id_]
    changes = writer.store(setbacks=[setback(id_, writer.lane(), NOW + 5)])
    assert changes.ended == {writer.lane(): (1, 0)}
    assert state_of(writer, id_) == "deferred"
    assert due(writer, NOW + 5) == [id_]


def test_a_revived_cast_has_all_its_attempts_again(writer: Writer) -> None:
    """Its failures are forgotten, its attempts are not: they number what the log of attempts says."""
    (id_,) = writer.accept(cast())
    writer.store(setbacks=[setback(id_, writer.lane(), None, attempts=50, failures=50)])
    writer.edit(Verb.REVIVE, id_)
    (taken,) = writer.transitions.take_due(writer.lane(), NOW, ENOUGH << 20, 10, ENOUGH).casts
    assert (taken.attempts, taken.failures) == (50, 0)


def test_a_revive_that_meets_a_living_twin_is_skipped(writer: Writer) -> None:
    """Same function and unique: counted as a twin; another function's is none, nor is a dead one."""
    (dead,) = writer.accept(cast(unique=b"order-1"))
    writer.edit(Verb.BURY, dead)
    (living,) = writer.accept(cast(unique=b"order-1"))
    writer.accept(cast(b"other", unique=b"order-2"))
    (free,) = writer.accept(cast(unique=b"order-2"))
    writer.edit(Verb.BURY, free)
    tally = writer.edit(Verb.REVIVE, dead, free)
    assert (tally.changed, tally.twins, tally.ids) == (1, 1, [free])
    assert (state_of(writer, dead), state_of(writer, living)) == ("dead", "ready")
    for state in (Verb.HOLD, Verb.RELEASE):
        writer.edit(state, living)
        assert writer.edit(Verb.REVIVE, dead).twins == 1
    writer.edit(Verb.BURY, living)
    tally = writer.edit(Verb.REVIVE, dead, living)
    assert (tally.changed, tally.twins, tally.ids) == (1, 1, [dead]), "of two dead twins one comes back"


def test_a_held_twin_coalesces_and_a_dead_one_does_not(writer: Writer) -> None:
    """An equal unique gets a held cast's id; beside a dead one it is a new cast."""
    (id_,) = writer.accept(cast(unique=b"u"))
    writer.edit(Verb.HOLD, id_)
    assert writer.accept(cast(unique=b"u")) == [id_]
    writer.edit(Verb.BURY, id_)
    assert writer.accept(cast(unique=b"u")) != [id_]


@pytest.mark.parametrize("way", [(Verb.HOLD, Verb.RELEASE), (Verb.BURY, Verb.REVIVE)])
def test_a_callers_moment_is_kept_by_release_and_revive(writer: Writer, way: tuple[Verb, Verb]) -> None:
    """What was cast for later and comes back too early waits for its moment again; later it goes at once."""
    arrival = writer.arrival([cast()], prepared=False)
    arrival.not_before = NOW + HOUR
    writer.append(arrival)
    id_ = arrival.first_id
    for now, expected in ((NOW, "deferred"), (NOW + HOUR, "ready")):
        writer.edit(way[0], id_)
        assert writer.edit(way[1], id_, now=now).changed == 1
        assert state_of(writer, id_) == expected
    assert due(writer) == [id_]


def test_retry_makes_due_what_waits_for_its_backoff_and_no_callers_moment(writer: Writer) -> None:
    """A cast in backoff is due now, with its history; one for later stays for later."""
    id_ = make(writer, State.DEFERRED)
    arrival = writer.arrival([cast()], prepared=False)
    arrival.not_before = NOW + HOUR
    writer.append(arrival)
    tally = writer.edit(Verb.RETRY, id_, arrival.first_id)
    assert (tally.changed, tally.other) == (1, 1)
    assert writer.changed.due == {writer.lane(): NOW}
    assert due(writer) == [id_]


def test_a_buried_cast_says_who_and_what_went_before(writer: Writer) -> None:
    """Reason buried, the uid, and the error that it had."""
    never, failed = make(writer, State.READY), make(writer, State.DEFERRED)
    writer.edit(Verb.BURY, never, failed)
    assert writer.rows("SELECT reason, error FROM fates ORDER BY id") == [
        ("buried", "buried by uid 0"),
        ("buried", "buried by uid 0; before that: why"),
    ]


def test_a_purge_leaves_nothing_and_counts_it(writer: Writer) -> None:
    """The casts, their fates and attempts are gone, and accepted is the sum still."""
    ids = writer.accept(*[cast(payload=b"four")] * 5)
    writer.store(setbacks=[setback(id_, writer.lane(), None, log=1) for id_ in ids[:4]])
    assert writer.edit(Verb.PURGE, *ids).changed == 4
    ((_, counts),) = writer.counts.items()
    assert (counts.accepted, counts.purged, counts.dead, counts.ready, counts.bytes) == (5, 4, 0, 1, 4)
    assert writer.rows("SELECT count(*) FROM attempts") == [(0,)]


def test_only_what_was_marked_is_moved_away(writer: Writer) -> None:
    """Held casts that were written out are purged as moved; a release takes the mark away."""
    ids = writer.accept(*[cast()] * 3)
    writer.edit(Verb.HOLD, *ids, held_by="export")
    writer.edit(Verb.MARK, *ids[:2])
    writer.edit(Verb.RELEASE, ids[0])
    writer.edit(Verb.HOLD, ids[0])
    assert writer.edit(Verb.MOVE, *ids).ids == [ids[1]]


def test_a_release_by_holder_leaves_what_others_hold(writer: Writer) -> None:
    """What `new GLOB` held goes, what an operator held stays."""
    ids = writer.accept(cast(), cast())
    writer.edit(Verb.HOLD, ids[0])
    writer.edit(Verb.HOLD, ids[1], held_by="new f*")
    assert writer.edit(Verb.RELEASE, *ids, held_by="new f*").ids == [ids[1]]


def test_a_rollback_forgets_an_edit(writer: Writer) -> None:
    """Counts, holds and what is taken are as the disk says."""
    id_ = make(writer, State.READY)
    writer.begin()
    writer.transitions.holds.set("f", None)
    from relay.spool.edits import Edit, apply

    apply(writer.transitions, Edit(Verb.HOLD, 0), [id_], (), NOW)
    writer.rollback()
    assert state_of(writer, id_) == "ready"
    assert writer.transitions.holds.all == ()
    (after,) = writer.accept(cast())
    assert state_of(writer, after) == "ready"


# -- holds of what is still to come ------------------------------------------------------------------------------------


def hold_new(writer: Writer, pattern: str, until: int | None = None) -> None:
    """As `hold --new` does."""
    writer.write(lambda: writer.transitions.holds.set(pattern, until))


@pytest.mark.parametrize("prepared", [True, False])
def test_what_comes_for_a_held_function_is_held(writer: Writer, prepared: bool) -> None:
    """Old lanes and new ones, prepared or not, until the hold ends; others are not touched."""
    writer.accept(cast(b"mail.a"), cast(b"bill"))
    hold_new(writer, "mail.*")
    for functions in ((b"mail.a", b"bill"), (b"mail.new", b"bill")):
        arrival = writer.arrival([cast(function) for function in functions], prepared=prepared)
        changes = writer.append(arrival)
        states = [state_of(writer, arrival.first_id + at) for at in (0, 1)]
        assert states == ["held", "ready"]
        assert [len(fresh) for fresh in changes.fresh.values() if fresh] == [1], "only the other one is forwarded"
    assert writer.rows("SELECT DISTINCT held_by FROM fates") == [("new mail.*",)]
    writer.write(lambda: assert_dropped(writer, "mail.*"))
    (free,) = writer.accept(cast(b"mail.a"))
    assert state_of(writer, free) == "ready"


def assert_dropped(writer: Writer, pattern: str) -> None:
    """The hold was there."""
    assert writer.transitions.holds.drop(pattern)


def test_a_hold_survives_a_restart_and_lapses(writer: Writer) -> None:
    """It is read from disk, and holds nothing from its moment on."""
    writer.accept(cast())
    hold_new(writer, "f", NOW + 1)
    writer.reopen()
    (held,) = writer.accept(cast())
    assert state_of(writer, held) == "held"
    hold_new(writer, "f", NOW)
    (free,) = writer.accept(cast())
    assert state_of(writer, free) == "ready"


def test_what_is_held_from_the_start_can_be_for_later(writer: Writer) -> None:
    """Held beats scheduled; released early it waits for its caller's moment."""
    hold_new(writer, "f")
    arrival = writer.arrival([cast()], prepared=False)
    arrival.not_before = NOW + HOUR
    writer.append(arrival)
    assert state_of(writer, arrival.first_id) == "held"
    writer.edit(Verb.RELEASE, arrival.first_id)
    assert state_of(writer, arrival.first_id) == "deferred"
