"""The errors that end a start: each says whose fault it is, and with which exit code.

What it is: the root of relay's exceptions and those that more than one floor speaks of. An error that one module
raises for its neighbour stands in that module.

Promises: every RelayError carries `exit_code`, a number of sysexits.h, so that main needs no table of its own; the
text of each is one line for an operator, without a traceback.

Never does: stand for an answer to a caller (a refusal is a value of the protocol) or for a verdict.
"""

import os


class RelayError(Exception):
    """Something relay cannot go on from; unless a subclass knows better, a bug (70)."""

    exit_code = os.EX_SOFTWARE


class BadConfiguration(RelayError):
    """An option, or how two of them fit together, is wrong (78): the text names the option and says why."""

    exit_code = os.EX_CONFIG


class SpoolError(RelayError):
    """The spool: what it is asked for cannot be done."""


class SpoolUnusable(SpoolError):
    """The spool cannot be opened, or not safely (73): the text names the path and what stands in the way."""

    exit_code = os.EX_CANTCREAT


class SpoolOwned(SpoolError):
    """Another agent owns the spool (75): waiting may help."""

    exit_code = os.EX_TEMPFAIL


class SocketUnusable(RelayError):
    """A socket relay listens on cannot be made (73): the text names the path and why."""

    exit_code = os.EX_CANTCREAT
