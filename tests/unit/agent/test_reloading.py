"""Which options need a restart is said by their names."""

from dataclasses import replace
from pathlib import Path

from relay.agent.reloading import needing_restart
from relay.conf.load import load


def test_the_options_are_named_and_no_others() -> None:
    """Those of intake and control, and the spool's path; what changes while running is not among them."""
    running, _ = load([])
    assert needing_restart(running, running) == []
    new = replace(
        running,
        intake=replace(running.intake, max_connections=7, tcp_listen=None),
        control=replace(running.control, socket=Path("/elsewhere")),
        spool=replace(running.spool, path=Path("/there"), max_casts=9, keep_done=60.0),
        forwarder=replace(running.forwarder, window=7),
    )
    assert needing_restart(running, new) == ["[intake] max_connections", "[control] socket", "[spool] path"]
