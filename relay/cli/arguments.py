"""How values on the command line are read that argparse does not know; the grammar is that of the configuration."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    #: what a verb adds its parser to
    Verbs = _SubParsersAction[argparse.ArgumentParser]


def duration(text: str) -> float:
    """Seconds: a plain number, or one with a suffix of ms, s, m, h, d."""
    # the configuration's own parser; what it costs to import is paid by those who give a duration
    from relay.conf.values import Duration

    try:
        return Duration()(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def count(text: str) -> int:
    """A whole number of 0 or more."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)
