"""How many callers have room under a limit of open files, and how that limit is raised."""

import json
import subprocess
import sys

import pytest

from relay.agent.descriptors import KEPT, fitting

MAKE_ROOM = """
import json, resource, sys
from relay.agent.descriptors import make_room

resource.setrlimit(resource.RLIMIT_NOFILE, tuple(json.loads(sys.argv[1])))
print(json.dumps([make_room(int(sys.argv[2])), resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


@pytest.mark.parametrize(
    ("callers", "limit", "fit"),
    [(1000, 1000 + KEPT, 1000), (1000, 999 + KEPT, 999), (1000, 100, 50), (10, 100, 10), (5, 1, 1)],
)
def test_the_rest_is_for_callers(callers: int, limit: int, fit: int) -> None:
    """All of them where there is room, else what is left beside KEPT, half of a very low limit, and always one."""
    assert fitting(callers, limit) == fit


@pytest.mark.parametrize(
    ("limits", "room", "after"),
    [
        ((50, 1000), 100, (100 + KEPT, 1000)),
        ((500, 1000), 100, (500, 1000)),
        ((50, 300), 150, (300, 300)),
        ((300, 300), 150, (300, 300)),
    ],
)
def test_the_soft_limit_is_raised_to_what_is_wanted(limits: tuple[int, int], room: int, after: tuple[int, int]) -> None:
    """As far as the hard one allows, never lowered, and no further than callers need."""
    callers = 100 if room == 100 else 200
    finished = subprocess.run(
        [sys.executable, "-c", MAKE_ROOM, json.dumps(limits), str(callers)], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == [room, list(after)]
