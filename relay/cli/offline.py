"""Reading with the agent down: from the spool itself, said on stderr.

Whoever asks while no agent runs is told what is on disk; where there is no spool either, that no agent runs
(69).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from relay.cli.exits import Failed, NotPermitted, NotRunning


@contextmanager
def instead_of(agent: NotRunning) -> Iterator[None]:
    """Around reading the spool because no agent answered: its errors as those of the command line."""
    from relay.errors import SpoolUnusable
    from relay.spool.reading import SpoolForbidden, SpoolMissing

    try:
        yield
    except SpoolMissing as error:
        raise NotRunning(f"{agent}, and {error}") from None
    except SpoolForbidden as error:
        raise NotPermitted(f"{agent}, and {error}") from None
    except SpoolUnusable as error:
        raise Failed(f"{agent}, and {error}") from None


def say(agent: NotRunning) -> None:
    """The line on stderr."""
    print(f"agent not running: read from the spool ({agent})", file=sys.stderr)
