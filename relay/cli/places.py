"""Where the agent's sockets and its spool are, from the configuration file and as cheaply as that can be
known.

Reading the options in full costs four times a bare start of Python.  So the file is cut up by oslo.config's
own parser, and only where a value refers to others (`$`) everything is loaded as the agent loads it.  The
three defaults stand here a second time for the same reason; a test holds them to `relay.conf.options`.

Never does: check a configuration; that is the agent's.  When it fails: Failed, one line that names the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oslo_config import iniparser

from relay.cli.exits import Failed, NotPermitted

DEFAULT_FILE = Path("/etc/relay/relay.conf")
#: (group, option) -> its default
DEFAULTS = {
    ("intake", "socket"): "/run/relay/relay.sock",
    ("spool", "path"): "/var/lib/relay/spool.db",
    ("control", "socket"): "/run/relay/control.sock",
    ("upstream", "servers"): "127.0.0.1:4730",
}


class Places:
    """The paths, each looked up when it is asked for."""

    def __init__(self, files: Sequence[str], control: str | None = None) -> None:
        """`files` are the configuration files given, the later over the earlier; `control` overrides the socket."""
        self._files = [Path(file) for file in files]
        self._control = control
        self._values: dict[tuple[str, str], str] | None = None

    @property
    def control(self) -> Path:
        """The socket of the operator's door."""
        return Path(self._control) if self._control else self._find("control", "socket")

    @property
    def intake(self) -> Path:
        """The socket for callers."""
        return self._find("intake", "socket")

    @property
    def spool(self) -> Path:
        """The database."""
        return self._find("spool", "path")

    @property
    def servers(self) -> list[str]:
        """The job servers, as host:port."""
        if self._values is None:
            self._values = self._read()
        text = self._values["upstream", "servers"]
        if "$" in text:
            return [str(server) for server in self._load("upstream", "servers")]
        return [server.strip() for server in text.replace("\n", ",").split(",") if server.strip()]

    def _find(self, group: str, option: str) -> Path:
        if self._values is None:
            self._values = self._read()
        value = self._values[group, option]
        found: Path = self._load(group, option) if "$" in value else Path(value)
        return found

    def _read(self) -> dict[tuple[str, str], str]:
        reader = _Reader()
        for file in self._files or [DEFAULT_FILE]:
            try:
                with file.open(encoding="utf-8") as lines:
                    reader.parse(lines)
            except FileNotFoundError:
                if self._files:
                    raise Failed(f"there is no configuration file {file}") from None
            except PermissionError:
                raise NotPermitted(f"{file}: this user may not read the configuration") from None
            except (OSError, UnicodeDecodeError, iniparser.ParseError) as error:
                raise Failed(f"{file}: {error}") from None
        return DEFAULTS | reader.found

    def _load(self, group: str, option: str) -> Any:
        """As the agent reads it; slow, and rarely needed."""
        from relay.conf.load import load
        from relay.errors import BadConfiguration

        arguments = [argument for file in self._files for argument in ("--config-file", str(file))]
        try:
            settings, _ = load(arguments)
        except BadConfiguration as error:
            raise Failed(str(error)) from None
        return getattr(getattr(settings, group), option)


class _Reader(iniparser.BaseParser):
    """Keeps the options that DEFAULTS names, as oslo.config would: the last one wins, in a group of any case."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[tuple[str, str], str] = {}
        self._group = ""

    def new_section(self, section: str) -> None:
        self._group = section.lower()

    def assignment(self, key: str, value: list[str]) -> None:
        if (self._group, key) in DEFAULTS:
            self.found[self._group, key] = "\n".join(value).strip()

    def parse(self, lineiter: object) -> None:
        self._group = ""
        self.lineno = 0
        super().parse(lineiter)  # type: ignore[arg-type]  # a text file is an iterable of lines
