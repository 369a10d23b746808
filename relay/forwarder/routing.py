"""Where lanes go: to the upstreams in use, or where workers are.

*Sticky ring*: one upstream is in use, all lanes' casts go there; *round robin*: all that are well are in use.  A lane
for which no upstream in use has a worker goes to one that has; while none has, it is *parked*: nothing is sent, its new
casts leave memory for the disk, and the other upstreams are asked, too.  One for which there are workers is taken to
move.  What moves is never parked.  Nothing is known of lanes that came since the last census, nor at a server without a
usable `status`: they find out by a few casts of their own (see `window`).

Decides and keeps `Lane.routes`; never sends, never connects, only says which upstreams are `wanted`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relay.forwarder.heads import Heads
from relay.forwarder.lanes import Lane, Share
from relay.forwarder.outlet import Outlet


class Routing:
    """The routes of all lanes."""

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        #: all upstreams, in the order of preference, and those in use
        self.outlets: Sequence[Outlet] = ()
        self._used: Sequence[Outlet] = ()
        #: upstreams that have workers for lanes which no other has, and no link
        self.wanted: set[Outlet] = set()
        #: lanes with casts in flight where no worker is, which now go where one is
        self.stranded: set[Lane] = set()

    def use(self, outlets: Sequence[Outlet], used: Sequence[Outlet], now: float) -> None:
        """These are the upstreams, and those in use: every lane is routed anew."""
        self.outlets, self._used = outlets, used
        self.wanted.intersection_update(outlets)
        for lane in self._heads.lanes.values():
            self.route(lane, now)

    def enter(self, lane: Lane, now: float) -> None:
        """It has got something to send, or room: have it take turns."""
        for share in lane.routes:
            share.schedule.enter(share, now)

    def join(self, lane: Lane) -> None:
        """It is new, and has nothing to send yet."""
        self._set(lane, self._routes(lane))

    def route(self, lane: Lane, now: float) -> None:
        """What is known of upstreams or of its workers has changed: where it goes now."""
        was_parked = lane.parked
        self._set(lane, self._routes(lane))
        if lane.parked and not was_parked:
            self._heads.park(lane)
        elif was_parked and not lane.parked:
            self._heads.unpark(lane)
        if any(share.stranded for share in lane.shares) and any(share.workers for share in lane.routes):
            self.stranded.add(lane)
        self.enter(lane, now)

    def _set(self, lane: Lane, routes: list[Share]) -> None:
        for share in lane.routes:
            share.routed = False
        for share in routes:
            share.routed = True
        lane.routes = routes
        lane.parked = bool(routes) and all(share.parked for share in routes)

    def _routes(self, lane: Lane) -> list[Share]:
        shares = [outlet.schedule.share(lane) for outlet in self._used]
        good = [share for share in shares if not share.parked]
        if good or not shares:
            return good
        for outlet in self.outlets:
            share = outlet.schedule.shares.get(lane) if outlet.sends else None
            if share is not None and (share.workers or share.window.moving):
                return [share]
        return shares

    def heard(self, share: Share, now: float) -> None:
        """A lane had a verdict: that nobody works on it holds no longer, and it may have room again."""
        if share.parked:
            share.workers = None
            self.route(share.lane, now)
        else:
            self.enter(share.lane, now)

    # -- workers ---------------------------------------------------------------------------------------------------

    def concerned(self, outlet: Outlet) -> bool:
        """Whether there are lanes with casts that do not move there, or nowhere at all."""
        shares = outlet.schedule.shares
        for lane in self._heads.lanes.values():
            if lane.parked:
                if lane.pending:
                    return True
                continue
            share = shares.get(lane)
            if share is not None and share.routed and not share.window.moving and lane.pending:
                return True
        return False

    def learned(self, outlet: Outlet, workers: Mapping[bytes, int], now: float) -> bool:
        """Take a census to heart; True when a lane is parked by it, or is no longer."""
        changed, schedule, used = False, outlet.schedule, outlet in self._used
        self.wanted.discard(outlet)
        schedule.empty()
        for lane in self._heads.lanes.values():
            count = workers.get(lane.function, 0)
            share = schedule.shares.get(lane)
            if share is None:
                if not count and not used:
                    continue
                share = schedule.share(lane)
            elif not count and share.workers == 0 and lane.parked and lane.pending:
                # as before: most lanes of a host on which thousands stand still
                continue
            was_parked, pending = lane.parked, lane.pending
            moving = share.window.moving and not share.parked
            share.workers = count if count or (pending and not moving) else None
            if count and pending and not moving and not share.window.stalled and outlet.is_open:
                schedule.staffed(share, now)
            self.route(lane, now)
            changed = changed or was_parked != lane.parked
            if count and lane.parked and pending and not outlet.is_open:
                self.wanted.add(outlet)
        return changed
