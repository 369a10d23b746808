"""What an agent costs that has nothing to do: the row `idle`.

Its upstreams are connected, and have had casts; then nobody casts for as long as the plan says, at most IDLE_S.  The
processor time is that of all its threads, by the scheduler's own clock: a tick of 10 ms would be most of it.
"""

import time

from bench import costs
from bench.peers import Relay
from bench.plan import Contender, Figures, Load, Plan, Row
from bench.through import chain
from bench.timing import warm

IDLE_S = 60
SETTLE_S = 2  # what its last casts left to be done


def idle(upstreams: int) -> Contender:
    def measure(plan: Plan) -> Figures:
        seconds = min(IDLE_S, plan.long_s)
        with chain(plan, upstreams) as chained:
            before_it = warm("relay", chained.relay.address, Load(), plan)
            chained.retired(before_it)
            pid = chained.relay.process.pid
            time.sleep(min(SETTLE_S, seconds))
            began, ran = time.monotonic(), costs.ran_s(pid)
            time.sleep(seconds)
            part = (costs.ran_s(pid) - ran) / (time.monotonic() - began)
            return {"cpu_percent": part * 100, "rss_mib": costs.of(pid).resident / 2**20, "seconds": seconds}

    return Contender(measure, Relay.worth, quick=upstreams > 1)


ROWS = (
    Row(
        "idle",
        "nothing is cast for a minute; the upstreams are connected",
        {"cpu_percent": "% of a core, less is better", "rss_mib": "resident MiB, less is better"},
        {"one upstream": idle(1), "3 upstreams": idle(3)},
        full=True,
        rounds=1,
    ),
)
