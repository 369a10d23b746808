"""What the tests of the intake share."""

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the spool is made."""
    return tmp_path / "spool" / "spool.db"
