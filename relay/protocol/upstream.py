"""The conversation with a job server: submissions go out in order, replies are matched to them.

The theory.  A job server answers submissions in order, but an answer carries no name, so everything hangs on counting
right.  Each write of submissions therefore ends with a GET_STATUS, which every server answers in turn: a *barrier*. A
barrier that comes back while an older submission has no answer shows that the server swallowed one, and that every
mapping since is shifted; so a finished job counts only once the barrier behind its submission came back clean, and
until then its news is kept.  The same packet alone is the heartbeat.

About a job's own handle it is an *audit*: an answer of `known = 0` about a job that has had no end means that none will
ever come.  One server says so of every job; so that is believed only once the same link has said `known = 1` of some.
Answers name the handle that they are about: one that is not what was asked shows a shift, too.

    OPENING --(first STATUS_RES)--> OPEN        (what comes before it answers the OPTION_REQ, or nothing)

What is submitted is named by a *token* of the shell's choice, which comes back in the `News`.  Handles belong to this
connection only; a new connection is a new Conversation.

A foreground job ends with what its worker said of it; a background job is done with its JOB_CREATED, behind the same
barrier.  A foreground job that the shell has given up, or that has failed, may be completed all the same: the last
LATE handles of such jobs are remembered, and a WORK_COMPLETE of theirs is news, too.

The server is taken as hostile: what does not fit raises ProtocolError, and the
shell drops the link; nothing is reported done by it.  News about handles that are not in flight is ignored, because
some servers tell an end twice.  Bounded by the shell's window; of a reply's body at most KEEP bytes are kept. No I/O,
no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from relay.cast import Priority
from relay.protocol.framing import OVERSIZE, Framer
from relay.protocol.packets import HEADER, REQ, RES, Kind, ProtocolError, encode

Token = TypeVar("Token")

#: bytes kept of a reply's body: a handle and the text of an error
KEEP = 8192
#: longest handle that is asked about: gearmand answers nothing to a longer one
HANDLE_LIMIT = 63

#: handles that are remembered of jobs which ended without a WORK_COMPLETE, or were given up
LATE = 4096

#: (token, function, wire unique, payload, packet kind: one of SUBMIT or SUBMIT_BACKGROUND)
Job: TypeAlias = tuple[Token, bytes, bytes, bytes, int]

#: (priority) -> the packet type; plain numbers on the path of a cast, because an Enum looks its members up in Python
SUBMIT: dict[int, int] = {
    Priority.HIGH: int(Kind.SUBMIT_JOB_HIGH),
    Priority.NORMAL: int(Kind.SUBMIT_JOB),
    Priority.LOW: int(Kind.SUBMIT_JOB_LOW),
}
SUBMIT_BACKGROUND: dict[int, int] = {
    Priority.HIGH: int(Kind.SUBMIT_JOB_HIGH_BG),
    Priority.NORMAL: int(Kind.SUBMIT_JOB_BG),
    Priority.LOW: int(Kind.SUBMIT_JOB_LOW_BG),
}
_WORK_COMPLETE, _JOB_CREATED, _STATUS_RES = int(Kind.WORK_COMPLETE), int(Kind.JOB_CREATED), int(Kind.STATUS_RES)
_BACKGROUND = frozenset(SUBMIT_BACKGROUND.values())
#: the packets that name another priority than the normal one: not every server knows them all
PRIORITIZED = frozenset((*SUBMIT.values(), *_BACKGROUND)) - {Kind.SUBMIT_JOB, Kind.SUBMIT_JOB_BG}

#: any handle will do for a barrier; no server ever gave this one
_BARRIER = b"H:relay-barrier:0"
_BARRIER_PACKET = encode(REQ, Kind.GET_STATUS, _BARRIER)
_OPENING_PACKETS = encode(REQ, Kind.OPTION_REQ, b"exceptions") + _BARRIER_PACKET

_ENDS = frozenset((Kind.WORK_FAIL, Kind.WORK_EXCEPTION))
_IGNORED = frozenset((Kind.WORK_DATA, Kind.WORK_STATUS, Kind.WORK_WARNING, Kind.OPTION_RES, Kind.NOOP))


@dataclass(slots=True)
class News(Generic[Token]):
    """What a read told: the jobs done, and those that ended otherwise with the packet's kind and text.

    An ERROR's text is `code NUL sentence`.  `vanished` are jobs that the server knows nothing of, `late` those
    completed after they had ended otherwise or been given up.  `opened` is True in the one that opened the link.
    """

    done: list[Token] = field(default_factory=list)
    troubles: list[tuple[Token, int, bytes]] = field(default_factory=list)
    vanished: list[Token] = field(default_factory=list)
    late: list[Token] = field(default_factory=list)
    opened: bool = False


class _Audit(NamedTuple):
    """A question about a job's handle."""

    handle: bytes


class _Background(Generic[Token]):
    """A background job that has no answer yet."""

    __slots__ = ("token",)

    def __init__(self, token: Token) -> None:
        self.token = token


class Conversation(Generic[Token]):
    """One connection's state; see the module's theory."""

    def __init__(self) -> None:
        self._framer = Framer(frozenset((RES, REQ)), KEEP, KEEP)
        self._open = False
        #: what the server owes an answer to, oldest first; None is a barrier
        self._owed: deque[Token | _Background[Token] | _Audit | None] = deque()
        #: barriers and audits among them
        self._questions = 0
        #: how many of them were answered
        self._answers = 0
        #: True once its answers were seen to name what they are about, and once they were seen to know a job
        self._names = False
        self._trusted = False
        #: how many jobs were audited in this round through all of them
        self._audited = 0
        #: jobs by handle: those behind a clean barrier, and those that wait for theirs
        self._proven: dict[bytes, Token] = {}
        self._unproven: dict[bytes, Token] = {}
        #: background jobs that were accepted, and wait for their barrier
        self._accepted: list[Token] = []
        #: jobs that ended otherwise than done, or were given up, oldest first
        self._late: dict[bytes, Token] = {}
        #: ends that came before the barrier, by handle
        self._early: dict[bytes, tuple[int, bytes]] = {}
        #: jobs of a read that broke the protocol: what it told of them is not believed
        self._disbelieved: list[Token] = []

    @property
    def is_open(self) -> bool:
        """True once submissions may be sent."""
        return self._open

    @property
    def waiting(self) -> bool:
        """True while a barrier or an audit is out: the server owes a sign of life."""
        return self._questions > 0

    @property
    def mark(self) -> tuple[int, object]:
        """What is another one as soon as the server has answered anything that it owes an answer to."""
        return self._answers, self._owed[0] if self._owed else None

    @property
    def trusted(self) -> bool:
        """True once the server has shown that it tells jobs that it knows from others."""
        return self._trusted

    def outstanding(self) -> list[Token]:
        """Every submission without a verdict: in doubt, once the connection is gone."""
        owed = [_bare(token) for token in self._owed if token is not None and not isinstance(token, _Audit)]
        return [*self._proven.values(), *self._unproven.values(), *self._accepted, *owed, *self._disbelieved]

    def let_go(self, tokens: Collection[Token]) -> list[Token]:
        """Give up jobs, as far as the server has begun to answer for them; those that were.

        They are outstanding no longer, and nothing is told of them but a late completion.
        """
        wanted = set(map(id, tokens))
        found = [(handle, token) for handle, token in self._proven.items() if id(token) in wanted]
        for handle, token in found:
            del self._proven[handle]
            self._remember(handle, token)
        return [token for _, token in found]

    def _remember(self, handle: bytes, token: Token) -> None:
        if len(self._late) >= LATE:
            del self._late[next(iter(self._late))]
        self._late[handle] = token

    def open(self) -> bytes:
        """The first bytes to send."""
        self._questions += 1
        self._owed.append(None)
        return _OPENING_PACKETS

    def heartbeat(self) -> bytes:
        """Bytes that the server must answer."""
        self._questions += 1
        self._owed.append(None)
        return _BARRIER_PACKET

    def audit(self, old: Callable[[Token], bool], most: int) -> bytes:
        """Bytes that ask about jobs in flight: those that are `old`, `most` at a time, each in its turn.

        As long as the server is not trusted, about the first and the last one, whatever their age.
        """
        if self._trusted:
            handles = [handle for handle, token in self._proven.items() if old(token)]
            start = self._audited if self._audited < len(handles) else 0
            handles = handles[start : start + most]
            self._audited = start + len(handles)
        else:
            handles = list(self._proven)
            handles = handles[:1] + handles[1:][-1:]
        asked = [_Audit(handle) for handle in handles if len(handle) <= HANDLE_LIMIT]
        self._owed.extend(asked)
        self._questions += len(asked)
        return b"".join([encode(REQ, Kind.GET_STATUS, audit.handle) for audit in asked])

    def submit(self, jobs: Iterable[Job[Token]]) -> bytes:
        """The bytes that submit these jobs, in order, with a barrier behind them."""
        out: list[bytes] = []
        owe, add, pack = self._owed.append, out.append, HEADER.pack
        for token, function, unique, payload, kind in jobs:
            body = b"%b\0%b\0%b" % (function, unique, payload)
            add(pack(REQ, kind, len(body)))
            add(body)
            owe(_Background(token) if kind in _BACKGROUND else token)
        add(self.heartbeat())
        return b"".join(out)

    def feed(self, data: bytes) -> News[Token]:
        """What these bytes tell; raises ProtocolError: the link is to be dropped, and `outstanding` is in doubt."""
        news: News[Token] = News()
        try:
            self._read(data, news)
        except ProtocolError:
            # what was late is in nobody's charge any more
            self._disbelieved += [*news.done, *(token for token, _, _ in news.troubles), *news.vanished]
            raise
        return news

    def _read(self, data: bytes, news: News[Token]) -> None:
        done, proven = news.done.append, self._proven
        for kind, body in self._framer.feed(data):
            if kind == _WORK_COMPLETE:
                # geard passes on what a worker sends, without a NUL behind the handle too
                handle = body.partition(b"\0")[0]
                token = proven.pop(handle, None)
                if token is not None:
                    done(token)
                else:
                    self._ended(kind, body, news)
            elif kind == _JOB_CREATED:
                self._created(body)
            elif kind == _STATUS_RES:
                self._answer(body, news)
            else:
                self._rarer(kind, body, news)

    def _created(self, body: bytes) -> None:
        if not self._open:
            return
        token = self._answered("JOB_CREATED")
        if isinstance(token, _Background):
            self._accepted.append(token.token)
            return
        handle = body.rstrip(b"\0")
        if handle in self._unproven or handle in self._proven or handle in self._late:
            self._disbelieved.append(token)
            raise ProtocolError(f"handle {handle[:80]!r} was given twice")
        self._unproven[handle] = token

    def _answered(self, what: str) -> Token | _Background[Token]:
        """The oldest submission, which `what` answers."""
        token = self._owed[0] if self._owed else None
        if token is None or isinstance(token, _Audit):
            raise ProtocolError(f"{what} answers no submission")
        self._owed.popleft()
        return token

    def _answer(self, body: bytes, news: News[Token]) -> None:
        """A STATUS_RES: of the barrier or the audit that is the oldest question."""
        if not self._owed:
            raise ProtocolError("STATUS_RES answers no request")
        question = self._owed[0]
        if question is not None and not isinstance(question, _Audit):
            raise ProtocolError("the server swallowed a submission")
        handle, _, rest = body.partition(b"\0")
        self._owed.popleft()
        self._questions -= 1
        self._answers += 1
        if not self._open:
            self._names = handle == _BARRIER
            self._open = news.opened = True
        elif self._names and handle != (_BARRIER if question is None else question.handle):
            raise ProtocolError(f"STATUS_RES is about {handle[:80]!r}, which was not the question")
        elif question is None:
            self._barrier(news)
        elif rest[:1] == b"1":
            self._trusted = True
        elif self._trusted and rest[:1] == b"0" and question.handle in self._proven:
            news.vanished.append(self._proven.pop(question.handle))

    def _barrier(self, news: News[Token]) -> None:
        self._proven.update(self._unproven)
        self._unproven.clear()
        if self._accepted:
            news.done += self._accepted
            self._accepted = []
        for handle in [handle for handle in self._early if handle in self._proven]:
            kind, text = self._early.pop(handle)
            self._end(handle, kind, text, news)
        # what the barrier did not explain was news of jobs that are over
        self._early = {handle: end for handle, end in self._early.items() if handle in self._unproven}

    def _rarer(self, kind: int, body: bytes, news: News[Token]) -> None:
        """Everything but the two packets of a job that goes well, and the barrier."""
        cut = kind & OVERSIZE
        kind &= ~OVERSIZE
        if kind in _ENDS or (cut and kind == Kind.WORK_COMPLETE):
            self._ended(kind, body, news)
        elif kind == Kind.ERROR:
            if self._open:
                news.troubles.append((_bare(self._answered("ERROR")), kind, body))
        elif kind not in _IGNORED:
            raise ProtocolError(f"packet type {kind} is none that a job server sends to a client")

    def _ended(self, kind: int, body: bytes, news: News[Token]) -> None:
        if kind == Kind.WORK_FAIL:
            # C appends a NUL to the handle
            handle, text = body.rstrip(b"\0"), b""
        else:
            handle, _, text = body.partition(b"\0")
        if handle in self._proven:
            self._end(handle, kind, text, news)
        elif handle in self._late:
            if kind == Kind.WORK_COMPLETE:
                news.late.append(self._late.pop(handle))
        elif handle in self._unproven or len(self._early) < len(self._owed) + len(self._unproven):
            # before its barrier, or even before its JOB_CREATED (JEW): kept until the barrier, the first end counts
            self._early.setdefault(handle, (kind, text))

    def _end(self, handle: bytes, kind: int, text: bytes, news: News[Token]) -> None:
        token = self._proven.pop(handle, None)
        if token is None:
            return
        if kind == Kind.WORK_COMPLETE:
            news.done.append(token)
        else:
            self._remember(handle, token)
            news.troubles.append((token, kind, text))


def _bare(token: Token | _Background[Token]) -> Token:
    return token.token if isinstance(token, _Background) else token
