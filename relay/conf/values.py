"""How one value is written in a configuration file, for the kinds oslo.config does not bring along.

What it is: option types. Each is called with the text of a value and returns what `relay.settings` holds.

Promises: durations are floats in seconds, sizes integers in bytes, paths absolute; a ValueError names the text it
could not take and what would be right. A default is written as an operator would write it (`15m`), and goes through
the same parser.

Never does: look at the host (whether a path, a group or a server exists), nor at another option.

When it fails: ValueError; oslo.config carries it to whoever reads the option.
"""

import contextlib
import ipaddress
import re
from pathlib import Path
from typing import Any

from oslo_config import types

from relay.settings import Server

DEFAULT_PORT = 4730
# sun_path holds 108 bytes, the last of them NUL.
MAX_SOCKET_PATH = 107

_DURATION_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SERVER = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^\s:\[\]/@]+))(?::(?P<port>\d{1,5}))?")


class _Kind(types.ConfigType):
    """What the types below share: two of one class and one range are equal, and a default is text."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # as oslo.config's own types: compared, never looked up

    def __repr__(self) -> str:
        return self.type_name

    def _formatter(self, value: Any) -> str:
        return str(value)


class Duration(_Kind):
    """Seconds: a plain number, or one with a suffix of ms, s, m, h, d."""

    LONGEST = 3650 * 86400.0

    def __init__(self, least: str = "0") -> None:
        super().__init__("duration")
        self.least = least

    def __call__(self, value: str) -> float:
        seconds = self._parse(value)
        if seconds < self._parse(self.least):
            raise ValueError(f"{value!r} is less than {self.least}")
        if seconds > self.LONGEST:
            raise ValueError(f"{value!r} is more than ten years")
        return seconds

    def _parse(self, text: str) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(\w*)", text.strip(), re.ASCII)
        if match is None or match[2] not in _DURATION_UNITS:
            raise ValueError(f"{text!r} is not a duration: a number, and a suffix of ms, s, m, h, d (none: seconds)")
        return float(match[1]) * _DURATION_UNITS[match[2]]


class Size(_Kind):
    """Bytes: a whole number, plain or with a suffix of KiB, MiB, GiB."""

    LARGEST = 2**62  # what SQLite's integers hold, with room to add

    def __init__(self, least: str = "0", most: str | None = None) -> None:
        super().__init__("size")
        self.least = least
        self.most = most

    def __call__(self, value: str) -> int:
        size = self._parse(value)
        if size < self._parse(self.least):
            raise ValueError(f"{value!r} is less than {self.least}")
        if size > (self._parse(self.most) if self.most else self.LARGEST):
            raise ValueError(f"{value!r} is more than {self.most or self.LARGEST}")
        return size

    def _parse(self, text: str) -> int:
        match = re.fullmatch(r"(\d{1,30})\s*(\w*)", text.strip(), re.ASCII)
        if match is None or match[2] not in _SIZE_UNITS:
            raise ValueError(f"{text!r} is not a size: a whole number, and a suffix of KiB, MiB, GiB (none: bytes)")
        return int(match[1]) * _SIZE_UNITS[match[2]]


class Mode(_Kind):
    """Permission bits in octal: 0660."""

    def __init__(self) -> None:
        super().__init__("octal mode")

    def __call__(self, value: str) -> int:
        if not re.fullmatch(r"(?:0o)?0?[0-7]{3}", value.strip()):
            raise ValueError(f"{value!r} is not an octal mode such as 0660")
        return int(value.strip(), 8)


class AbsolutePath(_Kind):
    """The path of a file, from the root: a daemon's working directory is nobody's business."""

    def __init__(self, longest: int | None = None) -> None:
        super().__init__("absolute path")
        self.longest = longest

    def __call__(self, value: str) -> Path:
        if not value.startswith("/") or value.endswith("/"):
            raise ValueError(f"{value!r} is not the absolute path of a file")
        if self.longest and len(value.encode()) > self.longest:
            raise ValueError(f"{value!r} is longer than the {self.longest} bytes a unix socket's path may have")
        return Path(value)


class Servers(_Kind):
    """Job servers, comma-separated: host:port or [v6]:port; without a port Gearman's own."""

    def __init__(self) -> None:
        super().__init__("list of host:port")

    def __call__(self, value: str) -> tuple[Server, ...]:
        servers = tuple(self._server(part) for part in map(str.strip, value.split(",")) if part)
        if not servers:
            raise ValueError("at least one server is needed, as host:port")
        for server in servers:
            if servers.count(server) > 1:
                raise ValueError(f"{server} is named twice")
        return servers

    def _server(self, text: str) -> Server:
        match = _SERVER.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a server: host:port, or [v6]:port")
        port = int(match["port"] or DEFAULT_PORT)
        if not 1 <= port <= 65535:
            raise ValueError(f"{text!r} has no port between 1 and 65535")
        if match["v6"] is not None:
            return Server(str(ipaddress.IPv6Address(match["v6"])), port)
        return Server(match["host"], port)


class Names(_Kind):
    """Names that groups are made of, comma-separated, in lower case; empty for none."""

    def __init__(self) -> None:
        super().__init__("list of names")

    def __call__(self, value: str) -> tuple[str, ...]:
        names = tuple(part for part in map(str.strip, value.split(",")) if part)
        for name in names:
            if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
                raise ValueError(f"{name!r} is not a name: lower-case letters, digits, _ and -")
            if names.count(name) > 1:
                raise ValueError(f"{name} is named twice")
        return names


class Globs(_Kind):
    """Patterns of functions, comma-separated: * for anything, ? for one character, [ab] for one of these."""

    def __init__(self) -> None:
        super().__init__("list of globs")

    def __call__(self, value: str) -> tuple[str, ...]:
        globs = tuple(part for part in map(str.strip, value.split(",")) if part)
        if not globs:
            raise ValueError("at least one function is needed, or a pattern such as notifications.*")
        return globs


class Address(_Kind):
    """Where to listen: host:port or [v6]:port; empty for nowhere."""

    def __init__(self, name: str = "host:port") -> None:
        super().__init__(name)

    def __call__(self, value: str) -> Server | None:
        if not value.strip():
            return None
        match = _SERVER.fullmatch(value.strip())
        if match is None or match["port"] is None or not 1 <= int(match["port"]) <= 65535:
            raise ValueError(f"{value!r} is not host:port, or [v6]:port")
        return Server(match["v6"] or match["host"], int(match["port"]))


class Loopback(Address):
    """An address of this host's loopback as host:port or [v6]:port; empty for none."""

    def __init__(self) -> None:
        super().__init__("host:port on loopback")

    def __call__(self, value: str) -> Server | None:
        where = super().__call__(value)
        if where is None or where.host == "localhost":
            return where
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(where.host).is_loopback:
                return where
        raise ValueError(f"{value!r} is not on loopback: casts are taken from this host only")
