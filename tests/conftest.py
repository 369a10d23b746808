"""What every test runs under: loud skips; hypothesis without a stopwatch, in CI with the same examples each time."""

import os

import hypothesis
import pytest

from tests import skips
from tests.rig import counts

# How long one example takes is the machine's business, and CI's is slow.
hypothesis.settings.register_profile("relay", deadline=None, derandomize=counts.fixed())
hypothesis.settings.load_profile("relay")


def pytest_configure(config: pytest.Config) -> None:
    """Add the plugin that makes skips loud."""
    allowed = skips.allowed_reasons(skips.ALLOWED.read_text())
    config.pluginmanager.register(skips.Skips(allowed, skips.in_ci(os.environ)), "relay-skips")
