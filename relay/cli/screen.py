"""What `top` shows, as lines of text: two looks at the agent become a screen of a width and a height.

Pure: looks, sort key, filter and size in, lines out, none wider than the width, not more than the height, and in them
nothing that a terminal would obey or could not show.  Rates are the differences of two looks; with one look there are
none yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from unicodedata import combining, east_asian_width

from relay.clock import spell

#: sort key -> (the key that a person presses, the column it sorts by, largest first)
SORTS: dict[str, tuple[str, str]] = {
    "backlog": ("b", "backlog"),
    "in_flight": ("i", "in_flight"),
    "accepted": ("a", "accepted_rate"),
    "completed": ("c", "completed_rate"),
    "failures": ("f", "failures_rate"),
    "dead": ("d", "dead"),
    "function": ("n", "function"),
}
KEYS = "q quit  / filter  sort: b backlog i flying a acc c done f fail d dead n name"
#: what counts over the life of the spool, and has a rate
_COUNTED = ("accepted", "completed", "failures")
#: columns of numbers: heading, field, width
_COLUMNS = (
    ("BACKLOG", "backlog", 9),
    ("FLYING", "in_flight", 7),
    ("WORKERS", "workers", 8),
    ("ACC/S", "accepted_rate", 8),
    ("DONE/S", "completed_rate", 8),
    ("FAIL/S", "failures_rate", 7),
    ("DEAD", "dead", 7),
)
_NUMBERS_WIDTH = sum(width for _, _, width in _COLUMNS)
_LEAST_NAME = 8


class Look(NamedTuple):
    """The agent at one moment (monotonic seconds): the object of `status`, and of each function."""

    at: float
    status: Mapping[str, Any]
    functions: Sequence[Mapping[str, Any]]


def rows(before: Look | None, now: Look, sort: str, pattern: str) -> list[dict[str, Any]]:
    """The functions that the glob lets through, with their rates, in order."""
    earlier = {one["function"]: one for one in before.functions} if before else {}
    found = []
    for one in now.functions:
        if pattern and not fnmatchcase(one["function"], pattern):
            continue
        then = earlier.get(one["function"])
        rates = {f"{name}_rate": _rate(before, now, then, one, name) for name in _COUNTED}
        found.append({**one, **rates})
    found.sort(key=lambda row: row["function"])
    column = SORTS[sort][1]
    if column != "function":
        found.sort(key=lambda row: row[column] or 0, reverse=True)
    return found


def screen(
    before: Look | None, now: Look, sort: str, pattern: str, size: tuple[int, int], note: str, encoding: str = "utf-8"
) -> list[str]:
    """The lines, for a terminal of (columns, lines) and an encoding; `note` stands in the last one."""
    width, height = size
    lines = _head(before, now)
    shown = rows(before, now, sort, pattern)
    selected = f"{len(shown)} of {len(now.functions)} functions, by {sort}"
    lines += [f"{selected}{f', {pattern}' if pattern else ''}", _heading(width)]
    room = max(0, height - len(lines) - 1)
    # what has nothing to tell stands below what has, and need not be seen
    lines += [_row(row, width) for row in shown[:room]]
    lines += [""] * (height - 1 - len(lines))
    return [fitted(line, width, encoding) for line in [*lines[: height - 1], note]]


def _head(before: Look | None, now: Look) -> list[str]:
    status = now.status
    then = before.status if before else None
    rates = {name: _rate(before, now, then, status, name) for name in _COUNTED}
    accepting = "accepting" if status["accepting"] else "NOT ACCEPTING"
    lines = [
        f"relay {status['version']}  {status['state']}, {accepting}",
        (
            f"accepted {number(rates['accepted'])}/s   completed {number(rates['completed'])}/s"
            f"   failures {number(rates['failures'])}/s"
        ),
        (
            f"ready {status['ready']:,}   deferred {status['deferred']:,}   in flight {status['in_flight']:,}"
            f"   held {status['held']:,}   dead {status['dead']:,}"
        ),
        (
            f"oldest {spell(status['oldest_seconds'])}   payloads {size_of(status['payload_bytes'])}"
            f"   spool {size_of(status['spool_bytes'])}"
        ),
    ]
    upstreams = [_upstream(one) for one in status["upstreams"]]
    lines += [f"upstream {one}" for one in upstreams[:3]]
    if len(upstreams) > 3:
        lines.append(f"and {len(upstreams) - 3} more upstreams")
    lines += [f"problem {one['code']}: {one['text']}" for one in status["problems"][:3]]
    return lines


def _upstream(one: Mapping[str, Any]) -> str:
    error = f"   {one['last_error']}" if one["last_error"] else ""
    return f"{one['server']}   {one['state']}   {one['in_flight']:,} in flight{error}"


def _heading(width: int) -> str:
    name = max(_LEAST_NAME, width - _NUMBERS_WIDTH)
    return "FUNCTION".ljust(name) + "".join([heading.rjust(wide) for heading, _, wide in _COLUMNS])


def _row(row: Mapping[str, Any], width: int) -> str:
    room = max(_LEAST_NAME, width - _NUMBERS_WIDTH)
    name = clean(row["function"])
    cells = "".join([number(row[field]).rjust(wide) for _, field, wide in _COLUMNS])
    return (name if len(name) < room else f"{name[: room - 2]}~").ljust(room) + cells


def _rate(
    before: Look | None, now: Look, then: Mapping[str, Any] | None, one: Mapping[str, Any], name: str
) -> float | None:
    """How much a count grew in a second; a function that is new grew from 0; None with one look only."""
    if before is None or now.at <= before.at:
        return None
    return float(max(0, one[name] - (then[name] if then else 0)) / (now.at - before.at))


def number(value: float | None) -> str:
    """A number in at most 7 characters."""
    if value is None:
        return "-"
    for size, unit in ((10**9, "G"), (10**6, "M")):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.1f}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"


def size_of(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def fitted(text: str, width: int, encoding: str) -> str:
    """As much of a text as the width holds; some letters of other scripts take two columns, and some none."""
    text = clean(text)
    if text.isascii():
        return text[:width]
    text = text.encode(encoding, "replace").decode(encoding)
    for end, char in enumerate(text):
        width -= 0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1
        if width < 0:
            return text[:end]
    return text


def clean(text: str) -> str:
    """Nothing that a terminal would take for a command."""
    return text if text.isprintable() else "".join([char if char.isprintable() else "?" for char in text])
