"""What must hold for any bytes whatever, on both sides; each claim is a function of one input, and raises if it fails.

Only ProtocolError comes out of the job server's side, and nothing of the caller's; any cutting of the same bytes gives
the same; what is kept between two reads is within twice what was fed; each submission has one verdict, or is
outstanding.

An input's first byte says how the rest is read.  Its lowest bit: as it stands, or as a list of packets (a type, a
length, that many bytes), which is framed here, so that chance is not spent on headers.  The other bits: where it is
cut.
"""

from collections.abc import Callable, Iterator

from relay.protocol import caller, upstream
from relay.protocol.framing import Framer
from relay.protocol.packets import Kind, ProtocolError

from .corpus import packet

MAX_PAYLOAD = 200
JOBS = 3
_TOKENS = list(range(2 * JOBS))
#: a packet of an input with this length is longer than what is kept of it
LONG, LONG_BYTES = 255, 9000
SLACK = 64


def framed(data: bytes, magic: bytes) -> bytes:
    """(type, length, bytes)... as packets."""
    made, at = b"", 0
    while at + 2 <= len(data):
        kind, length = data[at], data[at + 1]
        body = data[at + 2 : at + 2 + length]
        made += packet(kind, body.ljust(LONG_BYTES, b"x") if length == LONG else body, magic)
        at += 2 + length
    return made


def pieces(data: bytes, how: int) -> Iterator[bytes]:
    """The bytes, cut in one of 128 ways: most of them make four pieces, each sixteenth goes byte by byte at first."""
    longest, most = (1, 40) if how % 16 == 0 else (len(data) // 2, 3)
    at, state = 0, how
    for _ in range(most):
        if at >= len(data):
            return
        state = (state * 75 + 74) % 65537
        size = 1 + state % (longest or 1)
        yield data[at : at + size]
        at += size
    if at < len(data):
        yield data[at:]


def wire(data: bytes, magic: bytes) -> tuple[bytes, int]:
    """An input as the bytes that go over the wire, and how they are cut."""
    first = data[0] if data else 0
    return (framed(data[1:], magic) if first & 1 else data[1:]), first >> 1


def _kept(framer: Framer) -> int:
    gathered = framer._pieces.tell() if framer._pieces is not None else 0
    return len(framer._rest) + gathered + (len(framer._cut[1]) if framer._cut else 0)


def the_callers_side(data: bytes) -> None:
    """Whatever a caller sends."""
    data, how = wire(data, b"\0REQ")
    whole, cut = caller.Conversation(MAX_PAYLOAD), caller.Conversation(MAX_PAYLOAD)
    expected = _flat(whole.feed(data))
    got: list[object] = []
    fed = 0
    for piece in pieces(data, how):
        got += _flat(cut.feed(piece))
        fed += len(piece)
        assert _kept(cut._framer) <= 2 * fed + SLACK, f"{_kept(cut._framer)} bytes kept of {fed}"
    assert got == expected, f"cut: {got}, whole: {expected}"
    assert cut.closing == whole.closing
    assert cut.closing or cut.midway == whole.midway
    if cut.closing:
        assert cut.feed(b"version\n") == [], "it goes on after its end"


def _flat(turn: list[caller.Item]) -> list[object]:
    """A turn with its runs of submissions laid out: how they are grouped is the read's."""
    flat: list[object] = []
    for item in turn:
        flat += item if isinstance(item, list) else [item]
    return flat


def the_job_servers_side(data: bytes) -> None:
    """Whatever a job server sends to a link that has submitted JOBS jobs twice."""
    data, how = wire(data, b"\0RES")
    whole, cut = _link(), _link()
    expected = _told(whole, [data])
    got = _told(cut, pieces(data, how))
    if expected is None or got is None:
        assert expected is got, "only one cutting of the same bytes broke the protocol"
    else:
        assert got == expected, f"cut: {got}, whole: {expected}"


def _submitted() -> upstream.Conversation[int]:
    """A link that has submitted JOBS jobs twice, the last of them each time in the background."""
    link: upstream.Conversation[int] = upstream.Conversation()
    link.open()
    for first in (0, JOBS):
        kinds = [Kind.SUBMIT_JOB] * (JOBS - 1) + [Kind.SUBMIT_JOB_BG]
        link.submit([(first + n, b"work", b"unique", b"payload", kind) for n, kind in enumerate(kinds)])
    return link


_SUBMITTED = _submitted()


def _link() -> upstream.Conversation[int]:
    """The like of _SUBMITTED, at a quarter of its cost: all that it remembers is what it is owed an answer to."""
    link: upstream.Conversation[int] = upstream.Conversation()
    link._owed.extend(_SUBMITTED._owed)
    link._questions = _SUBMITTED._questions
    return link


def _told(link: upstream.Conversation[int], data: "list[bytes] | Iterator[bytes]") -> tuple[object, ...] | None:
    """All that was told, or None where the protocol was broken; no submission is lost or told twice either way."""
    done: list[int] = []
    troubles: list[tuple[int, int, bytes]] = []
    opened = fed = 0
    try:
        for piece in data:
            fed += len(piece)
            news = link.feed(piece)
            done += news.done
            troubles += news.troubles
            opened += news.opened
            kept = _kept(link._framer)
            if link._early:
                kept += sum(len(handle) + len(text) for handle, (_, text) in link._early.items())
            assert kept <= 2 * fed + SLACK, f"{kept} bytes kept of {fed}"
    except ProtocolError:
        broken = True
    else:
        broken = False
    assert opened <= 1
    tokens = [*done, *(token for token, _, _ in troubles), *link.outstanding()]
    assert sorted(tokens) == _TOKENS, f"lost or told twice: {sorted(tokens)}"
    return None if broken else (sorted(done), sorted(troubles), opened, link.is_open, link.waiting)


CLAIMS: dict[str, Callable[[bytes], None]] = {"caller": the_callers_side, "upstream": the_job_servers_side}
