"""The rule of a function is [forwarder], or the first policy that matches laid over it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.forwarder.policies import Policies
from relay.settings import Policy
from tests.unit.forwarder.flying import LIMITS

NOTHING = Policy("", (), None, None, None, None, None)
POLICIES = (
    replace(NOTHING, match=("notifications.*", "bill"), max_attempts=9, lifetime=0.0),
    replace(NOTHING, match=("notifications.late",), max_attempts=1, function_window=1),
    replace(NOTHING, match=("[xy]-?",), function_window=2, confirm="accepted", attempt_timeout=5.0),
)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (b"other", {}),
        (b"bill", {"max_attempts": 9, "lifetime": 0.0}),
        (b"billing", {}),
        (b"Bill", {}),
        (b"notifications.info", {"max_attempts": 9, "lifetime": 0.0}),
        (b"notifications.late", {"max_attempts": 9, "lifetime": 0.0}),
        (b"x-1", {"function_window": 2, "confirm": "accepted", "attempt_timeout": 5.0}),
        (b"z-1", {}),
        (b"x-12", {}),
    ],
)
def test_the_first_policy_that_matches_holds(function: bytes, said: dict[str, object]) -> None:
    """Globs match whole names, capitals told apart; what a policy does not say is said by [forwarder]."""
    limits = replace(LIMITS, lifetime=60.0, policies=POLICIES)
    assert Policies(limits).rule(function) == replace(limits, **said)  # type: ignore[arg-type]


def test_without_policies_the_limits_hold() -> None:
    """Nothing is laid over anything."""
    assert Policies(LIMITS).rule(b"any") is LIMITS
