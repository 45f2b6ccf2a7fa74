"""Servers from Debian's packages, each in a folder of its own, on a free port of the loopback interface."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from services.fleet.ports import find_free_port

RABBITMQ = Path("/usr/lib/rabbitmq/bin")
POSTGRES = Path("/usr/lib/postgresql/15/bin")
SECONDS = 90.0


def need(program: str) -> str:
    """Return the path of ``program``, or skip the test and name the package's program that is absent."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:{RABBITMQ}:{POSTGRES}")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def wait_until(fact: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Return once ``fact`` is true; fail with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)


def answers(port: int) -> bool:
    """Return whether something accepts connections on ``port``."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class PackageServer:
    """A server process. Subclasses name its command; ``start`` returns once it accepts connections."""

    program = ""
    account: str | None = None
    """The account that runs the server; None: this process's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self.path = need(self.program)
        self.port = find_free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def is_ready(self) -> bool:
        return answers(self.port)

    def start(self) -> Self:
        """Start the server."""
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.home,
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self.account,
            )
        wait_until(self.is_ready, f"{self.program} on port {self.port}: {self.home / 'log'}")
        return self

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the server by ``how`` and wait until it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        os.killpg(process.pid, how)
        process.wait(60)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server, such as SIGSTOP."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(signal.SIGKILL)


def make_certificate(home: Path, names: str = "IP:127.0.0.1") -> dict[str, str]:
    """Return settings of a Redis or Sentinel that listens with TLS, with a new certificate in ``home``."""
    key, certificate = str(home / "key.pem"), str(home / "certificate.pem")
    new = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "90")
    name = ("-subj", "/CN=fleet", "-addext", f"subjectAltName={names}")
    command = [need("openssl"), "req", *new, *name, "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    files = {"tls-key-file": key, "tls-cert-file": certificate, "tls-ca-cert-file": certificate}
    return {**files, "tls-auth-clients": "no", "tls-replication": "yes"}


class Redis(PackageServer):
    """Redis 7 with a password; a replica of ``master`` if one is given."""

    program = "redis-server"
    password = "redis-password"

    def __init__(
        self, home: Path, master: "Redis | None" = None, tls: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(home)
        self.master, self.tls = master, tls or {}

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        options = [
            *(
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--dir",
                str(self.home),
                "--appendonly",
                "yes",
            ),
            *(
                "--requirepass",
                self.password,
                "--masterauth",
                self.password,
                "--maxmemory-policy",
                "noeviction",
            ),
        ]
        if self.master is not None:
            options += ["--replicaof", "127.0.0.1", str(self.master.port)]
        if self.tls:
            options += ["--port", "0", "--tls-port", str(self.port)]
        return [
            self.path,
            *options,
            *(word for name, value in self.tls.items() for word in (f"--{name}", value)),
        ]


class Sentinel(PackageServer):
    """A Redis Sentinel with a password of its own, which watches ``master`` as ``fleet``."""

    program = "redis-sentinel"
    password = "sentinel-password"

    def __init__(self, home: Path, master: Redis, quorum: int = 2) -> None:
        super().__init__(home)
        tls = [f"{name} {value}\n" for name, value in master.tls.items()]
        (home / "sentinel.conf").write_text(
            "".join(tls)
            + (f"port 0\ntls-port {self.port}\n" if tls else f"port {self.port}\n")
            + f"bind 127.0.0.1\ndir {home}\nrequirepass {self.password}\n"
            f"sentinel sentinel-pass {self.password}\n"
            f"sentinel monitor fleet 127.0.0.1 {master.port} {quorum}\n"
            f"sentinel auth-pass fleet {master.password}\n"
            "sentinel down-after-milliseconds fleet 2000\nsentinel failover-timeout fleet 6000\n"
        )

    def command(self) -> list[str]:
        return [self.path, str(self.home / "sentinel.conf")]


class RabbitMQ(PackageServer):
    """RabbitMQ 3.10 with a user and a virtual host ``fleet``, and the management plug-in."""

    program = "rabbitmq-server"
    password = "rabbit-password"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.management_port, self.dist_port = find_free_port(), find_free_port()
        self.node = f"fleet{self.port}@localhost"

    @property
    def url(self) -> str:
        return f"amqp://fleet:{self.password}@127.0.0.1:{self.port}/fleet"

    @property
    def management_url(self) -> str:
        return f"http://fleet:{self.password}@127.0.0.1:{self.management_port}/api/"

    def control(self, *command: str) -> None:
        """Run ``rabbitmqctl`` with ``command``."""
        subprocess.run(
            [RABBITMQ / "rabbitmqctl", "-n", self.node, *command],
            env=os.environ | {"HOME": str(self.home)},
            check=True,
            capture_output=True,
        )

    def command(self) -> list[str]:
        return [str(RABBITMQ / "rabbitmq-server")]

    def environment(self) -> dict[str, str]:
        (self.home / "enabled_plugins").write_text("[rabbitmq_management].\n")
        (self.home / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self.management_port}\n"
            f"default_user = fleet\ndefault_pass = {self.password}\ndefault_vhost = fleet\n"
            "default_user_tags.administrator = true\n"
        )
        return os.environ | {
            "HOME": str(self.home),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.home / "logs"),
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
