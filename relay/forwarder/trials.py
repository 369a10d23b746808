"""Casts by which links may be lost: each alone on a link of its own, and dead if that is lost again and again.

The theory.  A cast can crash a job server, or make it or its worker say what no client can read; the link is lost, the
cast is in doubt, goes out again, and the next link is lost, for ever.  So a cast that was sent less than KILL_S before
its link was lost, SUSPECT times in a row, is a *suspect*, as is everything that was sent beside it.  Suspects are tried
one after the other, beside the work that goes on, on a link to an upstream whose own link has held for KILL_S without
them.  A verdict ends a trial; so does KILL_S without a loss: the cast goes the usual way again.  A cast with which the
link, or the upstream's own, was lost in GUILTY trials in a row is dead, with the reason `kills_link`.  A network that
loses links by itself makes suspects, and acquits them.

Suspects stay in their track, where an operator's change, an expiry or a late answer finds them, until the link of
their trial is open.  Never has more than one link; never tries what is parked, or being changed, nor anything while
nothing may be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relay.clock import Clock
from relay.forwarder.lanes import Flight, Lane, Track
from relay.forwarder.outlet import Outlet
from relay.forwarder.sending import Sender
from relay.forwarder.settling import Settling
from relay.forwarder.tally import Tally
from relay.protocol.upstream import News
from relay.settings import Upstream
from relay.upstream.link import Link

#: losses in a row that make a suspect, and trials in a row that end with one, after which it is dead
SUSPECT = 3
GUILTY = 3
#: seconds after a send in which a loss speaks against the cast
KILL_S = 5.0


class Trials:
    """The suspects, and the one that is tried; `wake` is called with a lane that may go on."""

    def __init__(
        self,
        settings: Callable[[], Upstream],
        sender: Sender,
        settling: Settling,
        tally: Tally,
        clock: Clock,
        may_send: Callable[[], bool],
        wake: Callable[[Lane], None],
    ) -> None:
        self._settings = settings
        self._sender = sender
        self._settling = settling
        self._tally = tally
        self._clock = clock
        self._may_send = may_send
        self._wake = wake
        #: tracks with suspects, in turn
        self._tracks: list[Track] = []
        #: the link of the trial that is under way, the upstream that it goes to, and the track whose turn it is
        self.link: Link[Flight] | None = None
        self.outlet: Outlet | None = None
        self._track: Track | None = None
        #: what was sent on it
        self._flight: Flight | None = None

    def suspects(self, flight: Flight, now: float) -> bool:
        """Take in that the link of a cast was lost: True if it is to be tried alone, and was taken over for that."""
        flight.losses = flight.losses + 1 if now - flight.began_at < KILL_S else 0
        if flight.losses < SUSPECT:
            return False
        self._wait(flight)
        return True

    def tick(self, now: float, outlets: Sequence[Outlet]) -> None:
        """Begin a trial, or end one that the link has outlived; `outlets` may be sent to."""
        if self.link is not None:
            self._look(self.link, now)
            return
        self._tracks = [track for track in self._tracks if track.suspects]
        for track in self._tracks:
            routes = track.lane.routes
            good = [
                one
                for one in outlets
                if now - one.opened_at >= KILL_S and routes and one.schedule is routes[0].schedule
            ]
            if good and self._may_be_tried(track):
                self._begin(track, good[0])
                break

    def _look(self, link: Link[Flight], now: float) -> None:
        flight = self._flight
        if flight is None:
            return
        if flight not in link.outstanding():
            # an earlier attempt has done it, late
            self._part()
            self._wake(flight.track.lane)
        elif now - flight.began_at >= KILL_S:
            self._acquit(flight)

    def _may_be_tried(self, track: Track) -> bool:
        return bool(track.suspects) and not track.lane.parked and not track.lane.fences and self._may_send()

    def close(self) -> None:
        """No more trials."""
        self._part()

    def shaken(self, outlet: Outlet, now: float) -> None:
        """The link of an upstream was lost, and maybe the cast that is tried there is why."""
        if outlet is self.outlet and self.link is not None:
            self._end(self.link.outstanding(), f"{outlet.server} went away", now)

    # -- a trial ---------------------------------------------------------------------------------------------------

    def _begin(self, track: Track, outlet: Outlet) -> None:
        self._tracks.remove(track)
        self._tracks.append(track)
        self._track, self.outlet = track, outlet
        self.link = Link(outlet.server, self._settings(), self)
        self.link.start()

    def opened(self, link: Link[Flight]) -> None:
        """Send one of the track's, and nothing else."""
        track, outlet = self._track, self.outlet
        if link is not self.link or track is None or outlet is None:
            return
        if not self._may_be_tried(track):
            self._part()
            return
        now, flight = self._clock.monotonic(), track.suspects.pop(0)
        self._flight = flight
        outlet.schedule.sent(outlet.schedule.share(track.lane), flight.size, now)
        self._sender.send(link, [flight], now)

    def told(self, link: Link[Flight], news: News[Flight]) -> None:
        """Its verdict."""
        outlet, flight = self.outlet, self._flight
        if link is self.link and outlet is not None and flight is not None and (news.done or news.troubles):
            self._part()
            lane = flight.track.lane
            self._settling.settle(outlet, news, self._clock.monotonic())
            self._wake(lane)

    def lost(self, link: Link[Flight], reason: str, doubtful: list[Flight]) -> None:
        """The link is gone: it speaks against the cast, if that was sent."""
        if link is self.link and self._track is not None:
            lane = self._track.lane
            self._end(doubtful, reason, self._clock.monotonic())
            # it may have had the lane's whole window
            self._wake(lane)

    def _end(self, doubtful: Sequence[Flight], reason: str, now: float) -> None:
        flight, outlet = self._flight, self.outlet
        self._part()
        if flight is None or outlet is None or flight not in doubtful:
            # nothing was sent yet, or an earlier attempt has done it
            return
        self._back(flight, outlet)
        flight.kills += 1
        if flight.kills >= GUILTY:
            self._settling.condemn(outlet, flight, reason, now)
        else:
            self._wait(flight)

    def _acquit(self, flight: Flight) -> None:
        """The link holds: it was not this one."""
        assert self.outlet is not None
        self._back(flight, self.outlet)
        flight.losses = flight.kills = 0
        flight.track.again.insert(0, flight)
        self._part()
        self._wake(flight.track.lane)

    def _back(self, flight: Flight, outlet: Outlet) -> None:
        """It is no longer in flight, and has no verdict."""
        outlet.schedule.returned(outlet.schedule.share(flight.track.lane), flight.size)
        flight.doubts += 1
        self._tally.landed(flight)

    def _part(self) -> None:
        link, self.link, self.outlet, self._track, self._flight = self.link, None, None, None, None
        if link is not None:
            link.close()

    def _wait(self, flight: Flight) -> None:
        flight.track.suspects.append(flight)
        if flight.track not in self._tracks:
            self._tracks.append(flight.track)
