"""Servers from Debian's packages, each in a folder of its own, on a free port of the loopback interface."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import pytest
from sqlalchemy.engine import make_url

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


def make_certificate(home: Path) -> dict[str, str]:
    """Return settings of a Redis or Sentinel that listens with TLS, with a new certificate in ``home``."""
    key, certificate = str(home / "key.pem"), str(home / "certificate.pem")
    new = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    name = ("-subj", "/CN=fleet", "-addext", "subjectAltName=IP:127.0.0.1")
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


class Postgres(PackageServer):
    """PostgreSQL 15 with the roles of ``docs/production.md``; its data is removed when the test ends."""

    program = "postgres"
    account = "postgres" if os.getuid() == 0 else None
    password = "postgres-password"
    roles: Mapping[str, str] = {
        "owner": "shopfleet_owner",
        "app": "shopfleet_app",
        "archive": "shopfleet_archive",
    }

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        # The account of the server may not enter a test's folder.
        self.data = Path(tempfile.mkdtemp(prefix="postgres-"))
        shutil.chown(self.data, self.account) if self.account else None
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "--auth=trust", "--no-sync")

    def url(self, role: str) -> str:
        """Return the URL of the role ``owner``, ``app`` or ``archive``."""
        return f"postgresql://{self.roles[role]}:{self.password}@127.0.0.1:{self.port}/shopfleet"

    def create_roles(self) -> None:
        """Create the roles and the database."""
        with psycopg.connect(
            f"postgresql://postgres@127.0.0.1:{self.port}/postgres", autocommit=True
        ) as admin:
            for role in self.roles.values():
                admin.execute(f"create role {role} login password '{self.password}'".encode())
            admin.execute(f"create database shopfleet owner {self.roles['owner']}".encode())

    def command(self) -> list[str]:
        folder, port = str(self.data), str(self.port)
        return [self.path, "-D", folder, "-p", port, "-h", "127.0.0.1", "-k", folder, "-c", "fsync=off"]

    def is_ready(self) -> bool:
        try:
            psycopg.connect(
                f"postgresql://postgres@127.0.0.1:{self.port}/postgres", connect_timeout=2
            ).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        super().stop(how)

    def __exit__(self, *error: Any) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.data, ignore_errors=True)

    def _run(self, *command: str) -> None:
        subprocess.run([POSTGRES / command[0], *command[1:]], cwd=self.data, user=self.account, check=True)


class PgBouncer(PackageServer):
    """PgBouncer 1.18 in transaction mode in front of the database at ``url``."""

    program = "pgbouncer"

    def __init__(self, home: Path, url: str, options: str = "") -> None:
        super().__init__(home)

        self._target = make_url(url)
        target = self._target
        (home / "users.txt").write_text(f'"{target.username}" "{target.password}"\n')
        (home / "pgbouncer.ini").write_text(
            f"[databases]\n{target.database} = host={target.host} port={target.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = plain\nauth_file = {home / 'users.txt'}\npool_mode = transaction\n"
            f"default_pool_size = 10\nmax_client_conn = 200\n{options}"
        )
        home.chmod(0o755)

    @property
    def password(self) -> str:
        """The password of the database's role."""
        return self._target.password or ""

    @property
    def url(self) -> str:
        return self._target.set(host="127.0.0.1", port=self.port).render_as_string(hide_password=False)

    def command(self) -> list[str]:
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        return [self.path, *user, str(self.home / "pgbouncer.ini")]
