"""An error that ends a start knows its exit code."""

import pytest

from relay import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RelayError, 70),
        (errors.BadConfiguration, 78),
        (errors.SpoolUnusable, 73),
        (errors.SocketUnusable, 73),
        (errors.SpoolOwned, 75),
    ],
)
def test_exit_codes_are_those_of_sysexits(error: type[errors.RelayError], code: int) -> None:
    """A service manager reads the exit code: 78 configuration, 73 spool or socket, 75 owned, 70 a bug."""
    assert error("why").exit_code == code
