"""The packets of the Gearman binary protocol: one table, an encoder and a decoder.

A packet is a 12-byte header (magic, type, length of the body; the numbers big-endian) and a body of arguments with a
NUL between them; the last argument may itself hold NULs.  The table says how many arguments each type has.  Numbers
are those of the public PROTOCOL document of gearmand; a test compares them with gear.constants.

Never does I/O.  `decode` raises ProtocolError where arguments are missing.
"""

from __future__ import annotations

import struct
from enum import IntEnum

REQ = b"\0REQ"
RES = b"\0RES"
HEADER = struct.Struct(">4sII")
HEADER_SIZE = HEADER.size


class ProtocolError(Exception):
    """The other side broke the protocol: its connection cannot be read any further.

    Raised to whoever feeds the bytes; the text says what was seen, never a payload.
    """


class Kind(IntEnum):
    """Packet types by their name in the PROTOCOL document."""

    CAN_DO = 1
    CANT_DO = 2
    RESET_ABILITIES = 3
    PRE_SLEEP = 4
    NOOP = 6
    SUBMIT_JOB = 7
    JOB_CREATED = 8
    GRAB_JOB = 9
    NO_JOB = 10
    JOB_ASSIGN = 11
    WORK_STATUS = 12
    WORK_COMPLETE = 13
    WORK_FAIL = 14
    GET_STATUS = 15
    ECHO_REQ = 16
    ECHO_RES = 17
    SUBMIT_JOB_BG = 18
    ERROR = 19
    STATUS_RES = 20
    SUBMIT_JOB_HIGH = 21
    SET_CLIENT_ID = 22
    CAN_DO_TIMEOUT = 23
    ALL_YOURS = 24
    WORK_EXCEPTION = 25
    OPTION_REQ = 26
    OPTION_RES = 27
    WORK_DATA = 28
    WORK_WARNING = 29
    GRAB_JOB_UNIQ = 30
    JOB_ASSIGN_UNIQ = 31
    SUBMIT_JOB_HIGH_BG = 32
    SUBMIT_JOB_LOW = 33
    SUBMIT_JOB_LOW_BG = 34
    SUBMIT_JOB_SCHED = 35
    SUBMIT_JOB_EPOCH = 36
    GET_STATUS_UNIQUE = 41
    STATUS_RES_UNIQUE = 42


#: How many arguments a body of each type has; types that relay neither sends nor reads the body of are left out.
ARGUMENTS: dict[int, int] = {
    Kind.SUBMIT_JOB: 3,
    Kind.SUBMIT_JOB_HIGH: 3,
    Kind.SUBMIT_JOB_LOW: 3,
    Kind.SUBMIT_JOB_BG: 3,
    Kind.SUBMIT_JOB_HIGH_BG: 3,
    Kind.SUBMIT_JOB_LOW_BG: 3,
    Kind.SUBMIT_JOB_EPOCH: 4,
    Kind.JOB_CREATED: 1,
    Kind.ECHO_REQ: 1,
    Kind.ECHO_RES: 1,
    Kind.ERROR: 2,
    Kind.OPTION_REQ: 1,
    Kind.OPTION_RES: 1,
    Kind.GET_STATUS: 1,
    Kind.STATUS_RES: 5,
    Kind.GET_STATUS_UNIQUE: 1,
    Kind.STATUS_RES_UNIQUE: 6,
    Kind.WORK_STATUS: 3,
    Kind.WORK_COMPLETE: 2,
    Kind.WORK_FAIL: 1,
    Kind.WORK_EXCEPTION: 2,
    Kind.WORK_DATA: 2,
    Kind.WORK_WARNING: 2,
}


def encode(magic: bytes, kind: int, *arguments: bytes) -> bytes:
    """One packet, ready for the wire."""
    body = b"\0".join(arguments)
    return HEADER.pack(magic, kind, len(body)) + body


def decode(kind: int, body: bytes) -> list[bytes]:
    """The arguments of a body; raises ProtocolError where there are fewer than the type has."""
    wanted = ARGUMENTS[kind]
    arguments = body.split(b"\0", wanted - 1)
    if len(arguments) < wanted:
        raise ProtocolError(f"{Kind(kind).name} has {len(arguments)} of its {wanted} arguments")
    return arguments
