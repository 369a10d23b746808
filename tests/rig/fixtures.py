"""The fixtures of the functional and the fault tests: a rig, and the kinds of job servers a test runs against."""

from collections.abc import Iterator

import pytest

from .rig import Rig
from .servers import server_kinds


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A stage that is cleared when the test ends."""
    with Rig() as stage:
        yield stage


def _kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


#: each kind of job server in turn
server_kind = pytest.fixture(params=sorted(server_kinds, reverse=True), name="server_kind")(_kind)
#: each kind that shows workers the unique of a job, for tests that look at it, or that are not about the server
unique_server_kind = pytest.fixture(
    params=sorted((name for name, kind in server_kinds.items() if kind.shows_uniques), reverse=True),
    name="unique_server_kind",
)(_kind)
