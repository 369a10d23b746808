"""The operator's door on a real socket, over a real spool."""

import asyncio
import gc
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from relay import settings
from relay.cast import Arrival
from relay.cli.ask import Agent
from relay.cli.exits import Failed, NotPermitted
from relay.clock import Clock
from relay.control import routes, server, views
from relay.control.requests import Request
from relay.control.server import Control
from relay.errors import SocketUnusable, SpoolUnusable
from relay.facts import Facts, Problem
from relay.spool import listing, reading
from relay.spool.edits import Edit, Verb
from relay.spool.spool import Spool
from tests.rig.wait import until
from tests.unit.limits import unlimited


class Rig:
    """A started control over a started spool, and ways to ask it."""

    def __init__(self, control: Control, spool: Spool, path: Path) -> None:
        self.control = control
        self.spool = spool
        self.path = path

    async def append(self, *functions: bytes) -> list[int]:
        settled = asyncio.get_running_loop().create_future()
        arrival = Arrival([(function, b"", b"xy", 1) for function in functions], 0, settled.set_result)
        self.spool.append(arrival)
        await settled
        return [id_ for id_ in arrival.outcome if isinstance(id_, int)]

    async def ask(self, method: str, path: str) -> dict[str, Any]:
        return await asyncio.to_thread(Agent(self.path).ask, method, path)

    async def casts(self, **query: object) -> list[dict[str, Any]]:
        return await asyncio.to_thread(lambda: list(Agent(self.path).lines("/v1/casts", query)))

    async def raw(self, sent: bytes) -> bytes:
        """All that is answered to these bytes, until the connection is closed."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(sent)
        answer = await reader.read()
        writer.close()
        return answer


def wanted(path: Path, mode: int = 0o600) -> settings.Control:
    """The settings of a control socket."""
    return settings.Control(socket=path, socket_mode=mode, socket_group=None)


@asynccontextmanager
async def rig(
    directory: Path, facts: Callable[[], Facts] = Facts, problems: Callable[[], list[Problem]] = list
) -> AsyncIterator[Rig]:
    """A rig, and its end."""
    spool = Spool(unlimited(directory / "spool" / "spool.db"), Clock())
    spool.start(asyncio.get_running_loop(), lambda error: None)
    path = directory / "control.sock"
    control = Control(wanted(path), spool, facts, Clock(), "1.2", problems)
    await control.start()
    try:
        yield Rig(control, spool, path)
    finally:
        await control.close()
        await spool.finish()
        spool.close()


def test_status_tells_counts_and_facts_of_one_moment(tmp_path: Path) -> None:
    """What is in flight is taken from ready; the oldest has an age; problems and the version are those handed in."""

    async def story() -> None:
        facts = Facts(in_flight_ready=1)
        async with rig(tmp_path, lambda: facts, lambda: [Problem("odd", "It is odd.", 1.0)]) as r:
            empty = await r.ask("GET", "/v1/status")
            assert (empty["state"], empty["accepted"], empty["oldest_seconds"]) == ("running", 0, 0.0)
            await r.append(b"f", b"g")
            said = await r.ask("GET", "/v1/status")
            assert (said["accepted"], said["ready"], said["in_flight"]) == (2, 1, 1)
            assert said["oldest_seconds"] > 0
            assert (said["payload_bytes"], said["version"], said["accepting"]) == (4, "1.2", True)
            assert [problem["code"] for problem in said["problems"]] == ["odd"]

    asyncio.run(story())


def test_status_answers_though_the_disk_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counts are in memory: a spool that cannot be read is a problem among others, not an error."""

    def broken(path: Path, from_id: int) -> None:
        raise reading.SpoolUnusable("disk I/O error")

    async def story() -> None:
        async with rig(tmp_path) as r:
            await r.append(b"f")
            monkeypatch.setattr(reading, "oldest", broken)
            said = await r.ask("GET", "/v1/status")
            assert said["ready"] == 1
            assert [problem["code"] for problem in said["problems"]] == ["spool_unreadable"]

    asyncio.run(story())


def test_casts_stream_as_json_lines(tmp_path: Path) -> None:
    """More than a slice, in order, chunked; filters and the limit hold."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            ids = await r.append(*[b"mail.%d" % (n % 2) for n in range(reading.SLICE + 10)])
            assert [cast["id"] for cast in await r.casts()] == ids
            assert [cast["id"] for cast in await r.casts(function="mail.[1]", limit=2)] == ids[1:5:2]
            assert await r.casts(state="dead") == []
            answer = await r.raw(b"GET /v1/casts?limit=1 HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n")
            assert b"Transfer-Encoding: chunked" in answer

    asyncio.run(story())


@pytest.mark.parametrize(
    "query",
    [
        "state=odd",
        "uid=me",
        "uid=-1",
        "uid=99999999999999999999",
        "limit=-1",
        "limit=x",
        "older_than=long",
        "colour=red",
    ],
)
def test_a_filter_that_is_none_is_refused(tmp_path: Path, query: str) -> None:
    """400 bad_filter, with a sentence that names what is wrong."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            with pytest.raises(Failed, match=f"bad_filter: .*{query.partition('=')[0]}"):
                await r.ask("GET", f"/v1/casts?{query}")

    asyncio.run(story())


def test_drain_refuses_waits_and_ends_by_resume(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Draining is kept in the spool, asked again it changes nothing, and each change is one line with the uid."""
    caplog.set_level(logging.INFO, "relay.control")

    async def story() -> None:
        async with rig(tmp_path) as r:
            made_due = []
            r.spool.on_made_due = lambda: made_due.append(1)
            await r.append(b"f")
            assert (await r.ask("GET", "/v1/drain"))["state"] == "running"
            first = await r.ask("POST", "/v1/drain")
            assert (first["state"], first["remaining"]) == ("draining", 1)
            assert [b["function"] for b in first["blockers"]] == ["f"]
            assert await r.ask("POST", "/v1/drain") == first
            assert made_due == [1]
            assert await r.append(b"late") == []
            said = await r.ask("GET", "/v1/status")
            assert (said["state"], said["draining"], said["accepting"]) == ("draining", True, False)
            assert (await r.ask("POST", "/v1/resume"))["state"] == "running"
            assert (await r.ask("POST", "/v1/resume"))["state"] == "running"
            assert len(await r.append(b"f")) == 1

    asyncio.run(story())
    assert [record.getMessage() for record in caplog.records] == [
        f"uid {os.getuid()}: drain: backlog 1",
        f"uid {os.getuid()}: resume: backlog 1",
    ]


def test_drained_is_said_of_what_is_on_disk(tmp_path: Path) -> None:
    """A revive that was handed to the writer before the question is in the answer, though it was told of later."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            await r.append(b"f")
            ((name, _),) = r.spool.counts.items()
            (id_,) = [json.loads(cast)["id"] for cast in listing.lines(r.spool.path, reading.Filter(), None, 0)]
            await r.spool.operator.edit(Edit(Verb.BURY, 0), {id_: name.number})
            await r.spool.drain()
            asked = Request("GET", "/v1/drain", [], 0)
            drained: Any = await r.control._routes.answer(asked)
            assert (drained["state"], drained["dead"]) == ("drained", 1)
            revive = asyncio.create_task(r.spool.operator.edit(Edit(Verb.REVIVE, 0), {id_: name.number}))
            await asyncio.sleep(0)
            said: Any = await r.control._routes.answer(asked)
            assert (said["state"], said["remaining"], said["dead"]) == ("draining", 1, 0)
            await revive
            resume = asyncio.create_task(r.spool.resume())
            await asyncio.sleep(0)
            running: Any = await r.control._routes.answer(asked)
            assert running["state"] == "running"
            await resume

    asyncio.run(story())


def test_changes_need_root_or_the_agents_own_uid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another uid reads, and gets 403 for every change."""
    stranger = os.geteuid() + 4321
    monkeypatch.setattr(server, "peer_uid", lambda connection: stranger)

    async def story() -> None:
        async with rig(tmp_path) as r:
            for path in ("/v1/drain", "/v1/resume"):
                with pytest.raises(NotPermitted, match=f"not_permitted: uid {stranger}"):
                    await r.ask("POST", path)
            assert (await r.ask("GET", "/v1/status"))["state"] == "running"

    asyncio.run(story())


def test_the_peer_is_who_the_kernel_says() -> None:
    """SO_PEERCRED of a socket pair made here is our own uid."""
    from relay.doors import peer_uid

    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert peer_uid(here) == os.getuid()


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /v2 HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n", 404, "unknown_path"),
        (b"PUT /v1/drain HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n", 405, "wrong_method"),
        (b"GET /v1/resume HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n", 405, "wrong_method"),
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (b"GET /v1/status HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET /v1/status HTTP/1.1\r\nHost: r\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431, "bad_request"),
        (b"POST /v1/drain HTTP/1.1\r\nHost: r\r\nContent-Length: 65537\r\n\r\n" + b"x" * 65537, 413, "body_too_large"),
    ],
)
def test_what_is_wrong_is_answered_with_code_and_sentence(tmp_path: Path, sent: bytes, status: int, code: str) -> None:
    """The status, and a JSON body with error and text; the agent stays as it was."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            answer = await r.raw(sent)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert int(head.split()[1]) == status
            said = json.loads(body)
            assert said["error"] == code
            assert said["text"].endswith(".")
            if status == 405:
                assert b"Allow: " in head
            assert r.spool.draining is False

    asyncio.run(story())


def test_a_bug_behind_a_request_is_500_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The traceback is in the log, the peer gets an answer, and the next request is answered."""
    broken = True

    def facts() -> Facts:
        if broken:
            raise ZeroDivisionError("by chance")
        return Facts()

    async def story() -> None:
        nonlocal broken
        async with rig(tmp_path, facts) as r:
            with pytest.raises(Failed, match="internal_error: ZeroDivisionError"):
                await r.ask("GET", "/v1/status")
            broken = False
            assert (await r.ask("GET", "/v1/status"))["state"] == "running"

    asyncio.run(story())
    assert caplog.records[0].exc_info is not None


def test_a_change_that_the_disk_refused_is_not_said_to_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a drain nor a resume that failed has its line in the log."""
    caplog.set_level(logging.INFO, "relay.control")

    async def full(*_: object) -> None:
        raise SpoolUnusable("the disk is full")

    async def story() -> None:
        async with rig(tmp_path) as r:
            with monkeypatch.context() as failing:
                failing.setattr(r.spool, "drain", full)
                with pytest.raises(Failed, match="the disk is full"):
                    await r.ask("POST", "/v1/drain")
            assert caplog.records == []
            await r.ask("POST", "/v1/drain")
            caplog.clear()
            monkeypatch.setattr(r.spool, "resume", full)
            with pytest.raises(Failed, match="the disk is full"):
                await r.ask("POST", "/v1/resume")
            assert caplog.records == []

    asyncio.run(story())


def test_a_bug_midway_through_an_answer_ends_only_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The reader sees that the answer broke off; nothing reaches the loop's handler, which would end the agent."""
    unexpected: list[dict[str, Any]] = []

    def lines(*_: object) -> Iterator[bytes]:
        yield b'{"id": 1}\n'
        raise ZeroDivisionError("by chance")

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unexpected.append(context))
        monkeypatch.setattr(listing, "lines", lines)
        async with rig(tmp_path) as r:
            answer = await r.raw(b"GET /v1/casts HTTP/1.1\r\nHost: relay\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200")
            assert not answer.endswith(b"0\r\n\r\n")
            gc.collect()
            assert (await r.ask("GET", "/v1/status"))["state"] == "running"

    asyncio.run(story())
    gc.collect()
    assert unexpected == []
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize(
    "body",
    [
        b'{"filter": {"uid": 99999999999999999999}}',
        b'{"filter": {"function": "\\udcff"}}',
        b'{"filter": {"limit": Infinity}}',
        b'{"casts": ["\\udcff"]}',
    ],
)
def test_a_selection_that_the_spool_cannot_be_asked_for_is_refused(tmp_path: Path, body: bytes) -> None:
    """400 before anything is done: not a 500, and not an answer that breaks off."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            head = f"POST /v1/hold HTTP/1.1\r\nHost: r\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            assert (await r.raw(head.encode() + body)).startswith(b"HTTP/1.1 400")

    asyncio.run(story())


def test_a_name_breaks_no_line_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a caller's unique is made of, a change is one line, and a short one."""
    caplog.set_level(logging.INFO, "relay.control")
    body = json.dumps({"casts": ["x\nuid 0: purge all", "y" * 50_000]}).encode()

    async def story() -> None:
        async with rig(tmp_path) as r:
            head = f"POST /v1/hold HTTP/1.1\r\nHost: r\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            assert (await r.raw(head.encode() + body)).startswith(b"HTTP/1.1 200")

    asyncio.run(story())
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in line
    assert len(line) < 1000


def test_a_connection_is_kept_for_the_next_request(tmp_path: Path) -> None:
    """Two requests on one connection, the first with a body that nobody asked for, get two answers."""
    both = (
        b"POST /v1/resume HTTP/1.1\r\nHost: r\r\nContent-Length: 2\r\n\r\n{}"
        b"GET /v1/drain HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n"
    )

    async def story() -> None:
        async with rig(tmp_path) as r:
            assert (await r.raw(both)).count(b"HTTP/1.1 200") == 2

    asyncio.run(story())


def test_half_a_request_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a request is answered 408 and closed; a connection that says nothing is closed without a word."""
    monkeypatch.setattr(server, "REQUEST_S", 0.01)

    async def story() -> None:
        async with rig(tmp_path) as r:
            assert b"too_slow" in await r.raw(b"GET /v1/st")
            assert await r.raw(b"") == b""

    asyncio.run(story())


def test_who_does_not_read_on_the_port_soon_gives_his_place_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that asks again and again and takes no answer is cut off after PUBLIC_WRITE_S, and so is one that left."""
    monkeypatch.setattr(server, "PUBLIC_WRITE_S", 0.2)
    sockets: list[socket.socket] = []

    async def story() -> None:
        async with rig(tmp_path) as r:
            ours, theirs = socket.socketpair()
            for one in (ours, theirs):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            sockets.append(theirs)
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            theirs.sendall(b"GET /metrics HTTP/1.1\r\nHost: r\r\n\r\n" * 40)
            r.control._accept_anybody(reader, writer)
            (task,) = r.control._public
            await asyncio.wait_for(asyncio.shield(task), 30)
            assert not r.control._public
            assert ours.fileno() == -1

    asyncio.run(story())
    sockets[0].close()


def test_who_reads_late_has_the_end_of_his_answer_and_the_connection_ends_in_peace(tmp_path: Path) -> None:
    """What stands in the buffer while the connection is being closed is sent, and the agent goes on."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            ours, theirs = socket.socketpair()
            for one in (ours, theirs):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            theirs.sendall(b"GET /metrics HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n")
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            r.control._accept_anybody(reader, writer)
            (task,) = r.control._public
            await asyncio.to_thread(until, writer.is_closing, "it is being closed")
            assert writer.transport.get_write_buffer_size() > 0
            with theirs:
                answer = await asyncio.to_thread(theirs.makefile("rb").read)
            await asyncio.wait_for(task, 30)
            assert b"process_open_fds" in answer

    asyncio.run(story())


def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than the bound is told so and closed; when another leaves there is room again."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)

    async def story() -> None:
        async with rig(tmp_path) as r:
            _, writer = await asyncio.open_unix_connection(r.path)
            assert b"too_many_connections" in await r.raw(b"")
            writer.close()
            await writer.wait_closed()
            await asyncio.gather(*r.control._open, return_exceptions=True)
            answer = await r.raw(b"GET /v1/drain HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n")
            assert b"200" in answer

    asyncio.run(story())


def test_a_listing_waits_for_its_reader_and_ends_with_him(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a peer that does not read only what the buffers hold is read from the disk; when he goes, it ends."""
    read = []
    monkeypatch.setattr(listing, "lines", lambda *_: (read.append(1) or b"x" * 65536 for _ in count()))

    async def story() -> None:
        async with rig(tmp_path) as r:
            await r.append(b"f")
            _, writer = await asyncio.open_unix_connection(r.path, limit=1)
            writer.write(b"GET /v1/casts HTTP/1.1\r\nHost: r\r\n\r\n")
            before = -1
            while before != len(read) or not read:
                before = len(read)
                await asyncio.sleep(0.05)
            assert len(read) < 50
            writer.close()
            await asyncio.wait_for(asyncio.gather(*r.control._open, return_exceptions=True), 30)

    asyncio.run(story())


def test_a_list_that_finds_nothing_says_that_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty line now and then, which a client passes over: a long search is no agent that hangs."""
    pieces = [b"", b"", b'{"id": 7}\n', b""]
    monkeypatch.setattr(listing, "lines", lambda *_: (piece for piece in pieces))

    async def story() -> None:
        async with rig(tmp_path) as r:
            quick = await r.raw(b"GET /v1/casts HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n")
            assert b"1\r\n\n\r\n" not in quick
            monkeypatch.setattr(routes, "STILL_S", 0.0)
            assert await r.casts() == [{"id": 7}]
            answer = await r.raw(b"GET /v1/casts HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n")
            assert answer.count(b"1\r\n\n\r\n") >= 2

    asyncio.run(story())


def test_the_socket_has_its_mode_and_goes_with_the_agent(tmp_path: Path) -> None:
    """The permissions are those of the settings, whatever the umask; after the close there is no socket."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            assert stat.S_IMODE(r.path.stat().st_mode) == 0o600
            control = Control(wanted(tmp_path / "b.sock", 0o666), r.spool, Facts, Clock(), "1", list)
            await control.start()
            assert stat.S_IMODE((tmp_path / "b.sock").stat().st_mode) == 0o666
            await control.close()
            assert not (tmp_path / "b.sock").exists()

    asyncio.run(story())
    assert not (tmp_path / "control.sock").exists()


def test_only_a_stale_socket_is_taken_over(tmp_path: Path) -> None:
    """One that nobody answers on is replaced; one that lives, and a file that is no socket, are refused and stay."""
    stale, plain = tmp_path / "stale.sock", tmp_path / "plain"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(stale))
    left.close()
    plain.write_text("mine")

    async def story() -> None:
        async with rig(tmp_path) as r:
            for path, why in ((r.path, "another process"), (plain, "no socket"), (tmp_path / "no" / "s", "No such")):
                with pytest.raises(SocketUnusable, match=why):
                    await Control(wanted(path), r.spool, Facts, Clock(), "1", list).start()
            control = Control(wanted(stale), r.spool, Facts, Clock(), "1", list)
            await control.start()
            await control.close()
            assert (await r.ask("GET", "/v1/drain"))["remaining"] == 0

    asyncio.run(story())
    assert plain.read_text() == "mine"


def test_a_look_for_the_oldest_begins_where_the_last_one_ended() -> None:
    """The bound holds while nothing can have come back to life, and for a minute at most."""
    known = views._OldestKnown()
    assert known.from_id(5, 100.0) == 0
    known.found(reading.Oldest(70, 1), 0, 5, 100.0)
    assert known.from_id(5, 101.0) == known.from_id(6, 101.0) == 70
    assert known.from_id(4, 101.0) == 0
    known.found(reading.Oldest(80, 1), 70, 6, 150.0)
    assert known.from_id(6, 160.0) == 80
    assert known.from_id(6, 161.0) == 0
    known.found(None, 80, 6, 160.0)
    assert known.from_id(6, 160.0) == 0
