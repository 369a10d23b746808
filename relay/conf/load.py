"""Reads the configuration: files and command line in, one frozen Settings out, or one line that says why not.

What it is: the only place that asks oslo.config for a value. A reload is a second `load` of the same arguments: it
builds everything anew, so a file that is wrong by now leaves no trace in what is in force. (oslo.config's own
mutate does not roll back, and notices a wrong value at its next read only.)

Promises: every option is read once and checked, alone and against its neighbours; a name that relay does not have,
in a group of relay's, is an error with the nearest name there is, so that a misspelt option never means its default.
Where two options bound each other and only one is given, the default of the other gives way. Nothing comes from the
environment.

The options of oslo.log are parsed here; those that only files have are checked in `relay.agent.logs`.

Never does: log, or touch the sockets, the spool and the servers it reads about.

When it fails: BadConfiguration, one line that names the option; for a wrong command line argparse's usage and exit 2.
"""

import contextlib
import difflib
import grp
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from oslo_config import cfg
from oslo_log import log

import relay
from relay.conf.names import nearest, one_line
from relay.conf.options import GROUPS, list_opts, set_log_defaults
from relay.conf.policies import OPTIONS, PREFIX, policies
from relay.errors import BadConfiguration
from relay.settings import Agent, Control, Forwarder, Intake, Settings, Spool, Upstream

DEFAULT_FILE = Path("/etc/relay/relay.conf")

Values = dict[str, dict[str, Any]]

#: what int() says of a text that is none
_NO_NUMBER = re.compile(r"invalid literal for int\(\) with base 10: (.*)")


class _Pair(NamedTuple):
    """Two options of a group that bound each other, and the ratio a default keeps to the one that was given.

    Where the ratio is not 1, the two must differ: a job server needs time to answer a heartbeat.
    """

    group: str
    lesser: str
    greater: str
    ratio: int


_PAIRS = (
    _Pair("forwarder", "function_window", "window", 1),
    _Pair("forwarder", "function_window_bytes", "window_bytes", 1),
    _Pair("forwarder", "backoff_initial", "backoff_max", 1),
    _Pair("upstream", "heartbeat_interval", "heartbeat_timeout", 2),
)


def load(argv: Sequence[str]) -> tuple[Settings, cfg.ConfigOpts]:
    """The settings that the arguments (without the program's name) lead to, and oslo's view of them for oslo.log."""
    conf = cfg.ConfigOpts()
    set_log_defaults()
    log.register_options(conf)
    for group, opts in list_opts():
        conf.register_group(group)
        conf.register_opts(opts, group)
    try:
        _parse(conf, argv)
        named = _check_names(conf)
    except (cfg.Error, OSError, ValueError) as error:
        raise BadConfiguration(f"configuration: {one_line(error)}") from error
    return _settings(conf, named), conf


def _parse(conf: cfg.ConfigOpts, argv: Sequence[str]) -> None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            conf(
                args=list(argv),
                project="relay",
                prog="relay-agent",
                version=relay.__version__,
                default_config_files=[str(DEFAULT_FILE)] if DEFAULT_FILE.exists() else [],
                default_config_dirs=[],
                use_env=False,
            )
    except SystemExit as end:
        # oslo.config leaves with 1 for a bad value in a file of an option that the command line has too: on a reload
        # that must not end the agent. Any other exit is argparse's: --help, --version, a wrong command line.
        if end.code != 1:
            sys.stderr.write(said.getvalue())
            raise
        raise BadConfiguration(f"configuration: {' '.join(said.getvalue().split())}") from None


def _settings(conf: cfg.ConfigOpts, named: set[str]) -> Settings:
    values = {group: {opt.dest: _read(conf, group, opt.dest) for opt in opts} for group, opts in GROUPS.items()}
    for pair in _PAIRS:
        _fit(conf, values[pair.group], pair)
    _check_sockets(values)
    forwarder = values["forwarder"]
    forwarder["policies"] = policies(conf, forwarder["policies"], named, forwarder["window"], _read)
    return Settings(
        intake=Intake(**values["intake"]),
        spool=Spool(**values["spool"]),
        forwarder=Forwarder(**values["forwarder"]),
        upstream=Upstream(**values["upstream"]),
        control=Control(**values["control"]),
        agent=Agent(**values["agent"]),
    )


def _read(conf: cfg.ConfigOpts, group: str, name: str) -> Any:
    try:
        value = conf[group][name]
    except (cfg.Error, ValueError) as error:
        # oslo.config wraps the reason in the repr of a location; the reason alone is what an operator needs.
        reason = error.__context__ if isinstance(error.__context__, ValueError) else error
        said = _NO_NUMBER.sub(r"\1 is not a whole number", one_line(reason))
        raise BadConfiguration(f"[{group}] {name}: {said}") from error
    if name == "socket_group":
        return _existing_group(group, value) if value else None
    if value is None and name not in ("tcp_listen", "metrics_listen") and not group.startswith(PREFIX):
        raise BadConfiguration(f"[{group}] {name}: a value is missing")
    return value


def _existing_group(group: str, value: str) -> str:
    try:
        grp.getgrnam(value)
    except KeyError:
        raise BadConfiguration(f"[{group}] socket_group: this host has no group {value!r}") from None
    return value


def _fit(conf: cfg.ConfigOpts, of: dict[str, Any], pair: _Pair) -> None:
    lesser, greater = of[pair.lesser], of[pair.greater]
    if lesser < greater or (pair.ratio == 1 and lesser == greater):
        return
    if not _given(conf, pair.group, pair.lesser):
        of[pair.lesser] = greater if pair.ratio == 1 else greater / pair.ratio
    elif not _given(conf, pair.group, pair.greater):
        of[pair.greater] = lesser * pair.ratio
    else:
        rule = "at most" if pair.ratio == 1 else "less than"
        raise BadConfiguration(
            f"[{pair.group}] {pair.lesser}: {lesser:.12g} must be {rule} {pair.greater}, which is {greater:.12g}"
        )


def _given(conf: cfg.ConfigOpts, group: str, name: str) -> bool:
    where = conf.get_location(name, group)
    return where is not None and where.location.is_user_controlled


def _check_sockets(values: Values) -> None:
    if values["intake"]["socket"] == values["control"]["socket"]:
        raise BadConfiguration(f"[control] socket: {values['control']['socket']} is the socket of [intake] already")


def _check_names(conf: cfg.ConfigOpts) -> set[str]:
    """All groups and options are ours, or others' business; the groups of policies there are."""
    found: set[str] = set()
    for path in _files(conf):
        sections: dict[str, dict[str, list[str]]] = {}
        cfg.ConfigParser(str(path), sections).parse()
        for section, names in sections.items():
            _check_section(section, names, path)
        found |= {section.lower() for section in sections if section.lower().startswith(PREFIX)}
    return found


def _files(conf: cfg.ConfigOpts) -> Iterator[Path]:
    yield from map(Path, conf.config_file)
    for directory in conf.config_dir:
        yield from sorted(Path(directory).glob("*.conf"))


def _check_section(section: str, names: dict[str, list[str]], path: Path) -> None:
    group = section if section == "DEFAULT" else section.lower()
    if group in GROUPS:
        _check_options(group, names, [opt.dest for opt in GROUPS[group]], path)
    elif group.startswith(PREFIX):
        _check_options(section, names, OPTIONS, path)
    elif difflib.get_close_matches(group, GROUPS, 1, 0.75):
        # Other groups belong to others (a directory of configuration may be shared), unless they look like ours.
        raise BadConfiguration(f"[{section}] is not a group of relay{nearest(group, list(GROUPS))}; in {path}")


def _check_options(group: str, names: Iterable[str], ours: list[str], path: Path) -> None:
    for name in names:
        if name not in ours:
            raise BadConfiguration(f"[{group}] {name} is not an option of relay{nearest(name, ours)}; in {path}")
