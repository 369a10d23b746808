"""relay-agent: reads the configuration, sets up the log, runs the service, and turns what ends it into an exit code.

Exit codes: 0 stopped, 78 bad configuration, 73 spool or socket cannot be opened, 75 another agent owns the spool,
70 a bug.  Everything but a bug is one line on stderr.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

from relay.agent import logs
from relay.agent.service import Service
from relay.conf.load import load
from relay.errors import RelayError

log = logging.getLogger("relay.agent")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        settings, conf = load(arguments)
        logs.setup(conf)

        async def life() -> int:
            return await Service(settings, lambda: load(arguments)[0]).run()

        return asyncio.run(life())
    except RelayError as error:
        print(f"relay-agent: {error}", file=sys.stderr)
        return error.exit_code
    except Exception:
        log.critical("a bug of relay's ends it", exc_info=True)
        return os.EX_SOFTWARE


if __name__ == "__main__":
    sys.exit(main())
