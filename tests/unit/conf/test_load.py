"""The configuration is read as a whole: sound settings, or one line that says what is wrong."""

import grp
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.conf import load as loading
from relay.conf.load import load
from relay.errors import BadConfiguration
from relay.settings import Agent, Control, Forwarder, Intake, Policy, Server, Settings, Spool, Upstream

Write = Callable[[str], list[str]]

DEFAULTS = Settings(
    intake=Intake(Path("/run/relay/relay.sock"), 0o660, None, 16 * 2**20, 1024, None),
    spool=Spool(
        Path("/var/lib/relay/spool.db"),
        max_casts=0,
        max_bytes=0,
        min_free=256 * 2**20,
        keep_dead=30 * 86400.0,
        keep_done=0,
        keep_done_max=100_000,
    ),
    forwarder=Forwarder(1000, 64 * 2**20, 500, 8 * 2**20, 50, 1.0, 900.0, "sticky", "completed", 0.0, 0.0, ()),
    upstream=Upstream((Server("127.0.0.1", 4730),), 5.0, 5.0, 30.0),
    control=Control(Path("/run/relay/control.sock"), 0o660, None),
    agent=Agent(stop_timeout=10.0),
)


@pytest.fixture(autouse=True)
def no_installed_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host that runs relay has a file of its own; tests are not to read it."""
    monkeypatch.setattr(loading, "DEFAULT_FILE", tmp_path / "none.conf")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the configuration file, and returns the arguments that name it."""

    def writing(text: str) -> list[str]:
        path = tmp_path / "relay.conf"
        path.write_text(text)
        return ["--config-file", str(path)]

    return writing


def refusal(arguments: list[str]) -> str:
    """The text of the BadConfiguration the arguments lead to."""
    with pytest.raises(BadConfiguration) as caught:
        load(arguments)
    return str(caught.value)


def test_an_empty_file_gives_the_defaults(write: Write) -> None:
    """The defaults are those that the documentation promises."""
    assert load(write(""))[0] == DEFAULTS
    assert load([])[0] == DEFAULTS


def test_every_option_can_be_set(write: Write) -> None:
    """Each option of each group arrives in the field of its name."""
    group = grp.getgrgid(os.getgid()).gr_name
    text = f"""
[intake]
socket = /tmp/i
socket_mode = 0600
socket_group = {group}
max_payload = 1KiB
max_connections = 7
[spool]
path = /tmp/s
max_casts = 8
max_bytes = 1MiB
min_free = 0
keep_dead = 7d
keep_done = 1h
keep_done_max = 10
[forwarder]
window = 30
window_bytes = 3MiB
function_window = 20
function_window_bytes = 2MiB
max_attempts = 4
backoff_initial = 100ms
backoff_max = 2s
rotation = round_robin
confirm = accepted
lifetime = 1m
attempt_timeout = 5s
policies = billing, rpc
[policy_rpc]
match = *
[policy_billing]
match = notifications.*, bill
max_attempts = 9
function_window = 10
confirm = completed
lifetime = 0
attempt_timeout = 3s
[upstream]
servers = a:1, [::1]:2
connect_timeout = 0.5
heartbeat_interval = 1s
heartbeat_timeout = 1m
[control]
socket = /tmp/c
socket_mode = 0666
socket_group = {group}
[agent]
stop_timeout = 0
"""
    assert load(write(text))[0] == Settings(
        intake=Intake(Path("/tmp/i"), 0o600, group, 1024, 7, None),
        spool=Spool(Path("/tmp/s"), 8, 2**20, 0, 7 * 86400.0, 3600.0, 10),
        forwarder=Forwarder(
            30,
            3 * 2**20,
            20,
            2 * 2**20,
            4,
            0.1,
            2.0,
            "round_robin",
            "accepted",
            60.0,
            5.0,
            (
                Policy("billing", ("notifications.*", "bill"), "completed", 0.0, 9, 3.0, 10),
                Policy("rpc", ("*",), None, None, None, None, None),
            ),
        ),
        upstream=Upstream((Server("a", 1), Server("::1", 2)), 0.5, 1.0, 60.0),
        control=Control(Path("/tmp/c"), 0o666, group),
        agent=Agent(0.0),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[spool]\npath = spool.db", "[spool] path: 'spool.db' is not the absolute path of a file"),
        ("[spool]\nmax_casts = -1", "[spool] max_casts: "),
        ("[spool]\nmax_casts = many", "[spool] max_casts: "),
        ("[spool]\nmax_casts =", "[spool] max_casts: a value is missing"),
        ("[spool]\nmax_bytes =", "[spool] max_bytes: '' is not a size"),
        ("[intake]\nmax_payload = 64MiB", "[intake] max_payload: '64MiB' is more than 63MiB"),
        ("[intake]\nsocket_mode = rw", "[intake] socket_mode: 'rw' is not an octal mode"),
        ("[intake]\nsocket_group = no-such-group", "[intake] socket_group: this host has no group 'no-such-group'"),
        ("[upstream]\nservers = ::1", "[upstream] servers: '::1' is not a server"),
        ("[upstream]\nservers = $nowhere", "[upstream] servers: "),
        ("[forwarder]\npolicies = Bill", "[forwarder] policies: 'Bill' is not a name"),
        ("[forwarder]\npolicies = a, a", "[forwarder] policies: a is named twice"),
        ("[forwarder]\npolicies = bill", "[forwarder] policies: there is no group [policy_bill]"),
        (
            "[forwarder]\npolicies = bill\n[policy_bil]\nmatch = x",
            "[forwarder] policies: there is no group [policy_bill] (did you mean policy_bil?)",
        ),
        ("[policy_bill]\nmatch = x", "[policy_bill] is not named in [forwarder] policies (which is empty)"),
        (
            "[forwarder]\npolicies = bill\n[policy_bill]\nmatch = x\n[policy_bull]\nmatch = y",
            "[policy_bull] is not named in [forwarder] policies (did you mean bill?)",
        ),
        ("[forwarder]\npolicies = bill\n[policy_bill]\nmax_attempts = 3", "[policy_bill] match: a value is missing"),
        ("[forwarder]\npolicies = bill\n[policy_bill]\nmatch = ,", "[policy_bill] match: at least one function"),
        (
            "[forwarder]\npolicies = bill\n[policy_bill]\nmatch = x\nmax_atempts = 3",
            "[policy_bill] max_atempts is not an option of relay (did you mean max_attempts?)",
        ),
        (
            "[forwarder]\npolicies = bill\n[policy_bill]\nmatch = x\nmax_attempts = 0",
            "[policy_bill] max_attempts: ",
        ),
        (
            "[forwarder]\npolicies = bill\n[policy_bill]\nmatch = x\nfunction_window = 1001",
            "[policy_bill] function_window: 1001 must be at most [forwarder] window, which is 1000",
        ),
        ("[agent]\nstop_timeout = soon", "[agent] stop_timeout: 'soon' is not a duration"),
        ("[forwarder]\nmax_attempts = few", "[forwarder] max_attempts: 'few' is not a whole number"),
        ("[forwarder]\nwindow = 0", "[forwarder] window: "),
        (
            "[control]\nsocket = /run/relay/relay.sock",
            "[control] socket: /run/relay/relay.sock is ",
        ),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_option(write: Write, text: str, says: str) -> None:
    """A value that cannot be taken ends the start, with group, option and reason in one line."""
    why = refusal(write(text))
    assert why.startswith(says)
    assert "\n" not in why


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[upstream]\nserver = a", "[upstream] server is not an option of relay (did you mean servers?)"),
        ("[spool]\nmax-casts = 1", "[spool] max-casts is not an option of relay (did you mean max_casts?)"),
        ("[Spool]\nmaxcasts = 1", "[spool] maxcasts is not an option of relay (did you mean max_casts?)"),
        ("[upstream]\ntls_ca_file = x", "[upstream] tls_ca_file is not an option of relay (there are servers, "),
        ("[upstraem]\nservers = a", "[upstraem] is not a group of relay (did you mean upstream?)"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(write: Write, text: str, says: str) -> None:
    """A misspelt or not yet built option never silently means its default."""
    assert refusal(write(text)).startswith(says)


def test_an_unknown_name_is_found_in_a_directory_too(tmp_path: Path) -> None:
    """Files of --config-dir are held to the same names."""
    (tmp_path / "10-more.conf").write_text("[spool]\nmax_cast = 1\n")
    why = refusal(["--config-dir", str(tmp_path)])
    assert "[spool] max_cast is not an option" in why
    assert "10-more.conf" in why


def test_groups_of_others_are_not_ours_to_judge(write: Write) -> None:
    """A group that does not look like one of relay's may stand in a shared file; so may options of oslo.log."""
    assert load(write("[DEFAULT]\ndebug = true\nanything = 1\n[keystone_authtoken]\nservers = x\n"))[0] == DEFAULTS


def test_a_later_file_wins(write: Write, tmp_path: Path) -> None:
    """Of two files, and of files of a directory, the later one's value counts."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "a.conf").write_text("[spool]\nmax_casts = 2\n")
    (tmp_path / "dir" / "b.conf").write_text("[spool]\nmax_casts = 3\n")
    arguments = [*write("[spool]\nmax_casts = 1\n"), "--config-dir", str(tmp_path / "dir")]
    assert load(arguments)[0].spool.max_casts == 3


@pytest.mark.parametrize(
    ("group", "lesser", "greater"),
    [
        ("forwarder", "function_window = 11", "window = 10"),
        ("forwarder", "function_window_bytes = 11", "window_bytes = 10"),
        ("forwarder", "backoff_initial = 11", "backoff_max = 10"),
        ("upstream", "heartbeat_interval = 11", "heartbeat_timeout = 10"),
        ("upstream", "heartbeat_interval = 10", "heartbeat_timeout = 10"),
    ],
)
def test_two_options_that_contradict_are_refused(write: Write, group: str, lesser: str, greater: str) -> None:
    """Both were given and cannot both hold: the line names both."""
    why = refusal(write(f"[{group}]\n{lesser}\n{greater}\n"))
    assert why.startswith(f"[{group}] {lesser.partition(' ')[0]}: ")
    assert greater.partition(" ")[0] in why


@pytest.mark.parametrize("text", ["function_window = 10\nwindow = 10", "backoff_initial = 10\nbackoff_max = 10"])
def test_two_bounds_may_be_equal(write: Write, text: str) -> None:
    """A window of a function may be all of the window, and a backoff may be constant."""
    load(write(f"[forwarder]\n{text}\n"))


@pytest.mark.parametrize(
    ("text", "group", "field", "value"),
    [
        ("[forwarder]\nwindow = 10", "forwarder", "function_window", 10),
        ("[forwarder]\nfunction_window = 2000", "forwarder", "window", 2000),
        ("[forwarder]\nwindow_bytes = 1KiB", "forwarder", "function_window_bytes", 1024),
        ("[forwarder]\nbackoff_max = 500ms", "forwarder", "backoff_initial", 0.5),
        ("[upstream]\nheartbeat_timeout = 2", "upstream", "heartbeat_interval", 1.0),
        ("[upstream]\nheartbeat_interval = 1m", "upstream", "heartbeat_timeout", 120.0),
    ],
)
def test_a_default_gives_way_to_what_was_given(write: Write, text: str, group: str, field: str, value: float) -> None:
    """An operator who sets one option of a pair need not know the default of the other."""
    assert getattr(getattr(load(write(text))[0], group), field) == value


@pytest.mark.parametrize("content", [b"[spool", b"junk\n", b"[spool]\n\xff\xfe = 1\n", b"max_casts = 1\n"])
def test_a_file_that_cannot_be_parsed_is_a_bad_configuration(tmp_path: Path, content: bytes) -> None:
    """Broken syntax and broken text end in one line as well."""
    path = tmp_path / "relay.conf"
    path.write_bytes(content)
    why = refusal(["--config-file", str(path)])
    assert why.startswith("configuration: ")
    assert "\n" not in why


@pytest.mark.parametrize("option", ["--config-file", "--config-dir"])
def test_a_missing_file_is_a_bad_configuration(option: str) -> None:
    """A file that was named must be there."""
    assert "/no/such/place" in refusal([option, "/no/such/place"])


def test_the_installed_file_is_read_where_no_other_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write: Write
) -> None:
    """Without --config-file relay reads its installed file if there is one; with it, only what was named."""
    installed = tmp_path / "installed.conf"
    installed.write_text("[spool]\nmax_casts = 9\n")
    monkeypatch.setattr(loading, "DEFAULT_FILE", installed)
    assert load([])[0].spool.max_casts == 9
    assert load(write(""))[0].spool.max_casts == 0


def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    """A variable that oslo.config would read by default does not move the spool."""
    monkeypatch.setenv("OS_SPOOL__PATH", "/elsewhere/spool.db")
    assert load(write(""))[0] == DEFAULTS


def test_loading_again_sees_the_file_as_it_is_now(write: Write) -> None:
    """A reload is a second load: it sees new values, refuses bad ones, and leaves the first settings as they were."""
    arguments = write("[forwarder]\nwindow = 600\n")
    before, _ = load(arguments)
    write("[forwarder]\nwindow = 700\n")
    assert load(arguments)[0].forwarder.window == 700
    write("[forwarder]\nwindow = none\n")
    assert refusal(arguments).startswith("[forwarder] window: ")
    assert before.forwarder.window == 600


def test_a_bad_log_option_in_a_file_ends_no_process(write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    """oslo.config would exit by itself; on a reload that would be the end of a running agent."""
    assert refusal(write("[DEFAULT]\nuse_json = perhaps\n")).startswith("configuration: argument --use_json: ")
    assert capfd.readouterr().err == ""


def test_a_wrong_command_line_is_explained(capfd: pytest.CaptureFixture[str]) -> None:
    """argparse's usage and exit code 2, as every program's."""
    with pytest.raises(SystemExit) as caught:
        load(["--no-such-option"])
    assert caught.value.code == 2
    assert "usage: relay-agent" in capfd.readouterr().err


def test_the_log_options_of_the_command_line_arrive(write: Write, tmp_path: Path) -> None:
    """oslo.log's own options work on the command line, as packagers' units use them."""
    _, conf = load([*write(""), "--debug", "--log-file", str(tmp_path / "log")])
    assert conf.debug is True
    assert conf.log_file == str(tmp_path / "log")
