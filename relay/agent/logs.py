"""Sets logging up: oslo.log, on stdout unless its options say otherwise.

What it is: one call for main, after the configuration is read and before anything else speaks.

Promises: what is logged afterwards goes where oslo.log's options say (`--log-file`, `use_journal`, `use_json` ...);
without any of them to stdout, which suits systemd and containers; the loggers of the libraries that relay uses keep
quiet below WARN.

Never does: change anything on a reload; a new log level needs a restart.

When it fails: BadConfiguration, when an option of oslo.log is wrong or its file cannot be written.
"""

from oslo_config import cfg
from oslo_log import log

import relay
from relay.errors import BadConfiguration


def setup(conf: cfg.ConfigOpts) -> None:
    """Put the logging options of a loaded configuration in force."""
    try:
        log.setup(conf, "relay", relay.__version__)
    except (cfg.Error, log.LogConfigError, OSError, ValueError, TypeError) as error:
        raise BadConfiguration(f"logging: {' '.join(str(error).split())}") from error
