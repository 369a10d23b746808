"""Reads the groups [policy_NAME] that [forwarder] policies names.

Promises: what is named has a group, and a group has its name there, or an operator would think that a policy holds
which does not; each option is checked like those of [forwarder].

Never does: decide which policy holds for a function; that is the forwarder's.

When it fails: BadConfiguration, one line that names the group.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from oslo_config import cfg

from relay.conf.names import nearest
from relay.conf.options import POLICY
from relay.errors import BadConfiguration
from relay.settings import Policy

PREFIX = "policy_"
OPTIONS = [opt.dest for opt in POLICY]

#: reads one option: (conf, group, name) -> value; raises BadConfiguration
Read = Callable[[cfg.ConfigOpts, str, str], Any]


def policies(
    conf: cfg.ConfigOpts, names: Sequence[str], groups: Collection[str], window: int, read: Read
) -> tuple[Policy, ...]:
    """The policies in the order of `names`; `groups` are those [policy_NAME] that the files have, in lower case."""
    found = sorted(group.removeprefix(PREFIX) for group in groups)
    for name in names:
        if name not in found:
            raise BadConfiguration(f"[forwarder] policies: there is no group [{PREFIX}{name}]{_nearest(name, found)}")
    for name in found:
        if name not in names:
            raise BadConfiguration(
                f"[{PREFIX}{name}] is not named in [forwarder] policies{nearest(name, names) or ' (which is empty)'}"
            )
    return tuple(_policy(conf, name, window, read) for name in names)


def _nearest(name: str, found: Sequence[str]) -> str:
    return nearest(PREFIX + name, [PREFIX + other for other in found])


def _policy(conf: cfg.ConfigOpts, name: str, window: int, read: Read) -> Policy:
    group = PREFIX + name
    conf.register_opts(POLICY, group)
    policy = Policy(name=name, **{option: read(conf, group, option) for option in OPTIONS})
    if not policy.match:
        raise BadConfiguration(f"[{group}] match: a value is missing")
    if policy.function_window is not None and policy.function_window > window:
        raise BadConfiguration(
            f"[{group}] function_window: {policy.function_window} must be at most [forwarder] window, which is {window}"
        )
    return policy
