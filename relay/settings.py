"""The settings: every option of relay as a frozen value, one class a group.

What it is: words only. A class is a group of the configuration, a field is an option under its own name. Times are
floats in seconds and sizes are integers in bytes; where 0 means "no limit", the docstring says so.

Promises: an instance never changes; whoever holds one works with one consistent set of values. The values are
sound: `relay.conf.load` made them, checked ranges and how they fit together, or refused to.

Never does: read a file, know oslo.config, or carry a default (the defaults stand in `relay.conf.options`, once).

When it fails: it cannot; it checks nothing.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Server:
    """One job server: a host name or an address, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        """host:port, or [v6]:port: what the configuration, status and the log call it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Intake:
    """The door for callers: the unix socket, its permissions, and what one caller may ask for.

    `socket_mode` is the permission bits; `socket_group` a group's name or None (the agent's own group stays);
    `max_payload` is in bytes; `max_connections` counts open connections; `tcp_listen` is where callers without unix
    sockets connect, on loopback, or None.
    """

    socket: Path
    socket_mode: int
    socket_group: str | None
    max_payload: int
    max_connections: int
    tcp_listen: Server | None


@dataclass(frozen=True, slots=True)
class Spool:
    """The database and its limits: `max_casts` and `max_bytes` (0: no limit), `min_free` bytes of disk kept free.

    Dead casts are purged after `keep_dead` seconds (0: never).  What tells of casts that are done is kept for
    `keep_done` seconds (0: not at all), of the last `keep_done_max` of them.
    """

    path: Path
    max_casts: int
    max_bytes: int
    min_free: int
    keep_dead: float
    keep_done: float
    keep_done_max: int


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for the functions that one of the globs in `match` fits, in place of what [forwarder] says.

    `name` is that of its group, without `policy_`; None where the group says nothing.
    """

    name: str
    match: tuple[str, ...]
    confirm: str | None
    lifetime: float | None
    max_attempts: int | None
    attempt_timeout: float | None
    function_window: int | None


@dataclass(frozen=True, slots=True)
class Forwarder:
    """What may be in flight, and what a failure costs.

    `confirm` is `completed` (a cast is done once a worker has finished it) or `accepted` (once a job server has it);
    `window` casts and `window_bytes` bytes per upstream, `function_window` and `function_window_bytes` per function;
    after `max_attempts` failures a cast is dead; the wait between is at most `backoff_initial` seconds at first and
    never more than `backoff_max`; after `lifetime` seconds a cast is dead, and after `attempt_timeout` an attempt has
    failed (both 0: never).  `rotation` is sticky or round_robin.  `policies` stand in the order in which they are
    looked at.
    """

    window: int
    window_bytes: int
    function_window: int
    function_window_bytes: int
    max_attempts: int
    backoff_initial: float
    backoff_max: float
    rotation: str
    confirm: str
    lifetime: float
    attempt_timeout: float
    policies: tuple[Policy, ...]


@dataclass(frozen=True, slots=True)
class Upstream:
    """The job servers, in the order given, and how long each may be silent; all times in seconds."""

    servers: tuple[Server, ...]
    connect_timeout: float
    heartbeat_interval: float
    heartbeat_timeout: float


@dataclass(frozen=True, slots=True)
class Control:
    """The operator's door: a unix socket; `socket_mode` and `socket_group` as for the intake.

    `metrics_listen` is where metrics and health are served over TCP, to whoever can connect; None: nowhere.
    """

    socket: Path
    socket_mode: int
    socket_group: str | None
    metrics_listen: Server | None = None


@dataclass(frozen=True, slots=True)
class Agent:
    """The process itself: a stop waits at most `stop_timeout` seconds for what is in flight."""

    stop_timeout: float


@dataclass(frozen=True, slots=True)
class Settings:
    """All groups together: what a start, and later a reload, puts in force as a whole."""

    intake: Intake
    spool: Spool
    forwarder: Forwarder
    upstream: Upstream
    control: Control
    agent: Agent
