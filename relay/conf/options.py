"""Every option relay has, as oslo.config declares it: name, kind, default, help.

What it is: tables. The group's name and the option's are those of `relay.settings`; the defaults stand here and
nowhere else.

Promises: an option that is here has an effect; the sample configuration is generated from here and cannot drift.
No default depends on the host it is read on.

Never does: read a file or keep a value; that is `relay.conf.load`.

When it fails: it cannot; oslo.config raises at import if two options share a name.
"""

from oslo_config import cfg
from oslo_log import log

from relay.conf.values import (
    MAX_SOCKET_PATH,
    AbsolutePath,
    Address,
    Duration,
    Globs,
    Loopback,
    Mode,
    Names,
    Servers,
    Size,
)

DEFAULT_LOG_LEVELS = [
    "gear=WARN",
    "asyncio=WARN",
    "stevedore=WARN",
    "oslo_config=WARN",
]

_SOCKET_MODE_HELP = "Permissions of the socket, in octal: whoever may write to it may connect."
_SOCKET_GROUP_HELP = "Group the socket is given to; unset, it keeps the agent's own."

INTAKE = [
    cfg.Opt(
        "socket",
        type=AbsolutePath(MAX_SOCKET_PATH),
        default="/run/relay/relay.sock",
        help="Unix socket on which callers hand over casts, in the Gearman protocol.",
    ),
    cfg.Opt("socket_mode", type=Mode(), default="0660", help=_SOCKET_MODE_HELP),
    cfg.StrOpt("socket_group", help=_SOCKET_GROUP_HELP),
    cfg.Opt(
        "max_payload",
        type=Size(least="1", most="63MiB"),
        default="16MiB",
        help="Largest payload of one cast, at most 63MiB; a larger one is refused with payload_too_large.",
    ),
    cfg.IntOpt(
        "max_connections",
        min=1,
        max=1_000_000,
        default=1024,
        help="Connections of callers open at a time; one more is told too_many_connections and closed.",
    ),
    cfg.Opt(
        "tcp_listen",
        type=Loopback(),
        default="",
        help="host:port on loopback on which callers are heard too, for clients that cannot speak to a unix socket; "
        "whoever can open a connection on this host may then cast, and has no uid. Empty: off.",
    ),
]

SPOOL = [
    cfg.Opt(
        "path",
        type=AbsolutePath(),
        default="/var/lib/relay/spool.db",
        help="The SQLite database that keeps the casts. Its directory is made with mode 0700 if it is missing, and "
        "refused if others may write to it; files of the same name with a suffix stand beside it.",
    ),
    cfg.IntOpt(
        "max_casts",
        min=0,
        max=2**62,
        default=0,
        help="Casts the spool holds at most; more are refused with spool_full. 0: no limit.",
    ),
    cfg.Opt(
        "max_bytes",
        type=Size(),
        default="0",
        help="Bytes the spool holds at most, of payloads or of its file (less 4MiB for what an empty one needs); more "
        "are refused with spool_full. 0: no limit.",
    ),
    cfg.Opt(
        "min_free",
        type=Size(),
        default="256MiB",
        help="Free disk to keep: while the spool's file system has less, new casts are refused with disk_full.",
    ),
    cfg.Opt(
        "keep_dead",
        type=Duration(),
        default="30d",
        help="How long a dead cast is kept before it is purged, and counted as purged. 0 keeps it for ever.",
    ),
    cfg.Opt(
        "keep_done",
        type=Duration(),
        default="0",
        help="How long relay-cli show can tell of a cast that is done: when it was accepted, its attempts, and where "
        "and when it was done, without its payload. It costs one more row a cast on disk. 0: not at all.",
    ),
    cfg.IntOpt(
        "keep_done_max",
        min=1,
        max=1_000_000,
        default=100_000,
        help="Casts that are done of which that is kept at most; the oldest go first.",
    ),
]

FORWARDER = [
    cfg.IntOpt(
        "window",
        min=1,
        max=1_000_000,
        default=1000,
        help="Casts in flight at one upstream at most. What is there of functions whose workers have fallen silent"
        " counts apart: it must not keep others from being sent.",
    ),
    cfg.Opt(
        "window_bytes",
        type=Size(least="1"),
        default="64MiB",
        help="Bytes of payload in flight at one upstream at most.",
    ),
    cfg.IntOpt(
        "function_window",
        min=1,
        max=1_000_000,
        default=500,
        help="Casts of one function in flight at most; never more than window.",
    ),
    cfg.Opt(
        "function_window_bytes",
        type=Size(least="1"),
        default="8MiB",
        help="Bytes of one function in flight at most, never more than window_bytes; one cast always fits.",
    ),
    cfg.IntOpt(
        "max_attempts",
        min=1,
        max=1_000_000,
        default=50,
        help="Failures that a worker reports after which a cast is dead; trouble of a server or of the network does "
        "not count.",
    ),
    cfg.Opt(
        "backoff_initial",
        type=Duration(least="1ms"),
        default="1s",
        help="Longest wait after a cast's first failure; it doubles with each one more.",
    ),
    cfg.Opt(
        "backoff_max",
        type=Duration(least="1ms"),
        default="15m",
        help="Longest wait after any failure.",
    ),
    cfg.StrOpt(
        "rotation",
        choices=[
            ("sticky", "one upstream is in use until it fails, a host's own first; a function's casts stay in order"),
            ("round_robin", "casts are dealt out to all upstreams that are well"),
        ],
        default="sticky",
        help="How the upstreams are used.",
    ),
    cfg.StrOpt(
        "confirm",
        choices=["completed", "accepted"],
        default="completed",
        help="When a cast is done: once a worker has finished it, or once a job server has accepted it as a background "
        "job. With accepted it is the job server's from then on: relay hears neither of a worker's failure nor of a "
        "job that the server loses.",
    ),
    cfg.Opt(
        "lifetime",
        type=Duration(),
        default="0",
        help="A cast that is not done after so long is dead, with the reason expired; its time runs from when it was "
        "accepted, or from the moment its caller named, and not while it is held. 0: never.",
    ),
    cfg.Opt(
        "attempt_timeout",
        type=Duration(),
        default="0",
        help="An attempt without a verdict after so long has failed, and counts as a failure; the worker may still "
        "finish it. 0: never.",
    ),
    cfg.Opt(
        "policies",
        type=Names(),
        default="",
        help="Names of groups [policy_NAME], in order. Each has match, comma-separated functions or patterns of them, "
        "and any of the options of this group that are to be others for these functions: confirm, lifetime, "
        "max_attempts, attempt_timeout, function_window. The first policy that matches holds.",
    ),
]

#: what a group [policy_NAME] may have
POLICY = [
    cfg.Opt("match", type=Globs(), help="Functions, or patterns of them, comma-separated."),
    cfg.StrOpt("confirm", choices=["completed", "accepted"], help="In place of [forwarder] confirm."),
    cfg.Opt("lifetime", type=Duration(), help="In place of [forwarder] lifetime."),
    cfg.Opt("attempt_timeout", type=Duration(), help="In place of [forwarder] attempt_timeout."),
    cfg.IntOpt("max_attempts", min=1, max=1_000_000, help="In place of [forwarder] max_attempts."),
    cfg.IntOpt("function_window", min=1, max=1_000_000, help="In place of [forwarder] function_window."),
]

UPSTREAM = [
    cfg.Opt(
        "servers",
        type=Servers(),
        default="127.0.0.1:4730",
        help="The Gearman job servers, comma-separated: host:port, or [v6]:port.",
    ),
    cfg.Opt(
        "connect_timeout",
        type=Duration(least="1ms"),
        default="5s",
        help="Longest wait for a connection to a job server.",
    ),
    cfg.Opt(
        "heartbeat_interval",
        type=Duration(least="1ms"),
        default="5s",
        help="How often a job server is asked for a sign of life.",
    ),
    cfg.Opt(
        "heartbeat_timeout",
        type=Duration(least="1ms"),
        default="30s",
        help="A job server that makes no progress for so long is left: no byte came, and none that waits was taken. "
        "Longer than heartbeat_interval.",
    ),
]

CONTROL = [
    cfg.Opt(
        "socket",
        type=AbsolutePath(MAX_SOCKET_PATH),
        default="/run/relay/control.sock",
        help="Unix socket of the operator's door, which relay-cli speaks to.",
    ),
    cfg.Opt("socket_mode", type=Mode(), default="0660", help=_SOCKET_MODE_HELP),
    cfg.StrOpt("socket_group", help=_SOCKET_GROUP_HELP),
    cfg.Opt(
        "metrics_listen",
        type=Address(),
        default="",
        help="host:port of a read-only HTTP listener: /metrics for Prometheus, /health for orchestrators. Whoever can "
        "connect there may read them: names of functions and job servers, numbers, errors. Empty: off.",
    ),
]

AGENT = [
    cfg.Opt(
        "stop_timeout",
        type=Duration(),
        default="10s",
        help="How long a stop waits at most for what is in flight in functions that are completing; what is not done "
        "then stays in the spool.",
    ),
]

GROUPS: dict[str, list[cfg.Opt]] = {
    "intake": INTAKE,
    "spool": SPOOL,
    "forwarder": FORWARDER,
    "upstream": UPSTREAM,
    "control": CONTROL,
    "agent": AGENT,
}

_TITLES = {
    "intake": "the door for callers",
    "spool": "the casts on disk, and their limits",
    "forwarder": "what may be in flight, and what a failure costs",
    "upstream": "the job servers",
    "control": "the operator's door",
    "agent": "the process",
}


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """All groups with their options, in the manner of oslo.config's entry point."""
    return [(cfg.OptGroup(name, title=_TITLES[name]), opts) for name, opts in GROUPS.items()]


def set_log_defaults() -> None:
    """Put relay's log levels in the place of oslo.log's, which speak of libraries that relay does not use."""
    log.set_defaults(default_log_levels=DEFAULT_LOG_LEVELS)
