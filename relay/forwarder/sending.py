"""Out: casts that the schedule picked become jobs on a link, each under a wire unique that was never used before.

The part of it before the last dot is the cast's idempotency key, the same at every send: what an imported cast
brought, else the caller's message id, else the id of the spool and the cast.  Behind the dot stand a mark of this start
and the number of the send: job servers lose a job that is submitted twice under one unique.

Foreground jobs, or background ones where the function's casts are done once they are accepted.  On a link whose server
has refused a kind of jobs for its priority such casts are submitted as normal ones.
"""

from __future__ import annotations

import secrets

from relay.cast import Priority
from relay.clock import Clock
from relay.forwarder.heads import Heads
from relay.forwarder.lanes import Flight
from relay.forwarder.tally import Tally
from relay.protocol.upstream import SUBMIT, SUBMIT_BACKGROUND
from relay.spool.opening import Identity
from relay.spool.preparing import is_message_id
from relay.upstream.link import Link


class Sender:
    """Submits what it is given, and counts it as in flight."""

    def __init__(self, identity: Identity, heads: Heads, tally: Tally, clock: Clock) -> None:
        self._identity = identity
        self._heads = heads
        self._tally = tally
        self._clock = clock
        #: tells the sends of this start from those of any other
        self._start_mark = secrets.token_hex(4).encode()
        self._sends = 0

    def send(self, link: Link[Flight], flights: list[Flight], now: float) -> None:
        """Submit these casts, in order, as one write."""
        wall, mark, number = self._clock.wall(), self._start_mark, self._sends
        identity, heads, tally, jobs = self._identity, self._heads, self._tally, []
        track, kind = None, 0
        newest_from, newest = identity.spools[-1]
        for flight in flights:
            number += 1
            if flight.track is not track:
                track = flight.track
                kinds = SUBMIT if track.lane.rule.confirm == "completed" else SUBMIT_BACKGROUND
                kind = kinds[track.name.priority]
                if kind in link.refused:
                    kind = kinds[Priority.NORMAL]
            flight.kind = kind
            (id_, unique, payload, _), name = flight.cast, flight.track.name
            flight.began_at, flight.began_us = now, wall
            if flight.key is not None:
                wire = b"%b.%b-%d" % (flight.key, mark, number)
            elif unique is not None and is_message_id(unique):
                wire = b"%b.%b-%d" % (unique, mark, number)
            else:
                spool_id = newest if id_ >= newest_from else identity.spool_id(id_)
                wire = b"%b-%d.%b-%d" % (spool_id, id_, mark, number)
            jobs.append((flight, name.function, wire, payload, kind))
        self._sends = number
        tally.sent(flights)
        heads.sent(flights)
        link.submit(jobs)
        for track in {flight.track for flight in flights}:
            heads.refill(track)
