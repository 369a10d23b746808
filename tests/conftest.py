"""What every test runs under: loud skips; hypothesis without a stopwatch, in CI with the same examples each time.

And relay compiled, as an installation of it is: tests start it a thousand times, and a start that has to compile it
takes half as long again, wherever PYTHONDONTWRITEBYTECODE is set or the checkout is new.
"""

import compileall
import os
import signal
from pathlib import Path

import hypothesis
import pytest

import relay
from tests import skips
from tests.rig import counts

# How long one example takes is the machine's business, and CI's is slow.
hypothesis.settings.register_profile("relay", deadline=None, derandomize=counts.fixed())
hypothesis.settings.load_profile("relay")


def pytest_configure(config: pytest.Config) -> None:
    """Add the plugin that makes skips loud, compile relay, and let what tests start be interrupted."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # a shell has its background jobs ignore it, and they hand that on
        signal.signal(signal.SIGINT, signal.default_int_handler)
    compileall.compile_dir(Path(relay.__file__).parent, quiet=2)
    allowed = skips.allowed_reasons(skips.ALLOWED.read_text())
    config.pluginmanager.register(skips.Skips(allowed, skips.in_ci(os.environ)), "relay-skips")
