"""Lends the rig's fixtures to the tests of this directory, and names their one mark."""

import pytest

from tests.rig.fixtures import rig, server_kind, unique_server_kind

__all__ = ["rig", "server_kind", "unique_server_kind"]


def pytest_configure(config: pytest.Config) -> None:
    """The marks that tests here bear."""
    config.addinivalue_line("markers", "slow: waits for a time of the contract's; half a minute or more")
