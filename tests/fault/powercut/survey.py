"""Walking a recording: at each step the power is cut in several ways, and what is left is held against what is owed.

Promises: a state of the disk is told from others by its content, and counted and opened once; what it holds is
compared with what is owed whenever it is met. Wherever a sync ended, or what is owed has changed, the plainest state is
looked at (nothing that is pending is there); after each change of the disk so many others as were asked for, all there
are where they are few, and else drawn from the source of chance.
"""

import ctypes
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from .custody import Custody
from .disk import Disk, State
from .inspection import inspect
from .recording import Step

SPOOL = "spool.db"
#: bad states that are told, and kept
MOST_TOLD = 20


def quick_sums(recorder: Path) -> Callable[[bytes, int, int, str], tuple[int, int]]:
    """The checksum of `relay.spool.wal` in C: the same numbers, and ten times as many states a minute."""
    compiled = ctypes.CDLL(str(recorder)).wal_sum
    compiled.restype = ctypes.c_uint64
    compiled.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_int]

    def quick(data: bytes, first: int, second: int, order: str) -> tuple[int, int]:
        return divmod(compiled(data, len(data), first, second, order == ">"), 1 << 32)

    return quick


class Held(NamedTuple):
    """What a state of the disk came to when it was opened."""

    ids: frozenset[int]
    next_id: int
    complaints: list[str]


class Survey:
    """All the recordings of a test, and what was found."""

    def __init__(self, directory: Path, rng: Random, stop_at_first: bool = False, keep: Path | None = None) -> None:
        """States are laid out in a directory, which should be in memory; bad ones are kept in another."""
        self._spool = directory / "state" / SPOOL
        self._rng = rng
        self._stop_at_first = stop_at_first
        self._keep = keep
        self._known: dict[frozenset[tuple[str, tuple[int, int]]], Held] = {}
        self._sets: dict[frozenset[int], frozenset[int]] = {}
        self.steps = self.cuts = 0
        self.bad: list[str] = []
        self.bad_states = 0
        #: complaints about states from before the first promise
        self.unopened: list[str] = []

    @property
    def states(self) -> int:
        """Distinct states of the disk that were opened."""
        return len(self._known)

    def walk(self, steps: Sequence[Step], files: Mapping[str, bytes], custody: Custody, most: int) -> None:
        """Cut at each step of a recording that began with these files and what is owed; some `most` new states."""
        disk = Disk(files)
        interesting = sum(step.kind in "wtaourS" for step in steps)
        each = most / max(1, interesting)
        for number, step in enumerate(steps):
            self.steps += 1
            changed = disk.apply(step)
            owes = custody.apply(step)
            if not (changed or owes):
                continue
            share = int(each) + (self._rng.random() < each % 1) if changed else 0
            for state in disk.crash_states(self._rng, share, owes or step.kind == "S"):
                self._look(state, custody, f"step {number} ({step.kind})")
                if self.bad and self._stop_at_first:
                    return

    def _look(self, state: State, custody: Custody, where: str) -> None:
        self.cuts += 1
        key = frozenset((name, content.digest()) for name, content in state.items())
        held = self._known.get(key)
        if held is None:
            held = self._known[key] = self._open(state, custody)
            if held.complaints and not custody.payloads:
                self.unopened.append(f"{where}: {'; '.join(held.complaints[:3])}")
        if held.complaints:
            if custody.payloads:
                self._note(f"{where}: {'; '.join(held.complaints[:3])}", state)
            return
        lost = custody.owed - held.ids
        if lost:
            self._note(f"{where}: {len(lost)} casts lost, {sorted(lost)[:3]}", state)
        elif held.next_id <= custody.last_id:
            self._note(f"{where}: the id {held.next_id} would be given out again", state)

    def report(self, told: Callable[[str, object], None]) -> None:
        """Print the figures, and tell them as properties of the run."""
        figures = {
            "steps": self.steps,
            "cuts": self.cuts,
            "distinct_states": self.states,
            "bad": self.bad_states,
            "not_opened_before_a_promise": len(self.unopened),
        }
        for what, value in figures.items():
            print(f"{what}: {value}")
            told(what, value)
        for text in self.unopened[:5]:
            print(text)

    def _note(self, text: str, state: State) -> None:
        self.bad_states += 1
        if len(self.bad) < MOST_TOLD:
            if self._keep:
                kept = self._keep / f"bad-{len(self.bad)}"
                lay_out(state, kept)
                text += f" (kept in {kept})"
            self.bad.append(text)

    def _open(self, state: State, custody: Custody) -> Held:
        lay_out(state, self._spool.parent)
        found = inspect(self._spool)
        complaints = list(found.complaints)
        for id_, payload in found.payloads.items():
            if id_ in custody.payloads and payload not in custody.payloads[id_]:
                complaints.append(f"cast {id_} has another payload than it was acknowledged with")
        ids = frozenset(found.payloads)
        return Held(self._sets.setdefault(ids, ids), found.next_id, complaints)


def lay_out(state: State, directory: Path) -> None:
    """Make a directory that holds just this state."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    for name, content in state.items():
        path = directory / name
        path.touch(mode=0o600)
        size, found = content.digest()
        if found:
            path.write_bytes(content.bytes())
        else:  # zeros, as the ballast's 4 MiB
            os.truncate(path, size)


def some_state(steps: Sequence[Step], rng: Random) -> tuple[dict[str, bytes], Custody]:
    """A state that a cut at a step drawn by chance leaves, and what was owed then."""
    disk, custody = Disk({}), Custody()
    last = rng.randrange(len(steps) // 2, len(steps))
    for step in steps[:last]:
        disk.apply(step)
        custody.apply(step)
    state = rng.choice(list(disk.crash_states(rng, 10, False)))
    return {name: bytes(content.bytes()) for name, content in state.items()}, custody
