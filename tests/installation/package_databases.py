"""PostgreSQL and PgBouncer from Debian's packages."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from tests.installation.package_servers import POSTGRES, PackageServer


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
        rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (self.data / "pg_hba.conf").write_text(rules)

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
            admin.execute("create role shopfleet_floor nologin")
            admin.execute(f"grant shopfleet_floor to {self.roles['owner']}".encode())
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
