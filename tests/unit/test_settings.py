"""The settings are values: equal by content, never changed, and written as an operator writes them."""

import dataclasses

import pytest

from relay import settings


@pytest.mark.parametrize(
    ("server", "text"),
    [
        (settings.Server("gearman-1.example", 4730), "gearman-1.example:4730"),
        (settings.Server("192.0.2.1", 1), "192.0.2.1:1"),
        (settings.Server("2001:db8::1", 4730), "[2001:db8::1]:4730"),
    ],
)
def test_a_server_is_written_as_in_the_configuration(server: settings.Server, text: str) -> None:
    """A server's text is host:port, with brackets around an IPv6 address."""
    assert str(server) == text


def test_a_setting_never_changes() -> None:
    """Assigning to a field of the settings, or one they do not have, raises."""
    agent = settings.Agent(stop_timeout=1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        agent.stop_timeout = 2.0  # type: ignore[misc]
    assert not hasattr(agent, "__dict__")


def test_settings_are_equal_by_content() -> None:
    """Two readings of one configuration compare equal, so that a reload can see what changed."""
    assert settings.Server("a", 1) == settings.Server("a", 1)
    assert settings.Agent(1.0) != settings.Agent(2.0)
