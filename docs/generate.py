"""Writes docs/lifecycle.md from the table of relay/lifecycle.py: the theory, a picture, the table, what causes what.

`python docs/generate.py` writes the file; `--print` prints it instead.  tests/docs/test_lifecycle.py fails while the
committed file is another one.
"""

import sys
from pathlib import Path

from relay import lifecycle
from relay.lifecycle import TABLE, Event, State

PAGE = Path(__file__).with_name("lifecycle.md")

#: what causes each event; None: the table has it, and nothing in relay causes it yet
CAUSES: dict[Event, str | None] = {
    Event.ACCEPT: "a COMMIT that holds the cast returned; the caller is answered `JOB_CREATED` after it",
    Event.SCHEDULE: "the same, and the caller named a moment that has not come (`SUBMIT_JOB_EPOCH`)",
    Event.TAKE: "the forwarder submitted it to an upstream",
    Event.DONE: "the upstream reported `WORK_COMPLETE`, behind a clean barrier, or accepted it where `confirm` is"
    " `accepted`; of an attempt that ended otherwise, too, while its link holds and its handle is remembered",
    Event.DOUBT: "the link was lost before the verdict, or the upstream answered the submission with an `ERROR` that is"
    " its own trouble; nothing is written, so on disk the cast is still what it was when it was taken",
    Event.FAIL: "the worker reported `WORK_FAIL` or `WORK_EXCEPTION`, or took longer than"
    " `attempt_timeout`, and it was not the last failure, or relay drains",
    Event.EXHAUST: "the worker reported a failure, and with it there are `max_attempts` of them",
    Event.REFUSE: "the upstream answered the submission with an `ERROR` that says it can never be taken",
    Event.DAMAGE: "the cast was read from disk, and its checksum does not fit",
    Event.UNREAD: "the disk failed to read it, or the page that it is on is damaged; it is read again a minute later",
    Event.EXPIRE: "its `lifetime` was over before it was sent, or while it waited where nobody works on it",
    Event.HOLD: "an operator held it, or `hold --new` holds its function",
    Event.RELEASE: "an operator released it, or the hold of its function lapsed or was ended",
    Event.BURY: "an operator buried it",
    Event.REVIVE: "an operator revived it",
    Event.POSTPONE: "an operator released or revived it, and the moment that its caller named has not come",
    Event.PURGE: "an operator purged it, or `keep_dead` is over",
    Event.MOVE: "an operator purged what `export --hold` wrote out",
}
#: moves of an event that has a cause, which nothing causes yet all the same
NOT_YET: frozenset[tuple[State, Event]] = frozenset()

HEAD = """\
# The life of a cast

<!-- Written by docs/generate.py from relay/lifecycle.py; change it there. -->

A cast is in one of these states, and only an event of the table moves it.

## The picture

The moves that something makes today:
"""
THEORY_HEAD = "## The theory"
TABLE_HEAD = """\
## The table

Every pair that is not here cannot happen. A move marked *not yet caused* is part of the table, and nothing in relay
makes it: there is no command for it, or no report of an upstream that leads to it.
"""
CAUSES_HEAD = "## What causes an event"


def theory() -> str:
    """The docstring of the module, without its title."""
    assert lifecycle.__doc__
    paragraphs = lifecycle.__doc__.strip().split("\n\n")[1:]
    return "\n\n".join(paragraphs).replace("The theory.  ", "")


def is_caused(state: State, event: Event) -> bool:
    """Whether something in relay makes this move."""
    return CAUSES[event] is not None and (state, event) not in NOT_YET


def picture() -> str:
    """The moves that something makes, as a state diagram."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for (state, event), to in TABLE.items():
        if is_caused(state, event):
            start = "[*]" if state is State.NOWHERE else state.value
            end = "[*]" if to in (State.RETIRED, State.PURGED) else to.value
            lines.append(f"    {start} --> {end}: {event.value}{' (retired)' if to is State.RETIRED else ''}")
    return "\n".join([*lines, "```"])


def moves() -> str:
    """The table, a row a move."""
    lines = ["| state | event | next state |", "|---|---|---|"]
    for (state, event), to in TABLE.items():
        mark = "" if is_caused(state, event) else " (not yet caused)"
        lines.append(f"| {state.value} | {event.value}{mark} | {to.value} |")
    return "\n".join(lines)


def causes() -> str:
    """What makes each event happen."""
    lines = ["| event | happens when |", "|---|---|"]
    lines += [f"| {event.value} | {CAUSES[event] or 'nothing causes it yet'} |" for event in Event]
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    parts = (HEAD, picture(), THEORY_HEAD, theory(), TABLE_HEAD, moves(), CAUSES_HEAD, causes())
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(page())
    else:
        PAGE.write_text(page())
