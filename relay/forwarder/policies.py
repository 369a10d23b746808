"""Which rule holds for a function: [forwarder], or the first policy that matches, laid over it.

A rule is a `Forwarder` of settings like any other, so that whoever asks for a lane's window or its attempts need not
know of policies; that of a lane is found once, when the lane is new or the settings are others, and kept with it.
Pure; never fails.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from fnmatch import translate

from relay.settings import Forwarder, Policy

#: what a policy can say in place of [forwarder]
OVERRIDES = tuple(f.name for f in fields(Policy) if f.name not in ("name", "match"))


class Policies:
    """The rules of one configuration."""

    def __init__(self, limits: Forwarder) -> None:
        self._others = limits
        self._rules = [(_matcher(policy), _laid_over(limits, policy)) for policy in limits.policies]

    @property
    def time_attempts(self) -> bool:
        """True where the attempts of any function may take too long."""
        return any(rule.attempt_timeout for rule in (self._others, *(rule for _, rule in self._rules)))

    @property
    def ages(self) -> bool:
        """True where the casts of any function may be too old."""
        return any(rule.lifetime for rule in (self._others, *(rule for _, rule in self._rules)))

    def rule(self, function: bytes) -> Forwarder:
        """What holds for this function."""
        name = function.decode("latin-1")
        return next((rule for matches, rule in self._rules if matches.match(name)), self._others)


def _matcher(policy: Policy) -> re.Pattern[str]:
    """One pattern for all globs of a policy, capitals told apart."""
    return re.compile("|".join(map(translate, policy.match)))


def _laid_over(limits: Forwarder, policy: Policy) -> Forwarder:
    said = {name: value for name in OVERRIDES if (value := getattr(policy, name)) is not None}
    return replace(limits, **said)
