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


@pytest.fixture(params=sorted(server_kinds, reverse=True))
def server_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of job server in turn."""
    kind: str = request.param
    return kind
