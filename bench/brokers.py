"""The other systems that keep work for somebody else, started and stopped as in `peers`.

Each says in `worth` what its good answer is worth when the power fails, as it is configured here: to be as durable as
it can be.  `kept` counts what it holds, where it can be asked.
"""

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from bench.load import connect
from bench.peers import Absent, Broken, Gearmand, Peer, free_port, program
from bench.wire import Amqp, mqtt, mqtt_connect, mqtt_text


def asked(address: str, question: bytes, end: bytes) -> bytes:
    """One answer in text, up to `end`."""
    with connect(address) as sock:
        sock.settimeout(20)
        sock.sendall(question)
        answer = b""
        while end not in answer:
            data = sock.recv(65536)
            if not data:
                raise Broken(f"{address} closed instead of answering {question!r}")
            answer += data
    return answer


class TcpPeer(Peer):
    """One that listens on a port of loopback."""

    def command(self) -> list[str]:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        return self.command_on(self.port)

    def command_on(self, port: int) -> list[str]:
        raise NotImplementedError

    def reached_at(self) -> tuple[str, int]:
        return "127.0.0.1", self.port


class Beanstalkd(TcpPeer):
    name = "beanstalkd"
    worth = "fsync before the answer (-f0); errors of it are only logged"

    def command_on(self, port: int) -> list[str]:
        return [self.binary, "-l", "127.0.0.1", "-p", str(port), "-b", str(self.dir), "-f0", "-z", str(17 << 20)]

    def kept(self) -> int:
        stats = asked(self.address, b"stats\r\n", b"\nos:")
        line = next(line for line in stats.splitlines() if line.startswith(b"current-jobs-ready:"))
        return int(line.split()[1])


class GearmandSqlite(Gearmand):
    """gearmand with its own queue on disk."""

    worth = "in its SQLite database, a transaction a job"

    def command(self) -> list[str]:
        return [*super().command(), "--queue-type=libsqlite3", f"--libsqlite3-db={self.dir}/queue.db"]

    def kept(self) -> int:
        status = asked(self.address, b"status\n", b".\n")
        return sum(int(line.split(b"\t")[1]) for line in status.splitlines() if b"\t" in line)


class Mosquitto(TcpPeer):
    """A subscriber of QoS 1 with a session that stays, and is away: so every publication is kept for it."""

    name = "mosquitto"
    worth = "memory; the database is saved after it, at intervals, without fsync"

    def command_on(self, port: int) -> list[str]:
        conf = self.dir / "mosquitto.conf"
        conf.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n"
            f"max_inflight_messages 0\npersistence true\npersistence_location {self.dir}/\nautosave_interval 1\n"
        )
        return [self.binary, "-c", str(conf)]

    def _wait(self) -> None:
        super()._wait()
        with connect(self.address) as sock:
            mqtt_connect(sock, name=b"away", clean=False)
            sock.sendall(mqtt(0x82, b"\0\1" + mqtt_text(b"casts") + b"\1"))
            if sock.recv(5)[:1] != b"\x90":
                raise Broken("mosquitto does not take the subscription")
            sock.sendall(b"\xe0\0")


class Nats(TcpPeer):
    name = "nats-server"
    worth = "written to a file, which is synced every 2 minutes (this version cannot sync before it answers)"

    def command_on(self, port: int) -> list[str]:
        conf = self.dir / "nats.conf"
        conf.write_text(
            f'listen: "127.0.0.1:{port}"\nmax_payload: 17MB\njetstream {{ store_dir: "{self.dir}/store" }}\n'
        )
        return [self.binary, "-c", str(conf)]

    def _wait(self) -> None:
        super()._wait()
        self._ask("STREAM.CREATE", {"name": "casts", "subjects": ["casts"], "storage": "file", "num_replicas": 1})

    def kept(self) -> int:
        count: int = self._ask("STREAM.INFO")["state"]["messages"]
        return count

    def _ask(self, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        said = json.dumps(body).encode() if body else b""
        question = b'CONNECT {"verbose":false}\r\nSUB answer 1\r\n'
        question += b"PUB $JS.API.%b.casts answer %d\r\n%b\r\n" % (what.encode(), len(said), said)
        said = asked(self.address, question, b'"type"')
        answer: dict[str, Any] = json.loads(said[said.index(b"MSG ") :].split(b"\r\n", 2)[1])
        if "error" in answer:
            raise Broken(f"NATS: {answer['error']}")
        return answer


class Rabbit(TcpPeer):
    """A durable queue of that `kind`, persistent messages, confirms."""

    name = "rabbitmq-server"
    start_s = 120
    worth = "confirmed once it is on disk"

    def __init__(self, disk: Path, kind: bytes = b"quorum") -> None:
        super().__init__(disk)
        self.kind = kind
        # Debian's own start script changes to another user, who may not write here
        found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
        if not found:
            raise Absent(self.name)
        self.binary = str(found[-1])

    def command_on(self, port: int) -> list[str]:
        conf = self.dir / "rabbitmq.conf"
        conf.write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\ndisk_free_limit.absolute = 50MB\nlog.console = true\n")
        self.epmd = free_port()
        self.environment = {
            "HOME": str(self.dir),
            "RABBITMQ_NODENAME": f"bench{port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.dir / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.dir / "logs"),
            "RABBITMQ_CONFIG_FILE": str(conf),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.dir / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_PORT": str(self.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        (self.dir / "plugins").write_text("[].\n")
        return [self.binary]

    def _wait(self) -> None:
        super()._wait()
        self.kept()

    def kept(self) -> int:
        with connect(self.address) as sock:
            sock.settimeout(60)
            return Amqp(sock).declare(self.kind)

    def stop(self) -> None:
        super().stop()
        with contextlib.suppress(OSError, Absent):
            environment = dict(os.environ, **self.environment)
            subprocess.run([program("epmd"), "-kill"], check=False, capture_output=True, env=environment, timeout=20)
