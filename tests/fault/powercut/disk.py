"""A model of a file system: what a power cut may leave.

What was written before a successful sync of the file began is *durable* once the sync has ended. What came after is
*pending*: in a crash state each such write may be there, be missing, be there up to a sector or from a sector on, or
have grown the file with zeros, in any combination; a truncation may have happened or not. That allows more than any
file system does.

A sync that failed makes nothing durable, and its pages count as clean, as Linux has it: what a program reads back, from
its page cache, is *doomed* not to be on the disk, until something else is written to the same page.

Names (a file made, removed, renamed) are modelled in two ways. *Strict*: durable after a sync of the directory, until
then in any combination. *Journalled*: a sync of any file makes durable what was done to names before, and what came
after is there in order, up to some point.

Pure: a file's content is bytes here. Never looks at the disk.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import NamedTuple

from .recording import FLEETING, Step

PAGE = 4096
SECTOR = 512


def digest(page: int, content: bytes) -> int:
    """64 bits that tell a page of a file from others; 0 for zeros, so that a hole is what it reads as."""
    if not any(content):
        return 0
    return int.from_bytes(blake2b(content.ljust(PAGE, b"\0"), digest_size=8, salt=page.to_bytes(8, "big")).digest())


class Op(NamedTuple):
    """A change of a file that is pending: data at an offset, or (data None) a size."""

    number: int
    at: int
    data: bytes | None


class Choice(NamedTuple):
    """What becomes of a pending change: bytes `start` to `stop` of it are there; `grown`: its length counts anyway."""

    start: int
    stop: int
    grown: bool = False


KEPT = Choice(0, 1 << 62)
DROPPED = Choice(0, 0)
ZEROS = Choice(0, 0, True)


class Name(NamedTuple):
    """A change of a name that is pending: this name is that file from now on, or (None) nothing."""

    name: str
    inode: "Inode | None"


class Sync(NamedTuple):
    """What a sync that has begun will have made durable: how many pending changes, pages, the size."""

    changes: int
    pages: dict[int, bytes]
    size: int


class Inode:
    """A file, whatever its name: what a program reads, what is durable, and what is in between."""

    def __init__(self, content: bytes = b"") -> None:
        """A file whose content is durable."""
        self.cache = bytearray(content)
        self.durable = bytearray(content)
        self.digests = {n: digest(n, content[n * PAGE : (n + 1) * PAGE]) for n in range(-(-len(content) // PAGE))}
        self.digest = 0
        for value in self.digests.values():
            self.digest ^= value
        self.pending: list[Op] = []
        self._dirty: set[int] = set()

    def write(self, number: int, at: int, data: bytes) -> None:
        """A program wrote."""
        self.pending.append(Op(number, at, data))
        if len(self.cache) < at + len(data):
            self._dirty.update(range(len(self.cache) // PAGE, at // PAGE))
            self.cache.extend(bytes(at + len(data) - len(self.cache)))
        self.cache[at : at + len(data)] = data
        self._dirty.update(range(at // PAGE, (at + len(data) - 1) // PAGE + 1))

    def truncate(self, number: int, size: int) -> None:
        """A program set the size."""
        self.pending.append(Op(number, size, None))
        self._dirty.update(range(min(size, len(self.cache)) // PAGE, max(size, len(self.cache)) // PAGE + 1))
        if size < len(self.cache):
            del self.cache[size:]
        else:
            self.cache.extend(bytes(size - len(self.cache)))

    def begin_sync(self) -> Sync:
        """A sync begins; its pages are clean from now on."""
        pages = {n: bytes(self.cache[n * PAGE : (n + 1) * PAGE]) for n in self._dirty}
        self._dirty.clear()
        return Sync(len(self.pending), pages, len(self.cache))

    def end_sync(self, sync: Sync, ok: bool) -> None:
        """It has ended; where it failed its changes are gone for good."""
        del self.pending[: sync.changes]
        if not ok:
            return
        if sync.size < len(self.durable):
            del self.durable[sync.size :]
        else:
            self.durable.extend(bytes(sync.size - len(self.durable)))
        for n, content in sync.pages.items():
            self.durable[n * PAGE : n * PAGE + len(content)] = content
        for n in sync.pages:
            now = digest(n, bytes(self.durable[n * PAGE : (n + 1) * PAGE]))
            self.digest ^= self.digests.get(n, 0) ^ now
            self.digests[n] = now


class Content:
    """A file in a crash state: what is durable, with some pages changed."""

    def __init__(self, inode: Inode) -> None:
        """As it is durable."""
        self._inode = inode
        self._limit = self.size = len(inode.durable)
        self.pages: dict[int, bytearray] = {}

    def _page(self, n: int) -> bytearray:
        found = self.pages.get(n)
        if found is None:
            durable = self._inode.durable[n * PAGE : min((n + 1) * PAGE, self._limit)]
            found = self.pages[n] = durable + bytes(PAGE - len(durable))
        return found

    def put(self, op: Op, choice: Choice) -> None:
        """Have a pending change be there, as far as the choice says."""
        if op.data is None:
            if choice is KEPT:
                self._resize(op.at)
            return
        data = op.data[choice.start : choice.stop]
        at = op.at + choice.start
        self.size = max(self.size, at + len(data) if data else 0, op.at + len(op.data) if choice.grown else 0)
        while data:
            n, start = divmod(at, PAGE)
            part = data[: PAGE - start]
            self._page(n)[start : start + len(part)] = part
            at, data = at + len(part), data[len(part) :]

    def _resize(self, size: int) -> None:
        if size < self.size:
            last, rest = divmod(size, PAGE)
            if rest:
                self._page(last)[rest:] = bytes(PAGE - rest)
            for n in [n for n in self.pages if n * PAGE >= size]:
                del self.pages[n]
            self._limit = min(self._limit, size)
        self.size = size

    def digest(self) -> tuple[int, int]:
        """Tells this content from any other."""
        found = self._inode.digest
        known = self._inode.digests
        if self._limit < len(self._inode.durable):
            for n in range(self._limit // PAGE, len(self._inode.durable) // PAGE + 1):
                if n not in self.pages:
                    self._page(n)
        for n, content in self.pages.items():
            found ^= known.get(n, 0) ^ digest(n, bytes(content))
        return self.size, found

    def bytes(self) -> bytearray:
        """All of it."""
        made = self._inode.durable[: min(self._limit, self.size)]
        made.extend(bytes(self.size - len(made)))
        for n, content in self.pages.items():
            if n * PAGE < self.size:
                made[n * PAGE : (n + 1) * PAGE] = content[: self.size - n * PAGE]
        return made


State = Mapping[str, Content]


@dataclass
class _Names:
    """One model of names: what is durable, and what is pending, oldest first."""

    durable: dict[str, Inode]
    pending: list[Name] = field(default_factory=list)


class Disk:
    """The directory, fed with the steps of a recording."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """These files are there, all durable."""
        self.names = {name: Inode(content) for name, content in files.items()}
        self._strict = _Names(dict(self.names))
        self._journalled = _Names(dict(self.names))
        self._open: dict[int, Inode | None] = {}
        self._syncs: dict[int, tuple[Sync | None, int, int]] = {}
        self._number = 0

    def apply(self, step: Step) -> bool:
        """Follow a step; True if it is one that changed what may be on the disk."""
        self._number += 1
        kind, inode = step.kind, self._open.get(step.fd)
        if kind in "wta":
            return inode is not None and self._changed(step, inode)
        if kind in "our":
            return self._name(step)
        if kind == "S":
            self._synced(step, inode)
            return True
        if kind == "s":
            sync = inode.begin_sync() if inode is not None else None
            self._syncs[step.fd] = (sync, len(self._strict.pending), len(self._journalled.pending))
        elif kind == "R":
            self._compare(step)
        elif kind == "P":
            self._open.clear()
            self._syncs.clear()
        elif kind == "c":
            self._open.pop(step.fd, None)
        return False

    def _changed(self, step: Step, inode: Inode) -> bool:
        if step.kind == "w":
            inode.write(self._number, step.a, step.data)
        elif step.kind == "t":
            inode.truncate(self._number, step.a)
        elif step.a + step.b > len(inode.cache):
            inode.truncate(self._number, step.a + step.b)
        return True

    def _name(self, step: Step) -> bool:
        if step.kind == "o":
            return self._opened(step)
        if step.kind == "u":
            self._named(step.data.decode(), None)
        else:
            old, new = step.data.decode().split("\0")
            self._named(new, self.names[old])
            self._named(old, None)
        return True

    def _opened(self, step: Step) -> bool:
        if step.b:
            self._open[step.fd] = None
            return False
        name = step.data.decode()
        if step.result or name not in self.names:
            self._named(name, Inode())
        self._open[step.fd] = self.names[name]
        return bool(step.result)

    def _named(self, name: str, inode: Inode | None) -> None:
        if inode is None:
            self.names.pop(name, None)
        else:
            self.names[name] = inode
        for model in (self._strict, self._journalled):
            model.pending.append(Name(name, inode))

    def _synced(self, step: Step, inode: Inode | None) -> None:
        sync, strict, journalled = self._syncs.pop(step.fd)
        if inode is not None and sync is not None:
            inode.end_sync(sync, step.result == 0)
        if step.result == 0:
            if inode is None:
                self._settle(self._strict, strict)
            self._settle(self._journalled, journalled)

    @staticmethod
    def _settle(model: _Names, count: int) -> None:
        for change in model.pending[:count]:
            _rename(model.durable, change)
        del model.pending[:count]

    def _compare(self, step: Step) -> None:
        """What a file held when an agent was started: what a SIGKILL left unrecorded is pending."""
        name, content = step.data[: step.a].decode(), step.data[step.a :]
        if name not in self.names:
            assert not step.result, f"{name} was made unseen"
            self._named(name, Inode())
        inode = self.names[name]
        if inode.cache != content:
            assert not step.result, f"{name} was changed unseen"
            if len(content) < len(inode.cache):
                inode.truncate(self._number, len(content))
            for start in range(0, len(content), PAGE):
                if inode.cache[start : start + PAGE] != content[start : start + PAGE]:
                    inode.write(self._number, start, content[start : start + PAGE])

    # -- crash states ----------------------------------------------------------------------------------------------

    def _pending(self) -> list[tuple[Inode, Op]]:
        """All pending changes of files that may be there, in order."""
        reachable: dict[int, Inode] = {}
        for model in (self._strict, self._journalled):
            for name, inode in [*model.durable.items(), *((n.name, n.inode) for n in model.pending)]:
                if inode is not None and not name.endswith(FLEETING):
                    reachable[id(inode)] = inode
        found = [(inode, op) for inode in reachable.values() for op in inode.pending]
        return sorted(found, key=lambda one: one[1].number)

    def crash_states(self, rng: Random, most: int, plainest: bool) -> Iterator[State]:
        """At most so many ways in which a power cut now may leave the disk; `plainest`: nothing pending is there, too.

        All combinations of changes that are there or not, if that many are asked for; or else some of them.
        """
        if not most and not plainest:
            return
        pending = self._pending()
        ops = [op for _, op in pending]
        ways = _ways(ops, rng, most)
        for choices in itertools.chain([[DROPPED] * len(ops)], ways) if plainest else ways:
            contents: dict[int, Content] = {}
            for (inode, op), choice in zip(pending, choices, strict=True):
                contents.setdefault(id(inode), Content(inode)).put(op, choice)
            names = self._some_names(rng)
            yield {name: contents.get(id(inode)) or Content(inode) for name, inode in names.items()}

    def _some_names(self, rng: Random) -> dict[str, Inode]:
        strict = rng.random() < 0.5
        model = self._strict if strict else self._journalled
        names = dict(model.durable)
        happened = rng.randint(0, len(model.pending))
        for number, change in enumerate(model.pending):
            if rng.random() < 0.5 if strict else number < happened:
                _rename(names, change)
        return {name: inode for name, inode in names.items() if not name.endswith(FLEETING)}


def _rename(names: dict[str, Inode], change: Name) -> None:
    if change.inode is None:
        names.pop(change.name, None)
    else:
        names[change.name] = change.inode


def _ways(ops: Sequence[Op], rng: Random, most: int) -> Iterator[list[Choice]]:
    """At most so many lists of a choice for each change."""
    n = len(ops)
    if 2**n <= most:
        yield from ([KEPT if bits >> i & 1 else DROPPED for i in range(n)] for bits in range(2**n))
        most -= 2**n
    for _ in range(most):
        shape, at = rng.randrange(6), rng.randint(0, n)
        if shape == 0:
            yield [KEPT] * at + [DROPPED] * (n - at)
        elif shape == 1:
            yield [DROPPED if i == at else KEPT for i in range(n)]
        elif shape == 2:
            yield [KEPT if i == at else DROPPED for i in range(n)]
        else:
            likely = rng.random()
            yield [_by_chance(op, rng, likely) for op in ops]


def _by_chance(op: Op, rng: Random, likely: float) -> Choice:
    if rng.random() > 0.2:
        return KEPT if rng.random() < likely else DROPPED
    if op.data is None or rng.random() < 0.2:
        return ZEROS
    # torn where a sector or a page of the file ends
    unit = rng.choice((SECTOR, PAGE))
    edges = range(-op.at % unit, len(op.data), unit)
    edge = rng.choice(edges) if edges else 0
    return Choice(0, edge) if rng.random() < 0.5 else Choice(edge, len(op.data), rng.random() < 0.5)
