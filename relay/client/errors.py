"""How a cast can fail, as types: the question each answers is whether the cast may be on disk.

Rejected and Unavailable: it is not (after SpoolError alone it may be).  Unanswered: it may be.  Every error carries
what trying again needs: `unique`, and `casts`, the casts without an answer with their uniques filled in.

A code of the agent that this version does not know gives a plain Rejected with its `code` and `text`.

Never does I/O.  Errors can be pickled and copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.client.submission import Cast


class CastError(Exception):
    """There is no handle for a cast; the subclasses say what is known of it.

    `casts` are those without an answer, in order, with their uniques filled in: the one of `cast`, or all that
    `cast_many` had taken from its items.  `unique` is the first one's.
    """

    def __init__(self, text: str, casts: tuple[Cast, ...] = ()) -> None:
        super().__init__(text, casts)
        self.text = text
        self.casts = casts

    @property
    def unique(self) -> str | bytes | None:
        """The unique as it was sent: a str of 32 hex digits unless the caller gave one."""
        return self.casts[0].unique if self.casts else None

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        # never a payload: errors end up in logs
        return f"{type(self).__name__}({str(self)!r}, unique={self.unique!r})"


class Rejected(CastError):
    """relay answered no: the cast is not kept and will not be executed (see SpoolError for the one exception).

    `code` is the agent's word for why (`draining`), `text` one sentence.  `in_doubt` is True where it may be executed
    all the same: after SpoolError, and where this is the answer to a second try and the first was lost unanswered.
    """

    def __init__(self, code: str, text: str, casts: tuple[Cast, ...] = ()) -> None:
        super().__init__(text, casts)
        # what an exception is made from again, by pickle and by copy
        self.args = (code, text, casts)
        self.code = code
        self.in_doubt = code == "spool_error"

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


class BadFunction(Rejected):
    """A function is 1 to 512 bytes, each from 0x21 to 0x7e.  Found before sending."""


class UniqueTooLarge(Rejected):
    """A unique is at most 64 bytes.  Found before sending."""


class PayloadTooLarge(Rejected):
    """The payload is over the agent's `[intake] max_payload`."""


class Draining(Rejected):
    """The operator drains this relay: it takes no new casts until it is resumed."""


class SpoolFull(Rejected):
    """The spool is at `[spool] max_casts` or `max_bytes`."""


class DiskFull(Rejected):
    """The disk has less than `[spool] min_free`."""


class SpoolError(Rejected):
    """The write to disk failed: alone among the rejections, the cast may be executed all the same.

    Try again with the same unique, as after Unanswered.
    """


class TooManyConnections(Rejected):
    """The agent has `[intake] max_connections` callers; nothing on this connection was read."""


class TooSlow(Rejected):
    """The rest of a packet did not come in time, or stood still while others waited (the process was stopped)."""


class BadPacket(Rejected):
    """What was sent is no packet to the agent."""


class ForegroundNotSupported(Rejected):
    """A job that a caller waits for; Client never sends one."""


class UnknownCommand(Rejected):
    """The agent does not know this request: it is older than what was asked of it (`delay`)."""


class UnknownOption(Rejected):
    """The agent does not know this option; Client never sends one."""


class Unavailable(CastError):
    """Nothing was sent, so nothing is on disk: no socket, nobody behind it, or no permission.

    The OSError behind it, where there is one, is its `__cause__`.
    """


class Unanswered(CastError):
    """No answer within the timeout: the cast may be on disk, or not.

    Cast again with `unique`, and there is one cast, whichever it was; `casts` can be given to cast_many as it is.
    """


#: the agent's codes -> what they are raised as
CODES: dict[str, type[Rejected]] = {
    "bad_function": BadFunction,
    "bad_packet": BadPacket,
    "disk_full": DiskFull,
    "draining": Draining,
    "foreground_not_supported": ForegroundNotSupported,
    "payload_too_large": PayloadTooLarge,
    "spool_error": SpoolError,
    "spool_full": SpoolFull,
    "too_many_connections": TooManyConnections,
    "too_slow": TooSlow,
    "unique_too_large": UniqueTooLarge,
    "unknown_command": UnknownCommand,
    "unknown_option": UnknownOption,
}

#: the codes after which the agent closes the connection: it reads nothing that follows
CLOSING = frozenset(("bad_packet", "too_many_connections", "too_slow"))


def rejected(code: str, text: str, cast: Cast) -> Rejected:
    """The error for an answer of the agent's."""
    return CODES.get(code, Rejected)(code, text, (cast,))
