"""What an operator does to the spool, as rules of its machine: hold, release, retry, bury, revive, purge, import.

Each is one transaction of the writer's, as the agent and the offline verbs make it, and ends as any other: by COMMIT,
by ROLLBACK or by a crash.  The tally of what it came to is the model's.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from relay.spool.edits import Edit, Tally, Verb, apply
from relay.spool.moving import Imported, Incoming, bring_in
from tests.stateful.spool_model import Disk, Known
from tests.unit.spool.writing import NOW, Writer

#: how a transaction ends: a crash ends what is in flight as well, so that it is to be rare
ENDS = st.sampled_from([*["commit"] * 8, "rollback", "crash"])
VERBS = st.sampled_from([Verb.HOLD, Verb.RELEASE, Verb.RETRY, Verb.BURY, Verb.REVIVE, Verb.PURGE])
#: those for casts that a job server may have
OF_THE_LIVING = st.sampled_from([Verb.HOLD, Verb.RETRY, Verb.BURY])
PICKS = st.lists(st.integers(0, 50), min_size=1, max_size=6, unique=True)
#: the states on disk that a verb changes casts of
CONCERNED = {
    Verb.HOLD: ("ready", "deferred"),
    Verb.RELEASE: ("held",),
    Verb.RETRY: ("deferred",),
    Verb.BURY: ("ready", "deferred", "held"),
    Verb.REVIVE: ("dead",),
    Verb.PURGE: ("dead",),
}
INCOMING = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from([b"f", b"g", b"new"]),
        st.sampled_from([None, b"u", b"v"]),
        st.sampled_from(["ready", "held", "dead"]),
        st.sampled_from([None, NOW - 5, NOW + 30]),
    ),
    min_size=1,
    max_size=4,
)


class OperatorRules:
    """Rules for a machine that has these."""

    writer: Writer
    disk: Disk
    flying: dict[int, bool]
    out: set[int]
    found: list[int]
    highest: int

    def crash(self) -> None:
        """The machine's own."""

    # what was found rotten is buried before an edit has its turn, unless the disk fails
    @precondition(lambda self: self.disk.casts and not self.found)
    @rule(
        verb=VERBS,
        picks=PICKS,
        end=ENDS,
    )
    def edit(self, verb: Verb, picks: list[int], end: str) -> None:
        """Change some casts: those that the verb is for, and that are not in flight."""
        everything = sorted(self.disk.casts)
        self._edit(verb, sorted({everything[pick % len(everything)] for pick in picks}), end)

    @precondition(lambda self: self.flying and not self.found)
    @rule(verb=OF_THE_LIVING, picks=PICKS)
    def edit_in_flight(self, verb: Verb, picks: list[int]) -> None:
        """Try to change what is in flight, beside others: by chance alone the two seldom meet."""
        flying, others = sorted(self.flying), sorted(self.disk.casts.keys() - self.flying.keys())
        ids = {flying[pick % len(flying)] for pick in picks} | set(others[picks[0] :][:1])
        self._edit(verb, sorted(ids), "commit")

    def _edit(self, verb: Verb, ids: list[int], end: str) -> None:
        disk, expected = self.disk.copy(), Tally()
        left = [id_ for id_ in ids if self._change(disk, verb, id_, expected)]
        self.writer.begin()
        tally = apply(self.writer.transitions, Edit(verb, 0), ids, set(self.flying), NOW)
        assert (tally.shown(), tally.ids) == (expected.shown(), left)
        if self._end(end):
            self.disk = disk
            self.out.difference_update(left)

    def _change(self, disk: Disk, verb: Verb, id_: int, tally: Tally) -> bool:
        """The same in the model; True where it changes the cast."""
        known = disk.casts[id_]
        if known.state not in CONCERNED[verb] or (verb is Verb.RETRY and known.scheduled):
            tally.other += 1
        elif id_ in self.flying:
            tally.in_flight += 1
        elif verb is Verb.REVIVE and known.unique and disk.twin(known.lane[0], known.unique) is not None:
            tally.twins += 1
        else:
            tally.changed += 1
            if verb is Verb.PURGE:
                disk.tally(known.lane).purged += 1
                del disk.casts[id_]
            elif verb is Verb.RETRY:
                known.due_at = min(known.due_at, NOW)
            elif verb in (Verb.HOLD, Verb.BURY):
                known.state, known.again = "held" if verb is Verb.HOLD else "dead", False
                known.scheduled = False
            else:
                self._bring_back(known, verb)
            return True
        return False

    def _bring_back(self, known: Known, verb: Verb) -> None:
        """Released or revived: ready again, or for its caller's moment, and its lifetime begins anew."""
        early = known.not_before > NOW
        known.state, known.again, known.scheduled = "deferred" if early else "ready", not early, early
        known.due_at = known.not_before
        known.since = max(known.since, NOW)
        if verb is Verb.REVIVE:
            known.failures = 0

    @rule(lines=INCOMING, end=ENDS)
    def take_in(self, lines: list[tuple[int, bytes, bytes | None, str, int | None]], end: str) -> None:
        """Import casts: each origin once, and no twin of what lives."""
        disk, expected = self.disk.copy(), Imported()
        first_id = self.writer.next_id
        self.writer.next_id += len(lines)
        casts = []
        for id_, (origin, function, unique, state, not_before) in enumerate(lines, first_id):
            name = f"0123456789ab-{origin}"
            casts.append(
                Incoming(name, name, function, unique, 1, state, None, not_before, None, 2, 1, "why", "", b"imported")
            )
            if name in disk.origins:
                expected.repeated += 1
            elif state != "dead" and unique and disk.twin(function, unique) is not None:
                expected.twins += 1
            else:
                expected.imported += 1
                disk.origins.add(name)
                disk.tally((function, 1)).accepted += 1
                disk.casts[id_] = self._imported(function, unique, state, not_before)
        self.writer.begin()
        said = bring_in(self.writer.transitions, self.writer.identity, casts, first_id, NOW)
        assert said == expected
        if self._end(end):
            self.highest = max([self.highest, *disk.casts.keys() - self.disk.casts.keys()])
            self.disk = disk

    @staticmethod
    def _imported(function: bytes, unique: bytes | None, state: str, not_before: int | None) -> Known:
        known = Known((function, 1), unique, b"imported", state, attempts=2, failures=1, not_before=not_before or 0)
        known.since = max(NOW, not_before or 0)
        if state == "ready" and known.not_before > NOW:
            known.state, known.scheduled, known.due_at = "deferred", True, known.not_before
        known.again = known.state == "ready"
        return known

    def _end(self, end: str) -> bool:
        """True where it was committed."""
        if end == "crash":
            self.crash()
        elif end == "rollback":
            self.writer.rollback()
        else:
            self.writer.commit()
        return end == "commit"
