"""The embedded PostgreSQL. It listens on loopback and on a socket in a private folder."""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from services.core.ports import LOOPBACK
from services.fleet.child import OsAccount, Program, popen_account
from services.fleet.embedded.state import end_servers, make_folder, write_private
from services.fleet.errors import ServerFailed

ADMIN_ROLE = "postgres"
ROLES = {"owner": "shopfleet_owner", "app": "shopfleet_app", "archive": "shopfleet_archive"}
"""Roles by the names of their passwords."""

DATABASE = "shopfleet"

SERVER_ENV = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
"""The whole environment of the servers: the user's ``PGDATA`` or ``PGPORT`` must not reach them."""

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "max_connections": "100",
    "max_locks_per_transaction": "256",  # a batch locks each of its objects
    "shared_buffers": "64MB",
    "huge_pages": "off",
    "jit": "off",  # short queries: compiling them costs more than it saves
    "io_method": "sync",  # PostgreSQL 18 would keep three I/O workers waiting
    "wal_level": "minimal",  # an embedded server has no replicas
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",  # no launcher process
    "max_parallel_workers_per_gather": "0",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "30s",  # with the default, 1 min, the work queue's table grows
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %q%a %u@%d ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""For throwaway servers of a test run: a crash of the operating system may destroy the cluster."""


def ensure_cluster(
    initdb: Path, area: Path, account: OsAccount | None, password: str, *, durable: bool
) -> Path:
    """Return the data folder. ``initdb`` creates it under another name, so it is complete or absent."""
    base = make_folder(area / "postgres", 0o700, account)
    data, fresh = base / "data", base / "new"
    if (data / "PG_VERSION").exists():
        return data
    shutil.rmtree(fresh, ignore_errors=True)
    password_file = make_folder(area / "run", 0o711) / f"initdb-{secrets.token_hex(4)}"
    write_private(password_file, f"{password}\n", account)
    argv = [
        str(initdb),
        f"--pgdata={fresh}",
        f"--username={ADMIN_ROLE}",
        "--auth=scram-sha-256",
        f"--pwfile={password_file}",
        "--encoding=UTF8",
        "--locale=C",
        "--no-instructions",
    ]
    try:
        result = subprocess.run(
            argv if durable else [*argv, "--no-sync"],
            env=SERVER_ENV,
            cwd=base,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **popen_account(account),
        )
    finally:
        password_file.unlink()
    if result.returncode != 0:
        raise ServerFailed(f"initdb failed in {base}:\n{result.stdout.strip()}")
    fresh.rename(data)
    return data


def plan_program(
    postgres: Path, area: Path, data: Path, account: OsAccount | None, log: Path, durable: bool, port: int
) -> Program:
    """Return the server's program. Settings are on the command line, so that they always apply."""
    sockets = make_folder(area / "sockets", 0o700, account)
    settings = _SETTINGS | ({} if durable else _NOT_DURABLE) | {"port": str(port)}
    # A socket's path has at most 104 bytes on macOS, 108 on Linux.
    fits = len(os.fsencode(sockets)) + len(f"/.s.PGSQL.{port}") <= 100
    doubled = str(sockets).replace('"', '""')
    settings["unix_socket_directories"] = f'"{doubled}"' if fits else ""
    settings["unix_socket_permissions"] = "0700"
    flags = (part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
    return Program(
        name="postgres",
        argv=(str(postgres), "-D", str(data), *flags),
        env=SERVER_ENV,
        cwd=data,
        account=account,
        stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
        last_signal=signal.SIGQUIT,  # "immediate": recovers from the log at the next start
        log=log,
        prepare=lambda: _clear_pid_file(data),
    )


def _clear_pid_file(data: Path) -> None:
    """Remove the pid file: PostgreSQL refuses to start if a stale one names any live process."""
    end_servers(data)
    (data / "postmaster.pid").unlink(missing_ok=True)


def is_ready(data: Path, pid: int | None, _port: int) -> bool:
    """Return whether the server with ``pid`` accepts connections: line 8 of the pid file, as in ``pg_ctl``.

    https://www.postgresql.org/docs/18/storage-file-layout.html
    """
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def url_for(role: str, password: str, port: int, database: str = DATABASE) -> str:
    return f"postgresql://{role}:{quote(password, safe='')}@{LOOPBACK}:{port}/{database}"


def ensure_roles(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Create the database, its owner, the application's role and the archive role, with these passwords.

    Safe to repeat. The application's and the archive role may only connect; migrations grant the rest.
    """
    import psycopg
    from psycopg import sql
    from psycopg.conninfo import make_conninfo

    with psycopg.connect(admin_url, autocommit=True, connect_timeout=5) as admin:
        for name, role in ROLES.items():
            password = passwords[name].encode()
            verifier = admin.pgconn.encrypt_password(password, role.encode(), b"scram-sha-256")
            found = admin.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone()
            verb = sql.SQL("alter" if found else "create")
            statement = sql.SQL("{} role {} login password {}").format(
                verb, sql.Identifier(role), sql.Literal(verifier.decode())
            )
            admin.execute(statement)
        # The functions of the shop floor belong to it: see services/schema/shop_floor.sql.
        if not admin.execute("select 1 from pg_roles where rolname = 'shopfleet_floor'").fetchone():
            admin.execute("create role shopfleet_floor nologin")
        admin.execute("grant shopfleet_floor to shopfleet_owner")
        database, owner, app, archive = map(sql.Identifier, (DATABASE, *ROLES.values()))
        if not admin.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone():
            admin.execute(sql.SQL("create database {} owner {}").format(database, owner))
            # For the search in conversations; only a superuser may create it.
            with psycopg.connect(make_conninfo(admin_url, dbname=DATABASE), autocommit=True) as own:
                own.execute("create extension if not exists vector")
        admin.execute(sql.SQL("revoke all on database {} from public").format(database))
        admin.execute(sql.SQL("grant connect on database {} to {}, {}").format(database, app, archive))
