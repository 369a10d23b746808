"""relay-agent: reads the configuration, sets up the log, runs the service, and turns what ends it into an exit code.

Exit codes: 0 stopped, 78 bad configuration, 73 spool or socket cannot be opened, 75 another agent owns the spool,
70 a bug.  Everything but a bug is one line on stderr.

A service that ends because its spool is broken is followed by another one, in this process, which rebuilds the spool
and goes on; sockets of the service manager's are handed from one to the next.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

from relay.agent import activation, logs
from relay.agent.service import Service
from relay.conf.load import load
from relay.errors import RelayError
from relay.settings import Settings
from relay.spool.opening import Broken

log = logging.getLogger("relay.agent")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        settings, conf = load(arguments)
        logs.setup(conf)

        sockets = activation.take(os.environ, os.getpid())

        async def life(settings: Settings, broken: Broken | None) -> tuple[int, Settings, Broken | None]:
            own = {path: sock.dup() for path, sock in sockets.items()}
            service = Service(settings, lambda: load(arguments)[0], own, broken)
            return await service.run(), service.settings, service.broken

        code, settings, broken = asyncio.run(life(settings, None))
        while broken is not None and code == os.EX_OK:
            code, settings, broken = asyncio.run(life(settings, broken))
        return code
    except RelayError as error:
        print(f"relay-agent: {error}", file=sys.stderr)
        return error.exit_code
    except Exception:
        log.critical("a bug of relay's ends it", exc_info=True)
        return os.EX_SOFTWARE


if __name__ == "__main__":
    sys.exit(main())
