"""How many files the agent may have open: KEPT of them are for the disk, the upstreams and the operator, the rest for
callers.

A caller beyond that is told `too_many_connections`, as one beyond `[intake] max_connections` is; it never takes the
descriptor with which a COMMIT or a link would be made.

Never fails: a limit that cannot be raised leaves fewer callers.
"""

from __future__ import annotations

import resource

#: descriptors beside those of callers: half of them for the spool with its readers, links and questions to upstreams,
#: the operator's connections, the log; half for callers that are accepted to be told that they are too many
KEPT = 256


def make_room(callers: int) -> int:
    """Raise the soft limit of open files to what so many callers need, if it may; how many of them have room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = callers + KEPT
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= limit:
        limit = wanted if soft == resource.RLIM_INFINITY else soft
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return fitting(callers, limit)


def fitting(callers: int, limit: int) -> int:
    """How many of `callers` have room under a limit of open files; where that is very low, half of it is theirs."""
    return max(1, min(callers, max(limit - KEPT, limit // 2)))
