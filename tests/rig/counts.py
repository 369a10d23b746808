"""How long a test that draws by chance goes on, and from which seed.

`tox -e fault-long` sets RELAY_LONG: then a test does its long count; without it the short one, which `make test` has
time for. A variable of the test's own (RELAY_<NAME>) says another number. The seed is drawn anew for each run and
printed, and RELAY_SEED repeats a run. Only in CI the short form has the same seed each time, one of the test's own: a
change is to be judged by what it changed, and what chance finds is found by whoever lets it draw.
"""

import os
import random
import zlib

from tests import skips


def fixed() -> bool:
    """Whether chance is the same in each run."""
    return skips.in_ci(os.environ) and not os.environ.get("RELAY_LONG")


def count(name: str, short: int, long: int) -> int:
    """How often: RELAY_<name> where it is set, else `long` under RELAY_LONG, else `short`."""
    return int(os.environ.get(f"RELAY_{name}") or (long if os.environ.get("RELAY_LONG") else short))


def seeded() -> random.Random:
    """A source of chance whose seed is printed, where a test that failed shows it."""
    drawn = zlib.crc32(os.environ["PYTEST_CURRENT_TEST"].encode()) if fixed() else random.SystemRandom().getrandbits(32)
    seed = int(os.environ.get("RELAY_SEED") or drawn)
    print(f"RELAY_SEED={seed}")
    return random.Random(seed)
