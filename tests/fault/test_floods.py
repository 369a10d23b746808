"""One user casts all it can: others are accepted meanwhile, behind at most what the flood has unanswered.

There are no quotas by user: a flood is bounded by `[spool] max_casts` and `max_bytes`, which it shares with all.
"""

import itertools

from tests.rig import packets
from tests.rig.packets import submission
from tests.rig.rig import Rig
from tests.rig.wait import until

CONNECTIONS, WINDOW = 4, 1_000
FLOOD = 20_000
ROUNDS = 3
"""How often all that the flood may have unanswered may go before a neighbour: what was read, and two turns more."""


def test_a_flood_leaves_others_their_turn(rig: Rig) -> None:
    """Between a neighbour's cast and its answer few of the flood's are answered, however long the flood goes on."""
    agent = rig.agent({"upstream": {"servers": "127.0.0.1:1"}})
    payloads = (b"flood-%d" % number for number in itertools.count())
    castings = [
        rig.cast_in_background(agent, b"flood", itertools.islice(payloads, FLOOD), window=WINDOW)
        for _ in range(CONNECTIONS)
    ]

    def answered() -> int:
        return sum(len(casting.record.acknowledged) for casting in castings)

    until(answered, "the flood has begun")
    ahead: list[int] = []
    with agent.connect() as neighbour:
        while any(casting.is_alive() for casting in castings):
            before = answered()
            assert neighbour.ask(submission(b"neighbour", b"%d" % len(ahead))).type == packets.JOB_CREATED
            ahead.append(answered() - before)
    print(f"{len(ahead)} casts, at most {max(ahead)} of the flood's before one")
    assert len(ahead) > 10
    assert max(ahead) <= ROUNDS * CONNECTIONS * WINDOW
    assert not any(casting.finish().refused for casting in castings)
