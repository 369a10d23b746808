"""The spool against a model of it: nothing acknowledged is lost, and the counts are what the tables hold.

The model is a dictionary of casts and a few numbers.  The spool is a real file, written by `Transitions` as the writer
does it: one transaction a batch, verdicts before arrivals, ended by COMMIT, by ROLLBACK, or by a crash.  A crash takes
the database and its WAL as they are on disk at that moment, and goes on from the copy.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.cast import Submission
from relay.spool.changes import Done, Setback, Took
from tests.stateful.examples import examples
from tests.stateful.operator_rules import ENDS, OperatorRules
from tests.stateful.spool_model import Disk, Lane
from tests.unit.spool.writing import ENOUGH, NOW, Writer, cast, setback

#: no test of the disk's: where there is memory that looks like one, an example costs no fsync
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
FUNCTIONS = [b"f", b"g", b"a.b.c"]
UNIQUES = [b"", b"", b"u", b"v", b"-", b"0" * 32, b"0" * 31 + b"1"]
SUBMISSIONS = st.builds(
    cast,
    st.sampled_from(FUNCTIONS),
    st.binary(max_size=12),
    st.sampled_from(UNIQUES),
    st.sampled_from([1, 1, 0, 2]),
)
#: a caller's moment, if any: some are over already
LATER = st.sampled_from([None, None, None, NOW - 5, NOW, NOW + 5, NOW + 30, NOW + 500])
ARRIVALS = st.lists(st.tuples(st.lists(SUBMISSIONS, min_size=1, max_size=6), st.booleans(), LATER), max_size=4)
#: which of the casts in flight, and what came of it
VERDICTS = st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["done", "done", "deferred", "dead"])), max_size=6)
ROOM = st.sampled_from([ENOUGH, ENOUGH, ENOUGH, 0, 1, 2, 5, 20])
MOMENTS = st.integers(NOW - 50, NOW + 50)
#: which of the lanes that have casts, mostly: what is taken is in flight, and little happens to casts that never are
PICKS = st.integers(0, 8)


class SpoolMachine(OperatorRules, RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="relay-spool-", dir=MEMORY))
        self.homes = 0
        self.disk = Disk()
        self.highest = 0
        self.forget()

    @initialize()
    def make(self) -> None:
        """An empty spool."""
        self.writer = Writer(self.root / "0" / "spool.db")

    def teardown(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "writer"):
            self.writer.close()
        shutil.rmtree(self.root)

    def forget(self) -> None:
        """What a process remembers is gone with it."""
        #: in flight: id -> whether it was deferred
        self.flying: dict[int, bool] = {}
        self.cursors: dict[Lane, int] = {}
        #: deferred casts that were handed out
        self.out: set[int] = set()
        #: rotten casts that were found, and are not buried yet
        self.found: list[int] = []

    # -- batches -----------------------------------------------------------------------------------------------------

    @rule(arrivals=ARRIVALS, verdicts=VERDICTS, casts=ROOM, size=ROOM, end=ENDS)
    def batch(
        self,
        arrivals: list[tuple[list[Submission], bool, int | None]],
        verdicts: list[tuple[int, str]],
        casts: int,
        size: int,
        end: str,
    ) -> None:
        """One transaction of the writer's."""
        disk, ended = self.disk.copy(), set[int]()
        done, setbacks = self.verdicts(disk, verdicts, ended)
        made = []
        for several, prepared, later in arrivals:
            made.append(self.writer.arrival(several, prepared=prepared and later is None))
            made[-1].not_before = later
        closed = "draining" if self.writer.transitions.draining else None
        self.writer.begin()
        self.writer.transitions.store(done, setbacks, NOW)
        self.writer.transitions.append(made, NOW, closed, casts, size)
        if end == "crash":
            self.crash()
            return
        if end == "rollback":
            self.writer.rollback()
            return
        self.writer.commit()
        for arrival in made:
            expected, casts, size = disk.accept(arrival, casts, size)
            assert list(arrival.outcome) == expected
            new = [one for one in expected if isinstance(one, int) and one not in self.disk.casts]
            for id_ in dict.fromkeys(new):
                if id_ >= arrival.first_id:
                    assert id_ > self.highest
                    self.highest = id_
        self.disk = disk
        for id_ in ended:
            del self.flying[id_]
            self.out.discard(id_)

    def verdicts(self, disk: Disk, picks: list[tuple[int, str]], ended: set[int]) -> tuple[list[Done], list[Setback]]:
        """Verdicts of casts in flight, as the writer gets them and as the model sees them."""
        done: list[Done] = []
        setbacks: list[Setback] = []
        flying = sorted(self.flying)
        for pick, what in picks:
            id_ = flying[pick % len(flying)] if flying else 0
            if not flying or id_ in ended:
                continue
            ended.add(id_)
            known, deferred = disk.casts[id_], self.flying[id_]
            number = self.writer.lane(*known.lane)
            if what == "done":
                done.append((id_, number, len(known.payload), deferred, 0))
                disk.tally(known.lane).completed += 1
                del disk.casts[id_]
                continue
            known.attempts += 1
            known.failures += 1
            disk.tally(known.lane).failures += 1
            known.state, known.again = what, False
            known.due_at = NOW + pick
            known.scheduled = False
            due_at = known.due_at if what == "deferred" else None
            setbacks.append(
                setback(id_, number, due_at, deferred=deferred, attempts=known.attempts, failures=known.failures)
            )
        return done, setbacks

    @rule()
    def crash(self) -> None:
        """The process dies: what goes on is what stands in the files at that moment."""
        old, self.homes = self.writer, self.homes + 1
        home = self.root / str(self.homes)
        home.mkdir(mode=0o700)
        for end in ("", "-wal"):
            shutil.copy2(f"{old.path}{end}", home / f"spool.db{end}")
        old.close()
        self.writer = Writer(home / "spool.db")
        self.forget()

    @rule(machine=st.sampled_from(["machine", "machine", "another"]))
    def restart(self, machine: str) -> None:
        """An end and a start, now and then on another machine: every cast keeps the key it had."""
        before = {id_: self.writer.identity.spool_id(id_) for id_ in self.disk.casts}
        self.writer.machine = machine
        self.writer.reopen()
        assert {id_: self.writer.identity.spool_id(id_) for id_ in self.disk.casts} == before
        self.forget()

    # -- taking ------------------------------------------------------------------------------------------------------

    def lane(self, pick: int) -> tuple[Lane, int]:
        """A lane and its number, or those of no lane."""
        lanes = sorted({known.lane for known in self.disk.casts.values()})
        if not lanes or pick == 8:
            return (b"none", 1), 999
        lane = lanes[pick % len(lanes)]
        return lane, self.writer.lane(*lane)

    def expect(self, ids: list[int], casts: int, size: int) -> tuple[list[int], list[int], bool]:
        """Of casts in their order: those a take gives, all it saw, and whether it left any."""
        taken: list[int] = []
        seen: list[int] = []
        for id_ in ids:
            known = self.disk.casts[id_]
            if len(seen) == casts or (taken and size < len(known.payload)):
                break
            seen.append(id_)
            size -= len(known.payload)
            if not known.rotten:
                taken.append(id_)
        return taken, seen, len(seen) < len(ids)

    @rule(pick=PICKS, casts=st.integers(1, 8), size=ROOM)
    def take(self, pick: int, casts: int, size: int) -> None:
        """The next ready casts of a lane, as a forwarder takes them: each once, in the order of ids."""
        lane, number = self.lane(pick)
        cursor = self.cursors.get(lane, 0)
        took = self.writer.transitions.take(number, cursor, casts, size)
        ready = [
            id_
            for id_, known in sorted(self.disk.casts.items())
            if known.lane == lane and known.state == "ready" and not known.again and id_ > cursor
        ]
        taken, seen, left = self.expect(ready, casts, size)
        assert [one.cast[0] for one in took.casts] == taken
        assert took.last_id == (seen[-1] if seen else cursor)
        assert not (left and took.exhausted)
        self.cursors[lane] = took.last_id
        self.took(took, seen)

    @rule(pick=PICKS, now=MOMENTS, casts=st.integers(1, 8), size=ROOM)
    def take_due(self, pick: int, now: int, casts: int, size: int) -> None:
        """Casts that are due, each once until its verdict: what came back, then a caller's moment, then by due_at."""
        lane, number = self.lane(pick)
        far = now + 60
        took = self.writer.transitions.take_due(number, now, far, casts, size)
        mine = {
            id_: one
            for id_, one in self.disk.casts.items()
            if one.lane == lane and (one.state == "deferred" or (one.state == "ready" and one.again))
        }
        due = [
            id_
            for id_, one in mine.items()
            if id_ not in self.out and (one.again or one.due_at <= now or (one.due_at > far and not one.scheduled))
        ]
        due.sort(key=lambda id_: (not mine[id_].again, not mine[id_].scheduled, mine[id_].due_at, id_))
        sound = [id_ for id_ in due if not mine[id_].rotten]
        given = [one.cast[0] for one in took.casts]
        rotten = [id_ for id_ in due if id_ in self.rotten_found()]
        assert given == sound[: len(given)]
        assert given + rotten or took.exhausted
        assert not took.exhausted or given == sound
        assert len(given) <= casts
        assert len(given) < 2 or sum(len(one.cast[2]) for one in took.casts) <= size
        assert [(one.attempts, one.failures) for one in took.casts] == [
            (mine[id_].attempts, mine[id_].failures) for id_ in given
        ]
        later = [one.due_at for one in mine.values() if one.state == "deferred" and one.due_at > now]
        assert took.next_due == (min(later) if later else None)
        self.out |= {*given, *rotten}
        self.took(took, [*given, *rotten])

    def rotten_found(self) -> set[int]:
        """What the spool holds for rotten, and has not buried yet."""
        return {one.id for one in self.writer.transitions._taking._doomed.values()}

    def took(self, took: Took, seen: list[int]) -> None:
        """What was taken is in flight; its bytes are those that were handed over."""
        for one in took.casts:
            known = self.disk.casts[one.cast[0]]
            assert one.cast[0] not in self.flying
            assert one.cast[1:] == (known.unique, known.payload, known.since)
            assert one.deferred == (known.state == "deferred")
            self.flying[one.cast[0]] = one.deferred
        self.found += [id_ for id_ in seen if self.disk.casts[id_].rotten]
        assert self.rotten_found() == set(self.found)

    # -- damage ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.disk.casts)
    @rule(pick=st.integers(0, 100))
    def rot(self, pick: int) -> None:
        """A bit of a cast that waits on disk flips."""
        waiting = [
            id_
            for id_, known in self.disk.casts.items()
            if known.state != "dead" and id_ not in self.flying and id_ not in self.found and not known.rotten
        ]
        if waiting:
            id_ = waiting[pick % len(waiting)]
            self.writer.conn.execute("UPDATE casts SET crc = crc + 1 WHERE id = ?", (id_,))
            self.disk.casts[id_].rotten = True

    @precondition(lambda self: self.found)
    @rule(end=ENDS)
    def bury(self, end: str) -> None:
        """What was found rotten is set aside."""
        assert self.writer.transitions.found_damage
        self.writer.begin()
        self.writer.transitions.bury_doomed(NOW)
        if end == "commit":
            self.writer.commit()
            for id_ in self.found:
                self.disk.casts[id_].state, self.disk.casts[id_].again = "dead", False
            self.found = []
        elif end == "rollback":
            self.writer.rollback()
        else:
            self.crash()

    # -- the operator ------------------------------------------------------------------------------------------------

    @rule(draining=st.booleans(), end=ENDS)
    def drain(self, draining: bool, end: str) -> None:
        """Drain or resume, in a transaction of its own."""
        self.writer.begin()
        self.writer.transitions.set_draining(draining)
        if end == "commit":
            self.writer.commit()
            self.disk.draining = draining
        elif end == "rollback":
            self.writer.rollback()
        else:
            self.crash()

    @rule(now=MOMENTS, slice_=st.integers(1, 4))
    def make_due(self, now: int, slice_: int) -> None:
        """Every cast in backoff becomes due, a slice at a time; a caller's moment stays."""
        after: int | None = 0
        while after is not None:
            self.writer.begin()
            after = self.writer.transitions.make_due(now, after, slice_)
            self.writer.commit()
        for known in self.disk.casts.values():
            if known.state == "deferred" and not known.scheduled:
                known.due_at = min(known.due_at, now)

    # -- always ------------------------------------------------------------------------------------------------------

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        """Just the casts that were acknowledged and not retired are on disk, byte for byte, in their states."""
        if not hasattr(self, "writer"):
            return
        rows = self.writer.rows(
            "SELECT casts.id, function, priority, \"unique\", payload, coalesce(state, 'ready') FROM casts"
            " JOIN lanes ON lanes.number = casts.lane LEFT JOIN fates ON fates.id = casts.id ORDER BY casts.id"
        )
        assert rows == [
            (id_, *known.lane, known.unique, known.payload, known.state)
            for id_, known in sorted(self.disk.casts.items())
        ]

    @invariant()
    def accepted_is_the_sum(self) -> None:
        """accepted = ready and in flight + deferred + held + dead + completed + purged, in every lane."""
        if not hasattr(self, "writer"):
            return
        self.writer.check_counts()
        for name, counts in self.writer.counts.items():
            lane = (name.function, name.priority)
            tally = self.disk.tallies[lane]
            states = [known.state for known in self.disk.casts.values() if known.lane == lane]
            assert counts.ready == states.count("ready")
            assert (counts.deferred, counts.held, counts.dead) == tuple(map(states.count, ("deferred", "held", "dead")))
            assert (counts.accepted, counts.completed, counts.purged) == (tally.accepted, tally.completed, tally.purged)
            assert (counts.coalesced, counts.failures) == (tally.coalesced, tally.failures)
            assert counts.accepted == len(states) + counts.completed + counts.purged
        assert self.disk.tallies.keys() == {(name.function, name.priority) for name in self.writer.counts}

    @invariant()
    def draining_is_what_was_committed(self) -> None:
        """The spool refuses new casts exactly while the last COMMIT says so."""
        if hasattr(self, "writer"):
            kept = self.writer.rows("SELECT value FROM meta WHERE name = 'draining'")
            assert bool(kept and kept[0][0]) == self.disk.draining
            assert self.writer.transitions.draining == self.disk.draining


TestSpool = SpoolMachine.TestCase
TestSpool.settings = examples(40, 40)
