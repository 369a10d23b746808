"""The conversation with a job server: counting right, whatever the server says."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cast import Priority
from relay.protocol.framing import BadFrame, Framer
from relay.protocol.packets import HEADER, REQ, RES, Kind, ProtocolError, encode
from relay.protocol.upstream import HANDLE_LIMIT, KEEP, LATE, SUBMIT, SUBMIT_BACKGROUND, Conversation, Job

STATUS = encode(RES, Kind.STATUS_RES, b"H:relay-barrier:0", b"0", b"0", b"0", b"0")


def created(handle: bytes) -> bytes:
    """The server took the oldest submission, under this handle."""
    return encode(RES, Kind.JOB_CREATED, handle)


def complete(handle: bytes, result: bytes = b"") -> bytes:
    """A worker finished it."""
    return encode(RES, Kind.WORK_COMPLETE, handle, result)


def failed(handle: bytes, magic: bytes = RES) -> bytes:
    """A worker failed at it."""
    return encode(magic, Kind.WORK_FAIL, handle)


def excepted(handle: bytes, text: bytes = b"why") -> bytes:
    """A worker raised."""
    return encode(RES, Kind.WORK_EXCEPTION, handle, text)


def job(token: str, priority: int = Priority.NORMAL) -> Job[str]:
    """A submission."""
    return token, b"f", b"unique-" + token.encode(), b"payload", SUBMIT[priority]


def background(token: str, priority: int = Priority.NORMAL) -> Job[str]:
    """A submission that is done once it is accepted."""
    return token, b"f", b"unique-" + token.encode(), b"payload", SUBMIT_BACKGROUND[priority]


def conversation(*tokens: str) -> Conversation[str]:
    """An open conversation with these submitted."""
    made: Conversation[str] = Conversation()
    made.open()
    assert made.feed(STATUS).opened
    if tokens:
        made.submit([job(token) for token in tokens])
    return made


def running(*tokens: str) -> Conversation[str]:
    """An open conversation with these behind a clean barrier; `a` has the handle H:a."""
    made = conversation(*tokens)
    made.feed(b"".join(created(b"H:" + token.encode()) for token in tokens) + STATUS)
    return made


# -- opening -----------------------------------------------------------------------------------------------------------


def test_it_opens_with_the_option_and_a_barrier() -> None:
    """The first bytes ask for exceptions, then for a status: what comes before its answer is not about jobs."""
    made: Conversation[str] = Conversation()
    sent = Framer(frozenset((REQ,)), KEEP, 0).feed(made.open())
    assert [kind for kind, _ in sent] == [Kind.OPTION_REQ, Kind.GET_STATUS]
    assert sent[0][1] == b"exceptions"
    assert 0 < len(sent[1][1]) <= 63
    assert made.waiting
    assert not made.is_open


@pytest.mark.parametrize(
    "before",
    [
        b"",
        encode(RES, Kind.OPTION_RES, b"exceptions"),
        encode(RES, Kind.ERROR, b"UNKNOWN_OPTION", b"no"),
        created(b"H:1"),
    ],
)
def test_it_is_open_with_the_first_status_whatever_the_option_came_to(before: bytes) -> None:
    """Answered, refused or ignored: the option decides nothing, the STATUS_RES opens, once."""
    made: Conversation[str] = Conversation()
    made.open()
    assert not made.feed(before).opened
    assert not made.is_open
    assert made.feed(STATUS).opened
    assert made.is_open
    assert not made.waiting
    made.heartbeat()
    assert not made.feed(STATUS).opened


def test_submissions_are_foreground_in_order_and_end_with_a_barrier() -> None:
    """One write holds the jobs in order, each with its priority, and one GET_STATUS behind them."""
    made = conversation()
    raw = made.submit([job("a"), job("b", Priority.HIGH), job("c", Priority.LOW)])
    assert Framer(frozenset((REQ,)), KEEP, 0).feed(raw)[:3] == [
        (Kind.SUBMIT_JOB, b"f\0unique-a\0payload"),
        (Kind.SUBMIT_JOB_HIGH, b"f\0unique-b\0payload"),
        (Kind.SUBMIT_JOB_LOW, b"f\0unique-c\0payload"),
    ]
    assert [kind for kind, _ in Framer(frozenset((REQ,)), KEEP, 0).feed(raw)][3:] == [Kind.GET_STATUS]
    assert made.outstanding() == ["a", "b", "c"]


# -- background jobs, and late ends ------------------------------------------------------------------------------------


def test_a_background_job_is_done_once_its_acceptance_is_proven() -> None:
    """JOB_CREATED is not enough before the barrier; behind it the job is done, and foreground ones go on."""
    made = conversation()
    raw = made.submit([background("a", Priority.HIGH), job("b"), background("c", Priority.LOW), background("d")])
    kinds = [kind for kind, _ in Framer(frozenset((REQ,)), KEEP, 0).feed(raw)]
    assert kinds == [
        Kind.SUBMIT_JOB_HIGH_BG, Kind.SUBMIT_JOB, Kind.SUBMIT_JOB_LOW_BG, Kind.SUBMIT_JOB_BG, Kind.GET_STATUS
    ]  # fmt: skip
    error = encode(RES, Kind.ERROR, b"queue_full", b"no room")
    early = made.feed(created(b"H:1") + created(b"H:2") + created(b"H:3") + error)
    assert (early.done, early.troubles) == ([], [("d", Kind.ERROR, b"queue_full\0no room")])
    assert sorted(made.outstanding()) == ["a", "b", "c"]
    assert made.feed(STATUS).done == ["a", "c"]
    assert made.outstanding() == ["b"]
    assert made.feed(complete(b"H:2")).done == ["b"]


def test_a_swallowed_background_job_proves_none() -> None:
    """A barrier too early says that a submission was swallowed: those accepted before it are in doubt, too."""
    made = conversation()
    made.submit([background("a"), background("b")])
    with pytest.raises(ProtocolError, match="swallowed"):
        made.feed(created(b"H:1") + STATUS)
    assert sorted(made.outstanding()) == ["a", "b"]


def test_what_is_let_go_is_outstanding_no_longer_and_may_be_done_late() -> None:
    """Only a job whose acceptance is proven can be let go; its completion is told as late, once; a failure is not."""
    made = running("a", "b", "c")
    made.submit([job("d")])
    assert made.let_go(["a", "b", "d"]) == ["a", "b"]
    assert made.outstanding() == ["c", "d"]
    news = made.feed(failed(b"H:b") + complete(b"H:a") + complete(b"H:a") + complete(b"H:c"))
    assert (news.done, news.troubles, news.late) == (["c"], [], ["a"])


@pytest.mark.parametrize("end", [failed(b"H:a"), failed(b"H:a\0", REQ), excepted(b"H:a") + failed(b"H:a")])
def test_a_completion_after_a_failure_is_late(end: bytes) -> None:
    """A job that failed and then completes is told as failed, then as late."""
    made = running("a")
    assert [token for token, _, _ in made.feed(end).troubles] == ["a"]
    news = made.feed(complete(b"H:a"))
    assert (news.done, news.late) == ([], ["a"])


def test_a_handle_that_was_let_go_is_not_given_again() -> None:
    """A server that gives the handle of such a job to another is not believed."""
    made = running("a")
    made.let_go(["a"])
    made.submit([job("b")])
    with pytest.raises(ProtocolError, match="given twice"):
        made.feed(created(b"H:a"))
    assert made.outstanding() == ["b"]


def test_the_memory_for_late_ends_is_bounded() -> None:
    """Of more than LATE jobs that were let go the oldest are forgotten."""
    tokens = [f"{number:05}" for number in range(LATE + 2)]
    made = running(*tokens)
    assert made.let_go(tokens) == tokens
    news = made.feed(b"".join(complete(b"H:" + token.encode()) for token in tokens))
    assert news.late == tokens[2:]


# -- the ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [1, 2, 7, 1000])
def test_a_finished_job_is_done_once_whatever_the_reads(read: int) -> None:
    """Created, barrier, complete: done, exactly once, and no longer outstanding."""
    made, raw = conversation("a"), created(b"H:1") + STATUS + complete(b"H:1", b"result") + complete(b"H:1")
    done = [token for at in range(0, len(raw), read) for token in made.feed(raw[at : at + read]).done]
    assert done == ["a"]
    assert made.outstanding() == []


def test_completions_before_their_acceptance_are_kept_for_every_job() -> None:
    """As gearman-java may say it, one job after the other: all of them are done with the barrier."""
    tokens = [f"{number:02}" for number in range(50)]
    made = conversation(*tokens)
    told = b"".join(complete(b"H:" + token.encode()) + created(b"H:" + token.encode()) for token in tokens)
    assert made.feed(told + STATUS).done == tokens


def test_a_completion_before_the_barrier_waits_for_it() -> None:
    """What finishes before its barrier is back is not done yet, and is done by the barrier."""
    made = conversation("a", "b")
    early = made.feed(created(b"H:1") + complete(b"H:1"))
    assert (early.done, early.troubles) == ([], [])
    assert made.outstanding() == ["a", "b"]
    assert made.feed(created(b"H:2") + STATUS).done == ["a"]
    assert made.outstanding() == ["b"]


def test_an_older_barrier_proves_nothing_younger() -> None:
    """The barrier of the first write does not retire what the second one submitted."""
    made = conversation("a")
    made.submit([job("b")])
    assert made.feed(created(b"H:1") + STATUS + created(b"H:2") + complete(b"H:2")).done == []
    assert made.feed(STATUS).done == ["b"]


def test_a_swallowed_submission_shows_at_its_barrier() -> None:
    """Two submitted, one answered, barrier: which one it was nobody knows, so nothing of it is done."""
    made = conversation("a", "b")
    assert made.feed(created(b"H:1") + complete(b"H:1")).done == []
    with pytest.raises(ProtocolError, match="swallowed"):
        made.feed(STATUS)


def test_an_error_answers_the_oldest_submission() -> None:
    """ERROR has no name: it stands for the oldest one without an answer, and shifts nothing."""
    made = conversation("a", "b", "c")
    news = made.feed(created(b"H:1") + encode(RES, Kind.ERROR, b"queue_full", b"no room") + created(b"H:3") + STATUS)
    assert news.troubles == [("b", Kind.ERROR, b"queue_full\0no room")]
    assert made.feed(complete(b"H:3") + complete(b"H:1")).done == ["c", "a"]


@pytest.mark.parametrize("magic", [RES, REQ])
@pytest.mark.parametrize("tail", [b"", b"\0", b"\0\0"])
def test_a_failure_is_known_by_its_handle(magic: bytes, tail: bytes) -> None:
    """WORK_FAIL with either magic, its handle with NULs behind it or not, ends its job."""
    made = running("a", "b")
    assert made.feed(failed(b"H:a" + tail, magic)).troubles == [("a", Kind.WORK_FAIL, b"")]
    assert made.outstanding() == ["b"]


def test_a_handle_with_nuls_behind_it_is_the_same_handle() -> None:
    """JOB_CREATED with trailing NULs gives the handle that WORK_COMPLETE speaks of."""
    made = conversation("a")
    assert made.feed(created(b"H:1\0\0") + STATUS + complete(b"H:1")).done == ["a"]


def test_an_exception_has_its_text_and_the_failure_behind_it_is_ignored() -> None:
    """Servers that tell an end twice are heard once."""
    made = running("a")
    assert made.feed(excepted(b"H:a", b"ValueError: \0x") + failed(b"H:a")).troubles == [
        ("a", Kind.WORK_EXCEPTION, b"ValueError: \0x")
    ]


def test_an_early_end_told_twice_is_heard_once() -> None:
    """The same before the barrier."""
    made = conversation("a")
    news = made.feed(created(b"H:1") + excepted(b"H:1") + failed(b"H:1") + complete(b"H:1") + STATUS)
    assert (news.done, news.troubles) == ([], [("a", Kind.WORK_EXCEPTION, b"why")])


@pytest.mark.parametrize("size", [KEEP - 10, KEEP, KEEP + 1, 10 * 1024 * 1024])
@pytest.mark.parametrize("early", [True, False])
def test_a_result_of_any_size_is_skipped(size: int, early: bool) -> None:
    """A result of 10 MB retires like an empty one, and what follows it is read."""
    made = conversation("a", "b")
    raw = created(b"H:1") + created(b"H:2")
    ends = complete(b"H:1", bytes(size)) + complete(b"H:2")
    raw += ends + STATUS if early else STATUS + ends
    done: list[str] = []
    for at in range(0, len(raw), 1 << 18):
        done += made.feed(raw[at : at + (1 << 18)]).done
    assert done == ["a", "b"]


def test_a_long_exception_is_cut() -> None:
    """Of an exception of a megabyte at most KEEP bytes are kept."""
    ((token, kind, text),) = running("a").feed(excepted(b"H:a", b"x" * (1 << 20))).troubles
    assert (token, kind) == ("a", Kind.WORK_EXCEPTION)
    assert len(text) <= KEEP
    assert set(text) == {ord("x")}


@pytest.mark.parametrize(
    "packet",
    [
        complete(b"H:never"),
        failed(b"H:never"),
        excepted(b"H:never"),
        encode(RES, Kind.WORK_DATA, b"H:a", b"half"),
        encode(RES, Kind.WORK_WARNING, b"H:a", b"hm"),
        encode(RES, Kind.WORK_STATUS, b"H:a", b"1", b"2"),
        encode(RES, Kind.WORK_DATA, b"H:a", bytes(3 * KEEP)),
        encode(RES, Kind.OPTION_RES, b"exceptions"),
        encode(RES, Kind.NOOP),
    ],
)
def test_what_ends_no_job_of_ours_is_ignored(packet: bytes) -> None:
    """Unknown handles and packets that end nothing change nothing."""
    made = running("a")
    news = made.feed(packet)
    assert (news.done, news.troubles, made.outstanding()) == ([], [], ["a"])
    assert made.feed(complete(b"H:a")).done == ["a"]


# -- a server that breaks the protocol -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"\0BAD" + b"?" * 20,
        b"text\n" * 4,
        HEADER.pack(RES, Kind.WORK_COMPLETE, 0xFFFFFFFF),
        encode(RES, Kind.JOB_CREATED, b"H:" + b"x" * KEEP),
        encode(RES, Kind.STATUS_RES, bytes(2 * KEEP)),
        encode(RES, 0),
        encode(RES, 200, b"x"),
        encode(RES, Kind.NO_JOB),
        encode(REQ, Kind.SUBMIT_JOB_BG, b"f", b"", b""),
        created(b"H:more"),
        encode(RES, Kind.ERROR, b"code", b"text"),
        STATUS,
    ],
)
def test_what_fits_nothing_is_a_protocol_error(raw: bytes) -> None:
    """With nothing owed, an answer, an unknown packet or no packet at all ends the link."""
    with pytest.raises(ProtocolError):
        running("a").feed(raw)


def test_a_handle_given_twice_is_refused() -> None:
    """Two jobs under one name could not be told apart: the link ends, behind a barrier and before it."""
    with pytest.raises(ProtocolError, match="twice"):
        conversation("a", "b").feed(created(b"H:1") + created(b"H:1"))
    made = running("a")
    made.submit([job("b")])
    with pytest.raises(ProtocolError, match="twice"):
        made.feed(created(b"H:a"))


def test_a_job_is_no_answer_to_a_heartbeat() -> None:
    """JOB_CREATED and ERROR while only a barrier is owed answer nothing."""
    for packet in (created(b"H:9"), encode(RES, Kind.ERROR, b"c", b"t")):
        made = running("a")
        made.heartbeat()
        with pytest.raises(ProtocolError, match="answers no submission"):
            made.feed(packet)


@pytest.mark.parametrize(
    "raw",
    [
        created(b"H:1") + created(b"H:2") + STATUS + complete(b"H:1") + encode(RES, 99),
        created(b"H:1") + encode(RES, Kind.ERROR, b"queue_full", b"x") + encode(RES, 99),
        created(b"H:1") + created(b"H:1"),
        created(b"H:1") + STATUS,
        STATUS,
    ],
)
def test_of_a_read_that_breaks_the_protocol_nothing_is_believed(raw: bytes) -> None:
    """The submissions that such a read ended, answered or mixed up are all still outstanding: in doubt, none lost."""
    made = conversation("a", "b")
    with pytest.raises(ProtocolError):
        made.feed(raw)
    assert sorted(made.outstanding()) == ["a", "b"]


def test_a_handle_that_begins_like_another_is_another() -> None:
    """H:12 without a NUL behind it does not complete H:1."""
    made = conversation("a")
    made.feed(created(b"H:1") + STATUS)
    try:
        assert made.feed(encode(RES, Kind.WORK_COMPLETE, b"H:12")).done == []
    except ProtocolError:
        pass
    assert made.outstanding() == ["a"]


@pytest.mark.parametrize("handle", [b"H:1", b"H:%d"])
def test_ends_before_the_barrier_are_bounded(handle: bytes) -> None:
    """A server that tells ends over and over, of one job or of many that never were, fills no memory."""
    made = conversation("a", "b")
    made.feed(created(b"H:1"))
    for number in range(1000):
        made.feed(excepted(handle % number if b"%" in handle else handle, bytes(KEEP // 2)))
    assert sum(len(text) for _, text in made._early.values()) < 10 * KEEP


def test_a_type_with_a_bit_too_many_completes_nothing() -> None:
    """Types are 32 bits on the wire: what differs from WORK_COMPLETE in a high bit is no WORK_COMPLETE."""
    for bit in (16, 20, 31):
        made = running("a")
        with pytest.raises(ProtocolError):
            made.feed(encode(RES, Kind.WORK_COMPLETE | 1 << bit, b"H:a", b""))
        assert made.outstanding() == ["a"]


# -- all of it, at random ---------------------------------------------------------------------------------------------


class HonestServer:
    """A model of a job server: answers in the order of requests, ends jobs in any order, repeats itself at times."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        #: what it owes: a token, or None for a status
        self.requests: list[str | None] = []
        self.running: list[tuple[bytes, str]] = []
        self.ended: list[bytes] = []
        self.handles = 0
        self.done: list[str] = []
        self.troubles: list[tuple[str, int]] = []

    def answer(self) -> bytes:
        """The answer to the oldest request."""
        token = self.requests.pop(0)
        if token is None:
            return STATUS
        if self.rng.random() < 0.2:
            self.troubles.append((token, Kind.ERROR))
            return encode(RES, Kind.ERROR, b"queue_full", b"text")
        self.handles += 1
        handle = b"H:vm:%d" % self.handles
        self.running.append((handle, token))
        return created(handle + b"\0" * self.rng.randrange(2))

    def end(self) -> bytes:
        """The end of some job that runs, in one of the ways there are."""
        handle, token = self.running.pop(self.rng.randrange(len(self.running)))
        self.ended.append(handle)
        way = self.rng.randrange(4)
        if way < 2:
            self.done.append(token)
            return complete(handle, b"r" * self.rng.choice([0, 5, KEEP, KEEP + 50]))
        if way == 2:
            self.troubles.append((token, Kind.WORK_FAIL))
            return failed(handle + b"\0" * self.rng.randrange(2), self.rng.choice([REQ, RES]))
        self.troubles.append((token, Kind.WORK_EXCEPTION))
        return excepted(handle) + self.rng.choice([b"", failed(handle)])

    def chatter(self) -> bytes:
        """Something that ends nothing: data of a job that runs, or the end of one a second time."""
        if self.ended and self.rng.random() < 0.5:
            handle = self.rng.choice(self.ended)
            return self.rng.choice([complete, failed, excepted])(handle)
        if self.running:
            return encode(RES, Kind.WORK_DATA, self.rng.choice(self.running)[0], b"half")
        return b""


@given(st.randoms(use_true_random=False), st.integers(10, 80))
def test_an_honest_server_is_understood_in_every_legal_order(rng: Random, steps: int) -> None:
    """Whatever legal order replies come in, and however they are cut, each end is told once, to the right token."""
    server, made = HonestServer(rng), conversation()
    wire = bytearray()
    submitted: list[str] = []
    done: list[str] = []
    troubles: list[tuple[str, int]] = []

    def read(size: int) -> None:
        news = made.feed(bytes(wire[:size]))
        del wire[:size]
        done.extend(news.done)
        troubles.extend((token, kind) for token, kind, _ in news.troubles)
        assert sorted([*done, *(token for token, _ in troubles), *made.outstanding()]) == submitted

    for _ in range(steps):
        moves: list[Callable[[], bytes]] = [server.chatter]
        if server.requests:
            moves += [server.answer] * 3
        if server.running:
            moves += [server.end] * 2
        move = rng.randrange(len(moves) + 2)
        if move < len(moves):
            wire += moves[move]()
        else:
            tokens = [f"{len(submitted) + extra:05}" for extra in range(rng.randrange(4))]
            submitted += tokens
            made.submit([job(token) for token in tokens])
            server.requests += [*tokens, None]
        read(rng.randrange(len(wire) + 1))
    while server.requests:
        wire += server.answer()
    read(len(wire))
    assert sorted(done) == sorted(server.done)
    assert sorted(troubles) == sorted(server.troubles)
    assert not made.waiting


HANDLES = st.sampled_from([b"H:1", b"H:2", b"H:11", b"H:12", b""])
HOSTILE = st.one_of(
    st.builds(created, HANDLES),
    st.builds(complete, HANDLES, st.sampled_from([b"", b"r", b"r" * KEEP])),
    st.builds(failed, HANDLES, st.sampled_from([REQ, RES])),
    st.builds(excepted, HANDLES),
    st.just(STATUS),
    st.just(encode(RES, Kind.ERROR, b"code", b"text")),
    st.builds(lambda kind, body: encode(RES, kind, body), st.integers(14, 45), st.binary(max_size=20)),
    st.binary(max_size=5),
)


def claimed(packets: list[tuple[int, bytes]], tokens: list[str]) -> set[str]:
    """The tokens that these packets can be said to have completed, by counting answers as the protocol does.

    A completion may come before the answer that gives its handle.
    """
    owed, handles, completed = list(tokens), dict[bytes, str](), set[bytes]()
    for kind, body in packets:
        if kind == Kind.JOB_CREATED and owed:
            handles[body.rstrip(b"\0")] = owed.pop(0)
        elif kind == Kind.ERROR and owed:
            owed.pop(0)
        elif kind == Kind.WORK_COMPLETE and b"\0" in body:
            completed.add(body.split(b"\0")[0])
    return {token for handle, token in handles.items() if handle in completed}


@given(st.lists(HOSTILE, max_size=15), st.integers(1, 400))
def test_a_hostile_server_completes_only_what_it_says_it_completes(packets: list[bytes], read: int) -> None:
    """Random packets raise ProtocolError or nothing, and retire no job whose WORK_COMPLETE was not sent."""
    tokens, raw = ["a", "b", "c"], b"".join(packets)
    made = conversation(*tokens)
    done: list[str] = []
    try:
        for at in range(0, len(raw), read):
            done += made.feed(raw[at : at + read]).done
            assert set(done).isdisjoint(made.outstanding())
    except ProtocolError:
        pass
    try:
        seen = Framer(frozenset((RES, REQ)), 1 << 20, 0).feed(raw)
    except BadFrame as error:
        seen = error.packets
    assert len(set(done)) == len(done)
    assert set(done) <= claimed(seen, tokens)


@given(st.binary(max_size=400), st.integers(1, 50))
def test_random_bytes_raise_nothing_but_protocol_errors(raw: bytes, read: int) -> None:
    """Bytes of no sense end the link in one way only, and complete nothing."""
    made = running("a", "b")
    try:
        for at in range(0, len(raw), read):
            assert made.feed(raw[at : at + read]).done == []
    except ProtocolError:
        pass


# -- the audit ---------------------------------------------------------------------------------------------------------


def said(handle: bytes, known: bytes) -> bytes:
    """What the server knows of a handle."""
    return encode(RES, Kind.STATUS_RES, handle, known, b"0", b"0", b"0")


def asked(raw: bytes) -> list[bytes]:
    """The handles that are asked about."""
    return [body for kind, body in Framer(frozenset((REQ,)), KEEP, 0).feed(raw) if kind == Kind.GET_STATUS]


def trusted(*tokens: str) -> Conversation[str]:
    """Jobs in flight on a link that has shown that it knows jobs."""
    made = running(*tokens)
    (first, *rest) = asked(made.audit(lambda _: True, 50))
    made.feed(said(first, b"1") + b"".join(said(handle, b"1") for handle in rest))
    assert made.trusted
    return made


def test_a_job_that_the_server_knows_nothing_of_has_vanished() -> None:
    """Once: it is outstanding no longer, and an end that comes all the same is ignored."""
    made = trusted("a", "b")
    assert asked(made.audit(lambda token: token == "a", 50)) == [b"H:a"]
    assert made.waiting
    assert made.feed(said(b"H:a", b"0")).vanished == ["a"]
    assert not made.waiting
    assert made.outstanding() == ["b"]
    late = made.feed(complete(b"H:a"))
    assert (late.done, late.vanished) == ([], [])


def test_a_server_that_knows_no_job_ever_is_not_believed() -> None:
    """johnewart/gearman-java always says 0: nothing vanishes, however often it is asked."""
    made = running("a", "b", "c")
    for _ in range(3):
        handles = asked(made.audit(lambda _: True, 50))
        assert handles == [b"H:a", b"H:c"]
        assert made.feed(b"".join(said(handle, b"0") for handle in handles)).vanished == []
    assert not made.trusted
    assert made.outstanding() == ["a", "b", "c"]


def test_an_answer_that_says_neither_is_no_reason_for_trust() -> None:
    """Nor does it make a job vanish on a link that is trusted."""
    made = running("a")
    (handle,) = asked(made.audit(lambda _: True, 50))
    made.feed(encode(RES, Kind.STATUS_RES, handle))
    assert not made.trusted
    made = trusted("a")
    made.audit(lambda _: True, 50)
    assert made.feed(encode(RES, Kind.STATUS_RES, b"H:a")).vanished == []
    assert made.outstanding() == ["a"]


def test_a_job_that_ended_while_it_was_asked_about_has_not_vanished() -> None:
    """The end stands before the answer: done, and nothing else."""
    made = trusted("a")
    made.audit(lambda _: True, 50)
    news = made.feed(complete(b"H:a") + said(b"H:a", b"0"))
    assert (news.done, news.vanished) == (["a"], [])


def test_an_audit_asks_about_each_in_its_turn() -> None:
    """So many at a time, then the next ones, then the first again; handles that are too long never."""
    tokens = ["a", "b", "c", "d" * HANDLE_LIMIT, "e"]
    made = trusted(*tokens)
    rounds = []
    for _ in range(4):
        rounds.append(asked(made.audit(lambda _: True, 2)))
        made.feed(b"".join(said(handle, b"1") for handle in rounds[-1]))
    assert rounds == [[b"H:a", b"H:b"], [b"H:c"], [b"H:e"], [b"H:a", b"H:b"]]


def test_barriers_and_audits_are_told_apart_by_name_and_order() -> None:
    """Each answers its own question; one that is about something else shows that answers are shifted."""
    made = trusted("a")
    made.submit([job("b")])
    made.audit(lambda token: token == "a", 50)
    made.submit([job("c")])
    news = made.feed(created(b"H:b") + STATUS + said(b"H:a", b"1") + created(b"H:c") + STATUS)
    assert news.vanished == []
    assert made.feed(complete(b"H:b") + complete(b"H:c")).done == ["b", "c"]
    made.audit(lambda _: True, 50)
    with pytest.raises(ProtocolError, match="not the question"):
        made.feed(STATUS)
    assert made.outstanding() == ["a"]


def test_a_job_created_instead_of_an_audits_answer_is_no_answer() -> None:
    """Neither is an ERROR: the link is dropped, and nothing is lost."""
    for answer in (created(b"H:x"), encode(RES, Kind.ERROR, b"queue_full", b"")):
        made = trusted("a")
        made.audit(lambda _: True, 50)
        with pytest.raises(ProtocolError, match="answers no submission"):
            made.feed(answer)
        assert made.outstanding() == ["a"]
