"""The options are those of the settings, each with its help."""

import dataclasses

import pytest
from oslo_config import cfg
from oslo_log import log

from relay.conf import options
from relay.settings import Policy, Settings

GROUPS = {field.name: field.type for field in dataclasses.fields(Settings)}
OPTIONS = [(group.name, opt) for group, opts in options.list_opts() for opt in opts]


def test_every_group_of_the_settings_has_options() -> None:
    """Options and settings have the same groups, in the same order."""
    assert [group.name for group, _ in options.list_opts()] == list(GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_options_and_fields_are_the_same(group: str) -> None:
    """A group's options are the fields of its class, by name: none without effect, none without a name."""
    kind = GROUPS[group]
    assert isinstance(kind, type)
    assert {opt.dest for opt in options.GROUPS[group]} == {field.name for field in dataclasses.fields(kind)}


def test_a_policy_has_what_its_class_has() -> None:
    """The options of [policy_NAME] are the fields of a Policy but its name, and but for match those of [forwarder]."""
    names = {opt.dest for opt in options.POLICY}
    assert names == {field.name for field in dataclasses.fields(Policy)} - {"name"}
    assert names - {"match"} <= {opt.dest for opt in options.FORWARDER}
    assert all(opt.help for opt in options.POLICY)


@pytest.mark.parametrize(("group", "opt"), OPTIONS, ids=lambda value: getattr(value, "dest", value))
def test_an_option_has_help(group: str, opt: cfg.Opt) -> None:
    """The help of every option is at least one whole sentence."""
    assert opt.help, f"[{group}] {opt.name}"
    assert opt.help.endswith("."), opt.help


def test_the_log_levels_of_the_sample_are_ours() -> None:
    """After set_log_defaults oslo.log's default levels are relay's, gear's chatter off among them."""
    options.set_log_defaults()
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf([], default_config_files=[])
    assert "gear=WARN" in conf.default_log_levels
