"""What had been promised at any moment, read from what the agent sent and received.

A cast is *owed* from the moment its JOB_CREATED was sent until the WORK_COMPLETE of a submission of it was received.
Callers' connections are known by the requests they send, those to job servers by the requests that relay sends; answers
come in the order of the requests on both. A payload names its cast: the callers of a recording never send one twice.
Written apart from relay.protocol on purpose.
"""

import struct
from collections import deque

from tests.rig import packets

from .recording import Step

_HEADER = struct.Struct(">4sII")
_SUBMISSIONS = {packets.SUBMIT_JOB_BG: 3, packets.SUBMIT_JOB_HIGH_BG: 3, packets.SUBMIT_JOB_LOW_BG: 3}
_SUBMISSIONS[packets.SUBMIT_JOB_EPOCH] = 4
_JOBS = (packets.SUBMIT_JOB, 21, 33)
"""SUBMIT_JOB, _HIGH, _LOW: what relay sends to a job server."""


class _Connection:
    """Both directions of one socket."""

    def __init__(self) -> None:
        self.bytes = {">": b"", "<": b""}
        self.caller: bool | None = None
        #: payloads whose answers are still to come, in order
        self.unanswered: deque[bytes] = deque()
        #: at a job server: payloads by handle
        self.running: dict[bytes, bytes] = {}

    def packets(self, kind: str, data: bytes) -> list[tuple[bytes, int, bytes]]:
        """The packets that these bytes complete: (magic, type, body)."""
        data = self.bytes[kind] + data
        found, at = [], 0
        while at + _HEADER.size <= len(data):
            magic, number, length = _HEADER.unpack_from(data, at)
            if magic not in (b"\0REQ", b"\0RES"):
                at = len(data)
                break
            if at + _HEADER.size + length > len(data):
                break
            at += _HEADER.size
            found.append((magic, number, data[at : at + length]))
            at += length
        self.bytes[kind] = data[at:]
        return found


class Custody:
    """Fed with the steps of a recording, it says what is owed."""

    def __init__(self, before: "Custody | None" = None) -> None:
        """Nothing is owed, or what was owed when the power went and the recording before this one ended."""
        #: id -> the payloads that were acknowledged with it: more than one where uniques met
        self.payloads: dict[int, set[bytes]] = {i: set(p) for i, p in before.payloads.items()} if before else {}
        self.done: set[bytes] = set(before.done) if before else set()
        self.owed: frozenset[int] = before.owed if before else frozenset()
        self._connections: dict[int, _Connection] = {}

    @property
    def last_id(self) -> int:
        """The highest id that was acknowledged."""
        return max(self.payloads, default=0)

    def apply(self, step: Step) -> bool:
        """Follow a step; True if what is owed has changed."""
        if step.kind == "P":
            self._connections.clear()
        elif step.kind == "c":
            self._connections.pop(step.fd, None)
        elif step.kind in "<>":
            return self._heard(self._connections.setdefault(step.fd, _Connection()), step)
        return False

    def _heard(self, connection: _Connection, step: Step) -> bool:
        before = self.owed
        for magic, number, body in connection.packets(step.kind, step.data):
            if connection.caller is None:
                connection.caller = (step.kind == "<") == (magic == b"\0REQ")
            if connection.caller:
                self._caller(connection, magic, number, body)
            else:
                self._server(connection, magic, number, body)
        return self.owed is not before

    def _caller(self, connection: _Connection, magic: bytes, number: int, body: bytes) -> None:
        if magic == b"\0REQ":
            assert number in _SUBMISSIONS, f"a recording's callers submit, and do not send {number}"
            connection.unanswered.append(body.split(b"\0", _SUBMISSIONS[number] - 1)[-1])
            return
        payload = connection.unanswered.popleft()
        if number == packets.JOB_CREATED:
            id_ = int(body.rpartition(b":")[2])
            known = self.payloads.setdefault(id_, set())
            known.add(payload)
            if known.isdisjoint(self.done):
                self.owed |= {id_}

    def _server(self, connection: _Connection, magic: bytes, number: int, body: bytes) -> None:
        if magic == b"\0REQ":
            if number in _JOBS:
                connection.unanswered.append(body.split(b"\0", 2)[2])
        elif number == packets.JOB_CREATED:
            connection.running[body] = connection.unanswered.popleft()
        elif number == packets.ERROR:
            connection.unanswered.popleft()
        elif number == packets.WORK_COMPLETE:
            payload = connection.running.pop(body.partition(b"\0")[0], None)
            if payload is not None:
                self.done.add(payload)
                self.owed -= {id_ for id_ in self.owed if payload in self.payloads[id_]}
