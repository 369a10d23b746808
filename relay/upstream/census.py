"""How many workers each function has at a job server: the text command `status`, on a connection of its own.

The answer is a line a function (name, queued, running, workers, with tabs between) and a line with a dot.  Only the
workers are read.  Bounded: ANSWER_BYTES and TIMEOUT_S; what goes wrong gives a census without workers, never an
exception: then nothing is known, and casts find out by themselves.  Whether the connection was refused is told apart: a
server that refuses new ones while an old one lives wants to end.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from relay.settings import Server

#: longest answer that is read, in bytes
ANSWER_BYTES = 4 * 1024 * 1024
#: seconds that one census may take
TIMEOUT_S = 2.0


class Census(NamedTuple):
    """Workers by function, None where they could not be learnt; `refused` says that the connection was."""

    workers: dict[bytes, int] | None
    refused: bool = False


def read(answer: bytes) -> dict[bytes, int] | None:
    """Workers by function; None for what is no such answer."""
    lines = answer.splitlines()
    if not lines or lines[-1] != b".":
        return None
    workers: dict[bytes, int] = {}
    for line in lines[:-1]:
        columns = line.split(b"\t")
        if len(columns) != 4 or not columns[3].isdigit() or len(columns[3]) > 9:
            return None
        workers[columns[0]] = int(columns[3])
    return workers


async def ask(server: Server) -> Census:
    """The census of `server`."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            try:
                writer.write(b"status\n")
                answer = b""
                while not (answer == b".\n" or answer.endswith(b"\n.\n")) and len(answer) < ANSWER_BYTES:
                    piece = await reader.read(65536)
                    if not piece:
                        return Census(None)
                    answer += piece
            finally:
                writer.close()
    except ConnectionRefusedError:
        return Census(None, refused=True)
    except (OSError, UnicodeError, TimeoutError):
        return Census(None)
    return Census(read(answer))


async def knock(server: Server) -> Census:
    """Whether `server` takes new connections, and nothing else."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(server.host, server.port)
            writer.close()
    except ConnectionRefusedError:
        return Census(None, refused=True)
    except (OSError, UnicodeError, TimeoutError):
        pass
    return Census(None)
