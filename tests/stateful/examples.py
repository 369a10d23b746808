"""How long the models are driven: a few seconds each, or as many examples as RELAY_EXAMPLES says."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings


def examples(usual: int, steps: int) -> settings:
    """The settings of a machine: `usual` examples of at most `steps` steps each."""
    return settings(
        max_examples=int(os.environ.get("RELAY_EXAMPLES", usual)),
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
