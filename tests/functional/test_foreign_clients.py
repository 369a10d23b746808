"""Clients of Gearman that were not written for relay, each casting over `[intake] tcp_listen` of a real agent: the
`gearman` command, gear's Client, Perl's Gearman::Client, PHP's GearmanClient; gearadmin, which looks; and a shell with
relay-cli, over the unix socket."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from tests.rig.agent import Agent, program
from tests.rig.callers import id_of
from tests.rig.packets import Stream, submission
from tests.rig.rig import Rig
from tests.rig.servers import HOST, free_port
from tests.rig.wait import until

#: seconds in which a tool ends, or a client answers, on a slow machine too
LIMIT_S = 120.0
#: a caller's unique that is also the key that workers see
KEY = "0190a0a0a0a07a0a8a0a0a0a0a0a0a0a"
EACH_BYTE = bytes(range(256))


class Listening(NamedTuple):
    """An agent that listens on TCP, and where."""

    agent: Agent
    port: int

    def await_ready(self, starts: int = 1) -> None:
        """Returns when it says that it is ready, for the so many-th time: the port then accepts too."""
        until(lambda: self.agent.log.count("relay-agent ready") >= starts, "the agent is ready")

    def restart(self) -> None:
        """Stop it and start it again on its port."""
        starts = self.agent.log.count("relay-agent ready")
        assert self.agent.term() == 0
        self.agent.restart()
        self.await_ready(starts + 1)

    def stored(self) -> list[tuple[str, str, int]]:
        """The backlog, all of it greet and from TCP: unique, priority and bytes, oldest first."""
        casts = self.agent.backlog()
        assert {cast["function"] for cast in casts} <= {"greet"}
        assert {cast["uid"] for cast in casts} <= {None}, "who comes over TCP has no uid"
        return [(cast["unique"], cast["priority"], cast["bytes"]) for cast in casts]


def listen(rig: Rig, kind: str = "gearmand") -> Listening:
    """A job server of the kind, without a worker, and an agent in front of it that listens on TCP."""
    rig.serve(kind)
    port = free_port()
    listening = Listening(rig.agent({"intake": {"tcp_listen": f"{HOST}:{port}"}}), port)
    listening.await_ready()
    return listening


def await_executed(rig: Rig, agent: Agent, payloads: Iterable[bytes]) -> None:
    """Start a worker; returns when these payloads, and no others, were executed, each once."""
    rig.work(b"greet")
    agent.await_empty()
    assert sorted(e.payload for e in rig.ledger.tries(b"greet")) == sorted(payloads)


def tool(name: str) -> str:
    """Where a tool of Debian's is; without it the test is skipped."""
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def run(*command: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """A tool, run to its end."""
    return subprocess.run(command, input=stdin, capture_output=True, timeout=LIMIT_S, check=False)


# -- the gearman command -----------------------------------------------------------------------------------------------


def gearman(port: int, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """The gearman command, casting greet in the background."""
    return run(tool("gearman"), "-h", HOST, "-p", str(port), "-b", "-f", "greet", *arguments, stdin=stdin)


def test_the_gearman_command_casts(rig: Rig, unique_server_kind: str) -> None:
    """Payloads from arguments, from a pipe, none, and one a line; three priorities; with its own unique or the user's:
    each is stored as it was meant and executed once, and the command says nothing and exits 0."""
    agent, port = listening = listen(rig, unique_server_kind)
    said = [
        gearman(port, "one", "two"),
        gearman(port, stdin=b"from\na\0pipe " + EACH_BYTE),
        gearman(port, "-s"),
        gearman(port, "-I", "high"),
        gearman(port, "-L", "low"),
        gearman(port, "-N", stdin=b"line 1\nline 2\n"),
        gearman(port, "-u", KEY, "named"),
        gearman(port, "-u", KEY, "not a second time"),
    ]
    assert [(one.returncode, one.stdout, one.stderr) for one in said] == [(0, b"", b"")] * len(said)
    stored = listening.stored()
    priorities = ["normal", "normal", "normal", "normal", "high", "low", "normal", "normal", "normal"]
    assert [priority for _, priority, _ in stored] == priorities
    uniques = [unique for unique, _, _ in stored]
    assert uniques[-1] == KEY
    assert len(set(uniques)) == len(uniques)
    assert all(uniques)
    payloads = [b"one", b"two", b"from\na\0pipe " + EACH_BYTE, b"", b"high", b"low", b"line 1", b"line 2", b"named"]
    await_executed(rig, agent, payloads)
    (named,) = [e for e in rig.ledger.tries() if e.payload == b"named"]
    assert named.key == KEY.encode()


def test_the_gearman_command_casts_many_lines(rig: Rig) -> None:
    """A thousand lines on its standard input are a thousand casts, each executed once."""
    agent, port = listen(rig)
    lines = [b"line-%d" % number for number in range(1000)]
    assert gearman(port, "-N", stdin=b"\n".join(lines) + b"\n").returncode == 0
    assert len(agent.backlog()) == len(lines)
    await_executed(rig, agent, lines)


def test_the_gearman_command_prints_a_refusal_and_exits_0(rig: Rig) -> None:
    """Refused while relay drains, refused in the foreground, nobody there: a line on its standard error says so, and
    the exit status does not; nothing is stored."""
    agent, port = listen(rig)
    foreground = run(tool("gearman"), "-h", HOST, "-p", str(port), "-f", "greet", "never")
    assert (foreground.returncode, b"foreground_not_supported" in foreground.stderr) == (0, True)
    agent.cli("drain", "--no-wait")
    draining = gearman(port, "never")
    assert (draining.returncode, b"draining:This relay is draining" in draining.stderr) == (0, True)
    assert agent.status()["accepted"] == 0
    agent.kill()
    nobody = gearman(port, "never")
    assert (nobody.returncode, b"COULD_NOT_CONNECT" in nobody.stderr) == (0, True)


# -- libraries ---------------------------------------------------------------------------------------------------------
# A caller in each language casts as it is told, line by line: priority, unique (may be empty) and payload in hex, with
# tabs between.  It answers a line for each: the handle, or an exclamation mark and what the library said.

GEAR = r"""
import logging, sys, gear

logging.getLogger("gear").setLevel(logging.CRITICAL)
client = gear.Client()
client.addServer("127.0.0.1", int(sys.argv[1]))
client.waitForServer()
precedences = {"high": gear.PRECEDENCE_HIGH, "normal": gear.PRECEDENCE_NORMAL, "low": gear.PRECEDENCE_LOW}
for line in sys.stdin:
    priority, unique, payload = line[:-1].split("\t")
    job = gear.Job("greet", bytes.fromhex(payload), unique=unique or None)
    try:
        client.submitJob(job, background=True, precedence=precedences[priority], timeout=30)
        print(job.handle.decode(), flush=True)
    except gear.GearmanError as error:
        print(f"! {error}", flush=True)
client.shutdown()
"""

PERL = r"""
use strict; use warnings; use Gearman::Client;
$| = 1;
my $client = Gearman::Client->new(job_servers => ["127.0.0.1:$ARGV[0]"]);
while (my $line = <STDIN>) {
    chomp $line;
    my ($priority, $unique, $payload) = split /\t/, $line, -1;
    my %options = (priority => $priority);
    $options{uniq} = $unique if length $unique;
    my $handle = eval { $client->dispatch_background('greet', pack('H*', $payload), \%options) };
    my $error = $@ || 'undef';
    $error =~ s/\s+/ /g;
    print defined $handle ? ($handle =~ s{^.*//}{}r) . "\n" : "! $error\n";
}
"""

PHP = r"""<?php
$client = new GearmanClient();
$client->addServer('127.0.0.1', (int) $argv[1]);
$methods = ['high' => 'doHighBackground', 'normal' => 'doBackground', 'low' => 'doLowBackground'];
while (($line = fgets(STDIN)) !== false) {
    [$priority, $unique, $payload] = explode("\t", rtrim($line, "\n"));
    $method = $methods[$priority];
    $handle = @$client->$method('greet', hex2bin($payload), $unique === '' ? null : $unique);
    echo $client->returnCode() === GEARMAN_SUCCESS ? "$handle\n" : '! ' . $client->error() . "\n";
}
"""


def python() -> list[str]:
    """How the caller that uses gear is started: the tests install it."""
    return [sys.executable, "-c", GEAR]


def perl(code: str = PERL) -> list[str]:
    """How one in Perl is started."""
    if run(tool("perl"), "-MGearman::Client", "-e", "1").returncode:
        pytest.skip("Gearman::Client for Perl is not installed")
    return [tool("perl"), "-e", code]


def php(code: str = PHP) -> list[str]:
    """How one in PHP is started."""
    if run(tool("php"), "-r", "exit((int) !class_exists('GearmanClient'));").returncode:
        pytest.skip("GearmanClient for PHP is not installed")
    return [tool("php"), "-r", code.removeprefix("<?php"), "--"]


Command = Callable[[], list[str]]
LIBRARIES: dict[str, Command] = {"gear": python, "perl": perl, "php": php}
each_library = pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)


class ForeignCaller:
    """A running caller; it is killed if it does not end in time, and what was asked of it then fails."""

    def __init__(self, command: list[str], port: int) -> None:
        self.process = subprocess.Popen(
            [*command, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.watchdog = threading.Timer(LIMIT_S, self.process.kill)
        self.watchdog.daemon = True
        self.watchdog.start()

    def cast(self, payload: bytes, unique: str = "", priority: str = "normal") -> str:
        """The handle; or an exclamation mark and what the library said."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{priority}\t{unique}\t{payload.hex()}\n")
        answer = self.process.stdout.readline()
        assert answer.endswith("\n"), f"the caller ended, or took too long: {answer!r}"
        return answer[:-1]

    def end(self) -> int:
        """No more casts; its exit status."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(LIMIT_S)


@contextmanager
def calling(command: list[str], port: int) -> Iterator[ForeignCaller]:
    """A caller that casts as long as the block; it exits 0 at the end of a block that went well."""
    caller = ForeignCaller(command, port)
    with caller.process:
        try:
            yield caller
            assert caller.end() == 0
        finally:
            caller.watchdog.cancel()
            caller.process.kill()


PAYLOADS = {
    "text": b"a line of text\n",
    "empty": b"",
    "nuls": b"\0one\0\0two\0",
    "each-byte": EACH_BYTE,
    "100-KiB": EACH_BYTE * 400,
}


@each_library
def test_a_library_casts_and_the_worker_gets_the_payload(rig: Rig, unique_server_kind: str, library: Command) -> None:
    """Each payload byte for byte and once; the handles are those of the casts in the backlog, in their order."""
    agent, port = listen(rig, unique_server_kind)
    # PHP's has no empty payloads: it refuses them before relay hears of it
    payloads = [payload for payload in PAYLOADS.values() if payload or library is not php]
    with calling(library(), port) as caller:
        handles = [caller.cast(payload) for payload in payloads]
    backlog = agent.backlog()
    assert [id_of(handle.encode()) for handle in handles] == [cast["id"] for cast in backlog]
    assert [cast["bytes"] for cast in backlog] == [len(payload) for payload in payloads]
    await_executed(rig, agent, payloads)


@each_library
def test_a_library_gives_priority_and_unique(rig: Rig, library: Command) -> None:
    """Three priorities, and a unique: with it a second cast gets the first one's handle and is not stored, and the
    worker gets it as the key."""
    agent, port = listening = listen(rig)
    with calling(library(), port) as caller:
        for priority in ("high", "normal", "low"):
            caller.cast(priority.encode(), f"of-{priority}", priority)
        handle = caller.cast(b"named", KEY)
        assert caller.cast(b"not a second time", KEY) == handle
    assert listening.stored() == [
        ("of-high", "high", 4),
        ("of-normal", "normal", 6),
        ("of-low", "low", 3),
        (KEY, "normal", 5),
    ]
    await_executed(rig, agent, [b"high", b"normal", b"low", b"named"])
    (named,) = [e for e in rig.ledger.tries() if e.payload == b"named"]
    assert named.key == KEY.encode()


@each_library
def test_a_library_casts_hundreds_in_a_row(rig: Rig, library: Command) -> None:
    """500 casts over one connection, while a worker is at it: each has a handle of its own and is executed once."""
    agent, port = listen(rig)
    payloads = [b"row-%d" % number for number in range(500)]
    rig.work(b"greet")
    with calling(library(), port) as caller:
        handles = {caller.cast(payload) for payload in payloads}
    assert len({id_of(handle.encode()) for handle in handles}) == len(payloads)
    agent.await_empty()
    assert sorted(rig.ledger.done()) == sorted(payloads)


@each_library
def test_a_library_tells_a_refusal_and_casts_on(rig: Rig, library: Command) -> None:
    """While relay drains no library takes a cast for stored; with the drain over the same caller casts again."""
    agent, port = listen(rig)
    with calling(library(), port) as caller:
        agent.cli("drain", "--no-wait")
        refused = caller.cast(b"never")
        assert refused.startswith("! "), refused
        # gear logs the code instead of raising it
        assert "draining" in refused or library is python
        assert agent.cli("resume").returncode == 0
        id_of(caller.cast(b"after").encode())
    await_executed(rig, agent, [b"after"])


@each_library
def test_a_new_caller_makes_good_what_a_restart_of_the_agent_broke(rig: Rig, library: Command) -> None:
    """A caller that is older than the agent may fail for a while, and says so: each handle that it prints is a cast in
    the spool. A new caller casts at once, and what failed, cast again with its unique, is there once."""
    agent, port = listening = listen(rig)
    uniques = ["before", "after-1", "after-2", "after-3"]
    with calling(library(), port) as caller:
        answers = {"before": caller.cast(b"before", "before")}
        listening.restart()
        answers |= {unique: caller.cast(unique.encode(), unique) for unique in uniques[1:]}
    acknowledged = {unique: answer for unique, answer in answers.items() if not answer.startswith("! ")}
    stored = {cast["unique"]: cast["id"] for cast in agent.backlog()}
    assert {unique: id_of(answer.encode()) for unique, answer in acknowledged.items()} == stored
    with calling(library(), port) as caller:
        for unique in uniques:
            id_of(caller.cast(unique.encode(), unique).encode())
    assert sorted(unique for unique, _, _ in listening.stored()) == sorted(uniques)
    await_executed(rig, agent, [unique.encode() for unique in uniques])


# -- what became of a cast ---------------------------------------------------------------------------------------------

STATUS_PERL = r"""
use strict; use warnings; use Gearman::Client;
my $client = Gearman::Client->new(job_servers => ["127.0.0.1:$ARGV[0]"]);
my $status = $client->get_status("127.0.0.1:$ARGV[0]//$ARGV[1]");
print $status->known ? 1 : 0, " ", $status->running ? 1 : 0, "\n";
"""

STATUS_PHP = r"""<?php
$client = new GearmanClient();
$client->addServer('127.0.0.1', (int) $argv[1]);
[$known, $running] = $client->jobStatus($argv[2]);
echo (int) $known, ' ', (int) $running, "\n";
"""


@pytest.mark.parametrize(("library", "code"), [(perl, STATUS_PERL), (php, STATUS_PHP)], ids=["perl", "php"])
def test_a_library_asks_what_became_of_a_cast(rig: Rig, library: Callable[[str], list[str]], code: str) -> None:
    """By its handle a cast is known and running while a worker has it, and neither once it is done."""
    agent, port = listen(rig)
    (worker,) = rig.work(b"greet")
    worker.hold()
    with Stream((HOST, port)) as stream:
        handle = stream.ask(submission(b"greet", b"x")).body.decode()
    assert worker.holding.wait(LIMIT_S)

    def status() -> tuple[int, bytes, bytes]:
        said = run(*library(code), str(port), handle)
        return said.returncode, said.stdout, said.stderr

    assert status() == (0, b"1 1\n", b"")
    worker.let_go()
    agent.await_empty()
    assert status() == (0, b"0 0\n", b"")


# -- gearadmin ---------------------------------------------------------------------------------------------------------


def gearadmin(port: int, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """The tool for operators of job servers."""
    return run(tool("gearadmin"), "-h", HOST, "-p", str(port), *arguments)


def test_gearadmin_is_answered(rig: Rig) -> None:
    """It shows relay's version, what waits in all and by priority, and that no workers are connected; and exits 0."""
    agent, port = listen(rig)
    with Stream((HOST, port)) as stream:
        for priority in ("high", "normal", "normal", "low", "low", "low"):
            stream.ask(submission(b"greet", b"x", priority=priority))
    version = agent.status()["version"].encode()
    for option, answer in {"--server-version": version + b"\n", "--workers": b".\n"}.items():
        said = gearadmin(port, option)
        assert (said.returncode, said.stdout, said.stderr) == (0, answer, b"")
    said = gearadmin(port, "--status")
    assert (said.returncode, said.stderr) == (0, b"")
    (function, total, *_), end = (line.split(b"\t") for line in said.stdout.splitlines())
    assert (function, total, end) == (b"greet", b"6", [b"."])
    said = gearadmin(port, "--priority-status")
    assert (said.returncode, said.stderr) == (0, b"")
    (function, *counts), end = (line.split(b"\t") for line in said.stdout.splitlines())
    assert (function, counts, end) == (b"greet", [b"1", b"2", b"3", b"0"], [b"."])


REFUSED = ["--show-jobs", "--show-unique-jobs", "--getpid", "--server-verbose", "--create-function", "--drop-function"]


def test_gearadmin_is_refused_and_changes_nothing(rig: Rig) -> None:
    """What relay does not answer it refuses; the tool ends and says so, and no cast goes away."""
    agent, port = listen(rig)
    with Stream((HOST, port)) as stream:
        handle = stream.ask(submission(b"greet", b"x")).body.decode()
    takes_function = {"--create-function", "--drop-function"}
    asked = [[option, "greet"] if option in takes_function else [option] for option in REFUSED]
    for arguments in [*asked, ["--cancel-job", handle]]:
        said = gearadmin(port, *arguments)
        assert b"unknown_command" in said.stderr, arguments
    await_executed(rig, agent, [b"x"])


# -- the shell ---------------------------------------------------------------------------------------------------------

SHELL = r"""
set -eu
cast() { "$RELAY_CLI" --config-file "$1" cast "$2" "$3" greet "$4"; }
for number in 1 2 3; do
    cast "$1" --priority high "from a loop $number"
done
printf 'from a\npipe' | "$RELAY_CLI" --config-file "$1" cast --unique named greet
"$RELAY_CLI" --config-file "$1" cast --file "$2" greet
"$RELAY_CLI" --config-file "$1" drain --timeout 0 > "$2.out" 2>&1 || echo "drain: $?"
if ! said=$("$RELAY_CLI" --config-file "$1" cast greet never 2>&1); then
    echo "$said"
fi
"""


def test_a_shell_script_casts(rig: Rig) -> None:
    """By relay-cli over the unix socket: arguments, a pipe, a file; a handle for each, and a refusal is a status that
    an `if` sees."""
    agent, _ = listen(rig)
    file = rig.directory / "payload"
    file.write_bytes(EACH_BYTE)
    said = run("env", f"RELAY_CLI={program('relay-cli')}", "sh", "-c", SHELL, "sh", str(agent.conf), str(file))
    assert (said.returncode, said.stderr) == (0, b"")
    *handles, drained, refused = said.stdout.splitlines()
    assert [id_of(handle) for handle in handles] == [cast["id"] for cast in agent.backlog()]
    assert (drained, refused.split(b":")[:2]) == (b"drain: 75", [b"relay-cli", b" draining"])
    await_executed(rig, agent, [b"from a loop %d" % n for n in (1, 2, 3)] + [b"from a\npipe", EACH_BYTE])
