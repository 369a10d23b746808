"""What the tests of the spool share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.spool.writing import Writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """An empty spool; its counts are checked against its tables when the test is over."""
    made = Writer(tmp_path / "spool" / "spool.db")
    yield made
    made.check_counts()
    made.close()
