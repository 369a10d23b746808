"""`cast`: hands one cast over to the agent and prints its handle once it is on disk.

A unique is always sent, so that a connection lost before the answer can be tried again: the agent then
answers with the handle of the cast it may have kept.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from relay.cli.ask import unreachable
from relay.cli.exits import DONE, Failed, Misused, NotPermitted, NotRunning

if TYPE_CHECKING:
    from relay.cli.arguments import Verbs

#: seconds to wait for the answer: it comes after an fsync
PATIENCE_S = 30.0
_READ_SIZE = 64 * 1024


def add(verbs: Verbs) -> None:
    """The verb on the command line."""
    parser = verbs.add_parser("cast", help="hand a cast over", description=__doc__)
    parser.add_argument("function")
    parser.add_argument("payload", nargs="?", help="the payload; without it and --file it is read from stdin")
    parser.add_argument("--file", metavar="FILE", help="read the payload from here")
    parser.add_argument("--unique", help="the caller's name for the cast (a new UUIDv7)")
    parser.add_argument("--priority", choices=("high", "normal", "low"), default="normal")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Cast it."""
    if options.payload is not None and options.file is not None:
        raise Misused("a payload and --file: only one of them can be cast")
    unique = os.fsencode(options.unique or uuid7(time.time_ns(), os.urandom(10)))
    print(_cast(options.places.intake, os.fsencode(options.function), unique, _payload(options), options.priority))
    return DONE


def uuid7(now_ns: int, chance: bytes) -> str:
    """A UUID of version 7, as 32 hex digits: 48 bits of milliseconds, and 74 of the ten bytes of chance."""
    number = (now_ns // 1_000_000) << 80 | int.from_bytes(chance, "big")
    number = number & ~(0xF << 76) | 7 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    return f"{number:032x}"


def _payload(options: argparse.Namespace) -> bytes:
    if options.payload is not None:
        return os.fsencode(options.payload)
    if options.file is None:
        return sys.stdin.buffer.read()
    try:
        return Path(options.file).read_bytes()
    except OSError as error:
        raise Failed(f"{options.file}: {error.strerror}") from None


def _cast(path: Path, function: bytes, unique: bytes, payload: bytes, priority: str) -> str:
    from relay.protocol.packets import REQ, Kind, encode

    kinds = {"high": Kind.SUBMIT_JOB_HIGH_BG, "normal": Kind.SUBMIT_JOB_BG, "low": Kind.SUBMIT_JOB_LOW_BG}
    packet = encode(REQ, kinds[priority], function, unique, payload)
    for _ in range(2):
        with suppress(ConnectionError):
            return _submit(path, packet)
    raise NotRunning(
        f"the connection to {path} was lost, twice; the cast may be on disk: repeat it with"
        f" --unique {os.fsdecode(unique)}"
    )


def _submit(path: Path, packet: bytes) -> str:
    """The handle; ConnectionError when the connection is lost before the answer, Failed for a refusal."""
    from relay.protocol.framing import Framer
    from relay.protocol.packets import RES, Kind

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(str(path))
        except OSError as error:
            raise unreachable(path, error) from None
        try:
            # an agent that refuses a packet it does not read to its end has answered nevertheless
            with suppress(ConnectionError):
                connection.sendall(packet)
            framer = Framer(frozenset([RES]), _READ_SIZE, _READ_SIZE)
            packets = framer.feed(_received(connection))
            while not packets:
                packets = framer.feed(_received(connection))
        except TimeoutError:
            raise Failed(f"no answer from {path} in {PATIENCE_S:.0f} s; the cast may be on disk") from None
    kind, body = packets[0]
    if kind == Kind.JOB_CREATED:
        return body.decode("utf-8", "backslashreplace")
    code, _, sentence = body.decode("utf-8", "backslashreplace").partition("\0")
    raise (NotPermitted if code == "not_permitted" else Failed)(f"{code}: {sentence}")


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(_READ_SIZE)
    if not data:
        raise ConnectionResetError
    return data
