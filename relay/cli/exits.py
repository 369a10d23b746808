"""How a verb ends when it does not simply end well: an exception with an exit code and one sentence for
stderr.

The codes are the contract of relay-cli: 0 done, 1 failed, 2 usage, 69 agent not running, 75 not (yet)
drained, 77 not permitted; 130 and 141 are what a shell says of an interrupt and of a reader that has gone.
"""

import os

DONE = os.EX_OK
FAILED = 1
USAGE = 2
NOT_DRAINED = os.EX_TEMPFAIL
INTERRUPTED = 130
NOBODY_READS = 141


class Failed(Exception):
    """What was asked for could not be done (1)."""

    exit_code = FAILED


class Misused(Failed):
    """The command line is wrong in a way that argparse cannot see (2)."""

    exit_code = USAGE


class NotRunning(Failed):
    """No agent answers (69)."""

    exit_code = os.EX_UNAVAILABLE


class NotPermitted(Failed):
    """This user may not (77)."""

    exit_code = os.EX_NOPERM


class Owned(Failed):
    """An agent owns the spool (75), as the agent itself says it."""

    exit_code = os.EX_TEMPFAIL
