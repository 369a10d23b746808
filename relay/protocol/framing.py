"""From bytes to packets: `feed` takes what a read returned and gives the packets that are complete.

Promises: any cutting of the same bytes gives the same packets.  What waits for its rest is at most one packet, and
never more of it than `whole` bytes: of a longer body only the first `keep` bytes are kept, the rest is counted and
dropped as it comes, and the packet appears with OVERSIZE added to its kind.  A length over LENGTH_LIMIT is refused at
its header. With `lines`, a packet may also be a line of text (the admin commands); it appears as (LINE, line without
its end).

Raises ProtocolError for a wrong magic, a length over the limit, or a line over LINE_LIMIT; `packets` of the error
holds what was complete before it, and the framer is of no use afterwards.
"""

from __future__ import annotations

from io import BytesIO
from typing import TypeAlias

from relay.protocol.packets import HEADER, HEADER_SIZE, ProtocolError

#: longest body any peer may announce, in bytes
LENGTH_LIMIT = 64 * 1024 * 1024
#: longest text line, in bytes, its end included
LINE_LIMIT = 4096

#: added to the kind (32 bits on the wire) of a packet whose body was cut to `keep` bytes
OVERSIZE = 1 << 32
#: the kind of a text line
LINE = -1

#: (kind, body)
Packet: TypeAlias = tuple[int, bytes]


class BadFrame(ProtocolError):
    """The bytes are no packets; `packets` are the good ones that came before, in order."""

    def __init__(self, text: str, packets: list[Packet]) -> None:
        super().__init__(text)
        self.packets = packets


class Framer:
    """Cuts a stream of bytes into packets.

    `magics` are the magics allowed; `whole` is the longest body, in bytes, that is given whole; `keep` is how much is
    given of a longer one.
    """

    def __init__(self, magics: frozenset[bytes], whole: int, keep: int, *, lines: bool = False) -> None:
        self._magics = magics
        self._whole = whole
        self._keep = keep
        self._lines = lines
        self._rest = b""
        #: the beginning of the body that needs more than one read, how many bytes it still lacks, and its kind
        self._pieces: BytesIO | None = None
        self._lacking = 0
        self._kind = 0
        #: bytes of an oversize body still to be dropped
        self._skipping = 0
        self._cut: Packet | None = None

    @property
    def midway(self) -> bool:
        """True while a packet has begun and not ended."""
        return bool(self._rest or self._lacking or self._skipping)

    @property
    def expected(self) -> int:
        """The size in bytes, header included, of the packet that is being gathered; 0 when none is."""
        return HEADER_SIZE + self._pieces.tell() + self._lacking if self._pieces is not None else 0

    def forget(self) -> None:
        """Let go of a packet that has begun; the framer is of no use afterwards."""
        self._rest = b""
        self._pieces = None
        self._lacking = self._skipping = 0

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that `data` completes, in order."""
        packets: list[Packet] = []
        if self._skipping:
            data = self._skip(data, packets)
        elif self._pieces is not None:
            data = self._gather(data, self._pieces, packets)
        elif self._rest:
            data = self._rest + data
        self._rest = b""
        if data:
            self._cut_up(data, packets)
        return packets

    def _gather(self, data: bytes, pieces: BytesIO, packets: list[Packet]) -> bytes:
        """Collect a body over many reads without joining it at each: nothing, or what follows it.

        It is given out as it was gathered: of a large one there is never a second copy here.
        """
        if len(data) < self._lacking:
            pieces.write(data)
            self._lacking -= len(data)
            return b""
        pieces.write(memoryview(data)[: self._lacking])
        packets.append((self._kind, pieces.getvalue()))
        data = data[self._lacking :]
        self._pieces, self._lacking = None, 0
        return data

    def _skip(self, data: bytes, packets: list[Packet]) -> bytes:
        """Drop what belongs to an oversize body: nothing, or what follows it."""
        if len(data) < self._skipping:
            self._skipping -= len(data)
            return b""
        data = data[self._skipping :]
        self._skipping = 0
        assert self._cut is not None
        packets.append(self._cut)
        self._cut = None
        return data

    def _cut_up(self, data: bytes, packets: list[Packet]) -> None:
        """The path of every cast: one pass over a read, a header and a slice for each packet."""
        at, end = 0, len(data)
        magics, whole, unpack, add = self._magics, self._whole, HEADER.unpack_from, packets.append
        while end - at >= HEADER_SIZE:
            magic, kind, size = unpack(data, at)
            if magic not in magics:
                if self._lines and data[at]:
                    at = self._line(data, at, packets)
                    if at < 0:
                        return
                    continue
                raise BadFrame(f"bad magic {magic!r}", packets)
            after = at + HEADER_SIZE + size
            if size > whole:
                if size > LENGTH_LIMIT:
                    raise BadFrame(f"a length of {size} bytes is over {LENGTH_LIMIT}", packets)
                if not self._oversize(data, at, kind, size, packets):
                    return
            elif after > end:
                self._wait_for(kind, data[at + HEADER_SIZE :], after - end)
                return
            else:
                add((kind, data[at + HEADER_SIZE : after]))
            at = after
        if at < end:
            self._begin(data, at, packets)

    def _wait_for(self, kind: int, start: bytes, lacking: int) -> None:
        self._pieces = BytesIO()
        self._pieces.write(start)
        self._kind, self._lacking = kind, lacking

    def _oversize(self, data: bytes, at: int, kind: int, size: int, packets: list[Packet]) -> bool:
        """Begin an oversize packet; True when it is over with in this read already."""
        body = at + HEADER_SIZE
        if len(data) - body < self._keep:
            # the part to keep is not here whole: wait for just that much
            self._rest = data[at:]
            return False
        cut = (kind + OVERSIZE, data[body : body + self._keep])
        beyond = body + size - len(data)
        if beyond > 0:
            self._skipping, self._cut = beyond, cut
            return False
        packets.append(cut)
        return True

    def _begin(self, data: bytes, at: int, packets: list[Packet]) -> None:
        """Less than a header is left: keep it, once it is sure that it can begin a packet (or take it as text)."""
        start = data[at : at + 4]
        if self._lines and start[0]:
            at = self._line(data, at, packets)
            if 0 <= at < len(data):
                self._begin(data, at, packets)
            return
        if not any(magic.startswith(start) for magic in self._magics):
            raise BadFrame(f"bad magic {start!r}", packets)
        self._rest = data[at:]

    def _line(self, data: bytes, at: int, packets: list[Packet]) -> int:
        """Take a text line; where the next packet begins, or -1 when the line has no end yet."""
        stop = data.find(b"\n", at, at + LINE_LIMIT)
        if stop < 0:
            if len(data) - at >= LINE_LIMIT:
                raise BadFrame(f"a text line of over {LINE_LIMIT} bytes", packets)
            self._rest = data[at:]
            return -1
        packets.append((LINE, data[at:stop].rstrip(b"\r")))
        return stop + 1
