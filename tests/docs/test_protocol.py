"""docs/protocol.md has each request, text command, refusal and limit that the code has, and says what it does."""

import importlib
import re

import pytest

from relay.conf.options import INTAKE
from relay.protocol import admin
from relay.protocol.caller import EPOCH_DIGITS, SENTENCES, SUBMISSIONS, Conversation, Later, Question, refusal
from relay.protocol.framing import LINE
from relay.protocol.packets import ARGUMENTS, REQ, RES, Kind, encode
from tests.docs.documents import DOCS, README, rows, sections

PAGE = DOCS / "protocol.md"
UNITS = {"KiB": 2**10, "MiB": 2**20, "s": 1, "": 1}
#: an argument of a request, by its name in the table
SAMPLES = {"function": b"f", "unique": b"u", "moment": b"1", "handle": b"H:h:1", "anything": b"x"}


def table(heading: str) -> list[list[str]]:
    """The rows under a heading."""
    return rows(sections(PAGE, 2)[heading])


def value(text: str) -> float:
    """A number with its unit."""
    matched = re.fullmatch(r"([\d,.]+) ?(\w*)", text)
    assert matched, text
    return float(matched[1].replace(",", "")) * UNITS[matched[2]]


def asked(kind: int, *arguments: bytes) -> tuple[object, bool]:
    """What the conversation makes of a request, and whether it ends it."""
    conversation = Conversation(1_000)
    (answer,) = conversation.feed(encode(REQ, kind, *arguments))
    return answer, conversation.closing


REQUESTS = [row for row in table("Requests") if row[1]]


@pytest.mark.parametrize("row", REQUESTS, ids=[row[0].strip("`") for row in REQUESTS])
def test_a_request_is_answered_as_its_row_says(row: list[str]) -> None:
    """Its type, its arguments and its answer are those of the code, and the connection is usable after it."""
    name, number, arguments, said = row
    kind = Kind[name.strip("`")]
    assert kind == int(number)
    names = arguments.split(", ")
    assert len(names) == ARGUMENTS[kind]
    answer, closing = asked(kind, *(SAMPLES.get(each, each.strip("`").encode()) for each in names))
    assert not closing
    if code := re.fullmatch(r"`ERROR` with `(\w+)`", said):
        assert answer == refusal(code[1])
    elif kind in SUBMISSIONS:
        assert isinstance(answer, list)
        (cast,) = answer
        assert {0: "high", 2: "low"}.get(cast[3], "JOB_CREATED") in said
    elif isinstance(answer, Question):
        answered = Kind[said.split("`")[1]]
        assert answered == {Kind.GET_STATUS: Kind.STATUS_RES, Kind.GET_STATUS_UNIQUE: Kind.STATUS_RES_UNIQUE}[kind]
        assert len(said.partition(": ")[2].split(", ")) == ARGUMENTS[answered]
    elif isinstance(answer, Later):
        assert f"at most {EPOCH_DIGITS} digits" in said
    else:
        assert answer == encode(RES, Kind[said.split("`")[1]], SAMPLES.get(names[0], names[0].strip("`").encode()))


def test_every_other_request_is_unknown() -> None:
    """A type that has no row is answered with unknown_command, and leaves the connection usable."""
    for kind in set(range(100)) - {int(row[1]) for row in REQUESTS}:
        assert asked(kind, b"x") == (refusal("unknown_command"), False), kind


def test_the_text_commands_are_those_of_the_code() -> None:
    """Each text command has a row, and any other line is answered as the page says."""
    commands = [row[0].strip("`").encode() for row in table("Text")]
    assert sorted(commands) == sorted(admin.COMMANDS)
    for command in commands:
        assert Conversation(1_000).feed(command + b"\r\n") == [Question(LINE, command)]
    begins = re.search(r"begins `(.*?)`", sections(PAGE, 2)["Text"])
    assert begins
    conversation = Conversation(1_000)
    (answer,) = conversation.feed(b"shutdown\n")
    assert isinstance(answer, bytes)
    assert answer.startswith(begins[1].encode())
    assert not conversation.closing


@pytest.mark.parametrize("command", sorted(admin.COMMANDS))
def test_a_text_command_ends_as_its_row_says(command: bytes) -> None:
    """An answer ends with a line with a dot where its row says so, and has as many columns."""
    (said,) = [row[1] for row in table("Text") if row[0].strip("`").encode() == command]
    answer = admin.answer(command, [admin.FunctionLine(b"f", 1, 2, 3, 4, 5)], "1")
    assert answer.endswith(b".\n") == ("a line with a dot" in said)
    if b"\t" in answer:
        columns = said.rpartition(": ")[2].partition(" (")[0].partition(";")[0]
        named = [part for part in re.split(r", | and ", columns) if part]
        assert len(named) == answer.split(b"\n")[0].count(b"\t") + 1


def test_the_refusals_are_those_of_the_code() -> None:
    """Each code has a row, and the connection is closed after those whose sentence says so."""
    effects = {row[0].strip("`"): row[2] for row in table("Refusals")}
    assert set(effects) == set(SENTENCES)
    for code, sentence in SENTENCES.items():
        assert effects[code] == ("closed" if "the connection is closed" in sentence else "usable"), code


ENDS = [encode(RES, Kind.ECHO_REQ), encode(REQ, Kind.SUBMIT_JOB_BG, b"f"), b"x" * 5_000]


@pytest.mark.parametrize("sent", ENDS, ids=["magic", "arguments", "line"])
def test_what_the_page_calls_closed_is(sent: bytes) -> None:
    """bad_packet ends the conversation."""
    conversation = Conversation(1_000)
    assert conversation.feed(sent) == [refusal("bad_packet")]
    assert conversation.closing


LIMITS = [row for row in table("Limits") if len(row) == 3]


@pytest.mark.parametrize(("constant", "limit"), [row[1:] for row in LIMITS])
def test_each_limit_has_the_value_of_its_constant(constant: str, limit: str) -> None:
    """The constant that a limit names has the value that stands beside it."""
    module, _, attribute = constant.strip("`").rpartition(".")
    assert getattr(importlib.import_module(module), attribute) == value(limit)


def test_each_limit_of_a_conversation_is_there() -> None:
    """Every public limit of the caller's side of the protocol has a row."""
    named = {row[1].strip("`").rpartition(".")[2] for row in LIMITS}
    for module in ("relay.protocol.caller", "relay.protocol.framing"):
        theirs = {
            name for name in vars(importlib.import_module(module)) if re.fullmatch(r"[A-Z]+_(LIMIT|DIGITS)", name)
        }
        assert theirs <= named


def test_the_defaults_of_options() -> None:
    """An option's default is what the page says."""
    defaults = {option.name: option.default for option in INTAKE}
    for name, said in [row for row in table("Limits") if len(row) == 2]:
        default = str(defaults[name.strip("`")])
        assert value(re.sub(r"(?<=\d)(?=[A-Z])", " ", default)) == value(said)


def test_the_readme_leads_here() -> None:
    """The README links to the page."""
    assert "(docs/protocol.md)" in README.read_text()
