"""How long a test that draws by chance goes on, and from which seed.

`tox -e fault-long` sets RELAY_LONG: then a test does its long count; without it the short one, which `make test` has
time for. A variable of the test's own (RELAY_<NAME>) says another number. The seed is drawn anew for each run and
printed, and RELAY_SEED repeats a run.
"""

import os
import random


def count(name: str, short: int, long: int) -> int:
    """How often: RELAY_<name> where it is set, else `long` under RELAY_LONG, else `short`."""
    return int(os.environ.get(f"RELAY_{name}") or (long if os.environ.get("RELAY_LONG") else short))


def seeded() -> random.Random:
    """A source of chance whose seed is printed, where a test that failed shows it."""
    seed = int(os.environ.get("RELAY_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"RELAY_SEED={seed}")
    return random.Random(seed)
