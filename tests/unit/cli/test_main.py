"""The command line: usage, exit codes, and the verbs against an agent that is scripted, down, or not to be reached."""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from relay.cli import backlog, drain, main, places
from relay.cli.ask import Agent
from relay.cli.exits import Failed, NotPermitted, NotRunning
from relay.cli.pace import Pace
from relay.conf import options
from relay.protocol.framing import Framer, Packet
from relay.protocol.packets import REQ, RES, Kind, decode, encode
from relay.spool import reading
from relay.spool.opening import close_spool, open_spool


class Place:
    """A configuration, and scripted peers behind its sockets."""

    def __init__(self, directory: Path) -> None:
        self.conf = directory / "relay.conf"
        self.control = directory / "control.sock"
        self.intake = directory / "relay.sock"
        self.spool = directory / "spool" / "spool.db"
        self.conf.write_text(
            f"[intake]\nsocket = {self.intake}\n[spool]\npath = {self.spool}\n[control]\nsocket = {self.control}\n"
        )
        self.asked: list[bytes] = []

    def run(self, *arguments: str) -> int:
        return main.main(["--config-file", str(self.conf), *arguments])

    def make_spool(self) -> None:
        opened = open_spool(self.spool, 1e9, "machine")
        opened.conn.execute("INSERT INTO lanes (function, priority, accepted, dead, bytes) VALUES (x'66', 1, 2, 1, 3)")
        for id_ in (1, 2):
            opened.conn.execute("INSERT INTO casts VALUES (?, 1, ?, NULL, NULL, NULL, NULL, 0, x'00')", (id_, id_))
        opened.conn.execute("INSERT INTO fates VALUES (2, 1, 'dead', 0, NULL, 0, 1, 1, 'failed', 'no', '', 0, NULL)")
        close_spool(opened)

    def answer(self, path: Path, *answers: bytes) -> threading.Thread:
        """Answer one connection after the other with these bytes, each after one read."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with listener:
                for answer in answers:
                    connection, _ = listener.accept()
                    with connection:
                        self.asked.append(connection.recv(1 << 16))
                        # who is answered may have gone
                        with suppress(OSError):
                            connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        return thread


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A place without an agent and without a spool."""
    return Place(tmp_path)


def http(answer: object, status: int = 200) -> bytes:
    """An answer of the agent's."""
    body = json.dumps(answer).encode()
    return b"HTTP/1.1 %d \r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def draining(remaining: int, state: str = "draining") -> bytes:
    """An answer to drain."""
    blockers = [{"function": "f", "count": remaining, "reason": "no workers"}] if remaining else []
    return http(
        {
            "state": state if remaining or state == "running" else "drained",
            "remaining": remaining,
            "blockers": blockers,
            "functions": len(blockers),
            "dead": 3,
            "held": 4,
        }
    )


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain.time, "sleep", lambda seconds: None)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("levitate",),
        ("status", "--levitate"),
        ("status", "-f", "xml"),
        ("backlog", "--limit", "many"),
        ("backlog", "--limit", "-1"),
        ("backlog", "--state", "odd"),
        ("backlog", "--older-than", "long"),
        ("backlog", "--uid", "me"),
        ("backlog", "--older", "1"),
        ("cast",),
        ("cast", "f", "x", "--priority", "higher"),
        ("drain", "--timeout", "-1"),
    ],
)
def test_wrong_usage_exits_2_with_a_word_on_stderr(
    place: Place, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown verb, option or value, or a missing argument."""
    with pytest.raises(SystemExit) as raised:
        place.run(*arguments)
    assert raised.value.code == 2
    assert capsys.readouterr().err


def test_two_payloads_or_an_unknown_column_are_misuse(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """What argparse cannot see is exit 2, too."""
    place.make_spool()
    assert place.run("cast", "f", "x", "--file", "y") == 2
    assert place.run("status", "-c", "colour") == 2
    assert "'colour'" in capsys.readouterr().err


def test_without_agent_and_spool_the_agent_is_not_running(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Every verb exits 69, and makes no spool."""
    for arguments in (("status",), ("backlog",), ("cast", "f", "x"), ("drain",), ("resume",)):
        assert (arguments, place.run(*arguments)) == (arguments, os.EX_UNAVAILABLE)
        assert "no agent listens" in capsys.readouterr().err
    assert not place.spool.parent.exists()


def test_status_and_backlog_read_the_spool_when_the_agent_is_down(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 0, the word on stderr, state down, and the sum holds."""
    place.make_spool()
    assert place.run("status", "-f", "json") == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert "agent not running: read from the spool" in err
    assert (said["state"], said["accepting"], said["upstreams"]) == ("down", False, [])
    assert (said["accepted"], said["ready"], said["dead"], said["in_flight"]) == (2, 1, 1, 0)
    assert said["oldest_seconds"] > 1e9
    assert place.run("backlog", "-f", "json", "--state", "dead") == 0
    out, err = capsys.readouterr()
    assert [cast["id"] for cast in json.loads(out)] == [2]
    assert "agent not running: read from the spool" in err


def test_a_spool_that_is_none_is_a_failure(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """With the agent down and a file that is no spool: exit 1, named."""
    place.spool.parent.mkdir()
    place.spool.write_bytes(b"not a database, but long enough to be one" * 99)
    assert place.run("status") == place.run("backlog") == 1
    assert str(place.spool) in capsys.readouterr().err


def test_backlog_asks_the_agent_with_its_filters(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Filters go to the agent in seconds, and what it streams is printed, wherever the chunks are cut."""
    lines = b'{"id": 1, "uid": null}\n{"id": 2, "uid": 5}\n'
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (lines[:5], lines[5:30], lines[30:]))
    place.answer(place.control, b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    filters = ("--function", "a b*", "--older-than", "2m", "--newer-than", "1h", "--uid", "5", "--error", "x&y")
    assert place.run("backlog", "-f", "value", "-c", "id", *filters, "--limit", "9") == 0
    assert capsys.readouterr().out.split() == ["1", "2"]
    target = place.asked[0].split()[1].decode()
    assert target == "/v1/casts?function=a+b%2A&older_than=120.0&newer_than=3600.0&uid=5&error=x%26y&limit=9"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", NotRunning),
        (b"HTTP/1.1 200 \r\nContent-Length: 9\r\n\r\n{}", NotRunning),
        (b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", NotRunning),
        (b"HTTP/1.1 500 \r\nContent-Length: 3\r\n\r\nbad", Failed),
        (http({"error": "not_permitted", "text": "No."}, 403), NotPermitted),
        (http({"error": "odd", "text": "It is."}, 409), Failed),
    ],
)
def test_an_answer_that_is_none(place: Place, answer: bytes, error: type[Failed]) -> None:
    """An agent that ends before its answer does, and refusals by their status."""
    place.answer(place.control, answer)
    with pytest.raises(Failed) as raised:
        Agent(place.control).ask("GET", "/v1/status")
    assert type(raised.value) is error


def test_a_socket_that_may_not_be_opened_is_77(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission denied is not 'not running'."""

    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert place.run("status") == place.run("cast", "f", "x") == os.EX_NOPERM


def test_a_drain_waits_until_nothing_remains(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """It posts once and then looks; progress goes to stderr, the result to stdout; exit 0."""
    place.answer(place.control, draining(2), draining(1), draining(0))
    assert place.run("drain", "--timeout", "1h") == 0
    assert [asked.split()[0] for asked in place.asked] == [b"POST", b"GET", b"GET"]
    out, err = capsys.readouterr()
    assert "nothing but 3 dead and 4 held casts is left" in out
    assert err == "2 casts to go; most of f (2): no workers\n"


def pace_of(rate: int) -> Pace:
    """A pace at which so many go in a second."""
    pace = Pace()
    pace.look(0.0, 100 * rate)
    pace.look(10.0, 90 * rate)
    return pace


@pytest.mark.parametrize(
    ("blockers", "rate", "line"),
    [
        (
            [("f", 60, "in progress: waiting")],
            20,
            "60 casts to go; 20/s; about 3.0 s; most of f (60): in progress: waiting",
        ),
        (
            [("g", 50, "no workers"), ("f", 10, "in progress: waiting")],
            2,
            "60 casts to go; 2.0/s; about 5.0 s for 10 of them; most of g (50): no workers",
        ),
        ([("g", 60, "no workers")], 20, "60 casts to go; most of g (60): no workers"),
        ([("g", 60, "no workers")], 0, "60 casts to go; nothing moves; most of g (60): no workers"),
    ],
)
def test_an_estimate_is_for_what_moves(blockers: list[tuple[str, int, str]], rate: int, line: str) -> None:
    """What stands still has no end, and is named before what does not."""
    named = [{"function": function, "count": count, "reason": reason} for function, count, reason in blockers]
    assert drain.told({"remaining": 60, "blockers": named}, pace_of(rate)) == line


def test_a_drain_whose_time_is_up_names_what_stands_in_the_way(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 75; function, count and reason for people, and as an object."""
    thread = place.answer(place.control, *[draining(2)] * 2)
    assert place.run("drain", "--timeout", "0") == os.EX_TEMPFAIL
    assert capsys.readouterr().out.splitlines()[-1].split(maxsplit=2) == ["f", "2", "no workers"]
    assert place.run("drain", "--no-wait", "-f", "json") == os.EX_TEMPFAIL
    assert json.loads(capsys.readouterr().out) == {
        "state": "draining",
        "remaining": 2,
        "blockers": [{"function": "f", "count": 2, "reason": "no workers"}],
        "dead": 3,
        "held": 4,
    }
    thread.join()


def test_a_dry_run_only_looks(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """One GET, exit 0 whatever stands in the way."""
    place.answer(place.control, draining(2, "running"))
    assert place.run("drain", "--dry-run") == 0
    assert [asked.split()[0] for asked in place.asked] == [b"GET"]
    assert "would wait for 2 casts" in capsys.readouterr().out


def test_a_drain_that_somebody_ends_is_a_failure(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Who waits for an empty spool is told that it fills again: exit 1."""
    place.answer(place.control, draining(2), draining(2, "running"))
    assert place.run("drain") == 1
    assert "resume" in capsys.readouterr().err


def test_resume_says_so(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """A POST, and a sentence."""
    place.answer(place.control, draining(0, "running"))
    assert place.run("resume") == 0
    assert place.asked[0].startswith(b"POST /v1/resume ")
    assert "accepted" in capsys.readouterr().out


def submitted(place: Place) -> list[tuple[int, list[bytes]]]:
    """What was sent to the intake: kind and arguments, a packet for each connection."""
    found: list[Packet] = []
    for asked in place.asked:
        found += Framer(frozenset([REQ]), 1 << 20, 1 << 20).feed(asked)
    return [(kind, decode(kind, body)) for kind, body in found]


def test_a_cast_prints_its_handle(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Payload from argument or file, byte for byte; priority and unique as given; a unique of 32 hex digits else."""
    (tmp_path / "payload").write_bytes(b"\0\xff\n")
    created = encode(RES, Kind.JOB_CREATED, b"H:here:1")
    thread = place.answer(place.intake, created, created)
    assert place.run("cast", "f", "x", "--unique", "u", "--priority", "high") == 0
    assert place.run("cast", "f", "--file", str(tmp_path / "payload")) == 0
    thread.join()
    assert capsys.readouterr().out.split() == ["H:here:1"] * 2
    first, (kind, (function, unique, payload)) = submitted(place)
    assert first == (Kind.SUBMIT_JOB_HIGH_BG, [b"f", b"u", b"x"])
    assert (kind, function, payload) == (Kind.SUBMIT_JOB_BG, b"f", b"\0\xff\n")
    assert len(unique) == 32
    assert set(unique) <= set(b"0123456789abcdef")


def test_a_cast_that_is_refused_says_why(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Code and sentence on stderr, nothing on stdout, exit 1."""
    place.answer(place.intake, encode(RES, Kind.ERROR, b"draining", b"No more."))
    assert place.run("cast", "f", "x") == 1
    assert capsys.readouterr() == ("", "relay-cli: draining: No more.\n")


def test_a_lost_connection_is_tried_once_more_with_the_same_unique(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second try succeeds as the first cast; lost twice it is 69, and the unique to go on with is named."""
    thread = place.answer(place.intake, b"", encode(RES, Kind.JOB_CREATED, b"H:here:2"), b"", b"")
    assert place.run("cast", "f", "x") == 0
    (_, (_, first, _)), (_, (_, second, _)) = submitted(place)
    assert first == second
    capsys.readouterr()
    assert place.run("cast", "f", "x") == os.EX_UNAVAILABLE
    thread.join()
    (_, (_, unique, _)) = submitted(place)[-1]
    assert unique.decode() in capsys.readouterr().err


def test_the_places_are_those_that_the_agent_reads(tmp_path: Path) -> None:
    """The last of several files and values wins, references are followed, and the defaults are those of the options."""
    first, second = tmp_path / "a.conf", tmp_path / "b.conf"
    first.write_text("[control]\nsocket = /a\nsocket = /b\n[CONTROL]\nsocket_mode = 0600\n[spool]\npath: '/q'\n")
    second.write_text("# [control]\n[Spool]\npath = ${control.socket}.db\n[intake]\nsocket : /c\n")
    found = places.Places([str(first)])
    assert (str(found.control), str(found.spool)) == ("/b", "/q")
    both = places.Places([str(first), str(second)])
    assert (str(both.spool), str(both.intake), str(both.control)) == ("/b.db", "/c", "/b")
    assert str(places.Places([str(first)], "/mine").control) == "/mine"
    for (group, name), default in places.DEFAULTS.items():
        (option,) = [opt for opt in options.GROUPS[group] if opt.dest == name]
        assert option.default == default


def test_a_configuration_that_cannot_be_read_is_a_failure(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is not there or makes no sense: exit 1, and the file is named."""
    assert main.main(["--config-file", str(tmp_path / "none"), "status"]) == 1
    place.conf.write_text("nonsense\n")
    assert place.run("status") == 1
    err = capsys.readouterr().err
    assert str(tmp_path / "none") in err
    assert f"{place.conf}: at line 1" in err


def test_the_columns_and_states_of_backlog_are_those_of_the_spool() -> None:
    """They stand in the verb a second time only for the sake of its start-up."""
    assert backlog.COLUMNS == reading.COLUMNS
    assert backlog.STATES == reading.STATES
    assert set(backlog.FILTERS) == set(reading.Filter.__dataclass_fields__)


def test_an_interrupt_is_130_without_a_traceback(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C while a drain waits."""

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(drain.time, "sleep", interrupt)
    place.answer(place.control, draining(1))
    assert place.run("drain") == 130
    assert "Traceback" not in capsys.readouterr().err


def relay_cli(place: Place, *arguments: str, **more: Any) -> "subprocess.Popen[bytes]":
    """The program as a process."""
    code = "import sys; from relay.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--config-file", str(place.conf), *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, **more)


def test_a_reader_that_has_gone_ends_it_quietly(place: Place) -> None:
    """As in `backlog | head`: no traceback."""
    line = b'{"id": 1, "function": "f"}\n' * 1000
    answer = b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n" % (len(line), line) * 9
    place.answer(place.control, answer + b"0\r\n\r\n")
    process = relay_cli(place, "backlog", "-f", "value", "-c", "function", "-c", "id")
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def test_an_argument_that_is_not_utf8_is_one_sentence(place: Place) -> None:
    """A byte that no name has fails with a line on stderr, and no traceback."""
    place.answer(place.control, b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    process = relay_cli(place, "backlog", "--function", "\udcff")
    _, said = process.communicate(timeout=60)
    assert said == b"relay-cli: '\\udcff' cannot be written as utf-8\n"
    assert process.returncode == 1


def test_asking_a_running_agent_imports_nothing_heavy() -> None:
    """A status must cost little: neither oslo.config's options, nor SQLite, nor asyncio stand on its way."""
    code = (
        "import sys; from relay.cli.main import main, parser; parser().parse_args(['status']);"
        "heavy = {'oslo_config.cfg', 'sqlite3', 'sqlite_utils', 'asyncio', 'yaml', 'http.client', 'h11', 'csv'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (["status"], 1),
        (["--config-file", "drain", "--control", "top", "--patience", "1", "show", "status"], 1),
        (["--version", "status"], len(main.VERBS)),
        (["--help"], len(main.VERBS)),
        (["nothing", "status"], len(main.VERBS)),
        (["--config-file"], len(main.VERBS)),
        ([], len(main.VERBS)),
    ],
)
def test_only_the_verb_that_is_asked_for_is_made_ready(words: list[str], known: int) -> None:
    """Wherever it stands behind the options; where it is not plain to see, all of them are, for the help's sake."""
    (verbs,) = [action.choices for action in main.parser(words)._actions if isinstance(action.choices, dict)]
    assert len(verbs) == known
    if known == 1:
        assert set(verbs) <= set(words)


def test_every_verb_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Each verb has a help that says what it does."""
    for verb in main.VERBS:
        with pytest.raises(SystemExit) as raised:
            main.main([verb, "--help"])
        assert raised.value.code == 0
        assert len(capsys.readouterr().out.splitlines()) > 5
