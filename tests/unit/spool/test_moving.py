"""What a line of an import may say: whatever a file holds, it is a cast that callers could have made, or refused."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from relay.spool.moving import KEY_LIMIT, lines, parse, parse_all
from relay.spool.reading import connect
from tests.unit.spool.writing import NOW, Writer, cast


def line(**more: object) -> bytes:
    """A line that is well but for these."""
    return json.dumps({"function": "f", "payload": "x", **more}).encode()


def test_a_line_needs_a_function_and_a_payload_only() -> None:
    """The rest has defaults; the key is the origin too where none is named."""
    assert parse(line())[:6] == ("", "", b"f", None, 1, "ready")
    assert parse(line(key="spool-1")).origin == "spool-1"
    assert parse(line(key="k" * KEY_LIMIT)).key == "k" * KEY_LIMIT


@pytest.mark.parametrize("name", ["key", "origin"])
@pytest.mark.parametrize("word", ["a\0payload", "a b", "\u00e9", "\n", "k" * (KEY_LIMIT + 1), 5, None])
def test_a_key_that_would_be_more_than_a_key_on_the_wire_is_refused(name: str, word: object) -> None:
    """It goes to job servers as it is: a NUL would begin the payload, and one too long would be refused for ever."""
    with pytest.raises(ValueError, match=name):
        parse(line(**{name: word}))


@pytest.mark.parametrize("name", ["accepted_at", "not_before"])
@pytest.mark.parametrize("moment", [10**400, 1e300, float("inf"), float("nan"), -1, "now", True])
def test_a_moment_that_is_none_is_refused(name: str, moment: object) -> None:
    """However large: the line is named, and nothing breaks."""
    with pytest.raises(ValueError, match=f"line 2: {name}"):
        parse_all(line() + b"\n" + line(**{name: moment}))


@pytest.mark.parametrize("function", ["", "a\0b", "a b", "f" * 513, "\ud800"])
def test_a_function_that_no_caller_could_name_is_refused(function: str) -> None:
    """As at the intake."""
    with pytest.raises(ValueError, match=r"function|surrogates"):
        parse(line(function=function))


@pytest.mark.parametrize("line", [b'{"function": "f", "payl', b"-> 0", b"[1]"])
def test_a_line_that_was_cut_short_says_so(line: bytes) -> None:
    """Its number in what was read, and no position in what a parser saw."""
    with pytest.raises(ValueError, match=r"^line 2: it is no (JSON, or was cut short|object)$"):
        parse_all(b'{"function": "f", "payload": ""}\n' + line)


@pytest.mark.parametrize(
    ("rot", "shown"),
    [
        ("UPDATE fates SET error = x'6e6f'", {"last_error": "no"}),
        ("UPDATE fates SET error = CAST(x'6eff' AS TEXT)", {"last_error": "n\\xff"}),
        ("UPDATE fates SET reason = x'6e6f', attempts = x'07'", {"reason": "no", "attempts": 0}),
        ("DELETE FROM lanes WHERE function = CAST('f' AS BLOB)", {"damaged": True}),
    ],
)
def test_what_rotted_of_a_fate_or_a_lane_ends_no_export(tmp_path: Path, rot: str, shown: dict[str, object]) -> None:
    """One bit may do it, and no checksum covers either: the line says what can be said, and the others follow."""
    writer = Writer(tmp_path / "spool" / "spool.db")
    writer.accept(cast(), cast(b"g"))
    ids = [id_ for (id_,) in writer.rows("SELECT id FROM casts ORDER BY id")]
    writer.conn.execute(
        "INSERT INTO fates (id, lane, state, since, attempts, failures, reason, error)"
        " VALUES (?, 1, 'dead', 0, 1, 1, 'failed', 'no')",
        (ids[0],),
    )
    writer.conn.execute(rot)
    with closing(connect(writer.path)) as conn:
        first, second = map(json.loads, lines(conn, writer.identity, ids, NOW))
    assert {name: first[name] for name in shown} == shown
    assert (second["id"], second["function"], second["payload"]) == (ids[1], "g", "x")
    writer.close()
