"""The two embedded servers, started and stopped together."""

import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import quote

from services.core.ports import LOOPBACK, is_free
from services.fleet.child import Child, OsAccount, Program, Reaper
from services.fleet.embedded import postgres
from services.fleet.embedded.binaries import Binaries, find_binaries
from services.fleet.embedded.state import (
    HomeLock,
    choose_area,
    end_servers,
    find_account,
    get_passwords,
    make_folder,
    open_log,
    remove_data,
    tail,
    write_private,
)
from services.fleet.errors import ServerFailed
from services.fleet.ports import pick_ports

POSTGRES_PORT = 15432
VALKEY_PORT = 16379
_ATTEMPTS = 3
_READY_SECONDS = 60.0


class EmbeddedServers:
    """Running servers. Use it as a context manager, or call ``stop``.

    ``database_url`` is the application's role, which cannot change tables; ``archive_database_url`` may only
    delete archived audit events; ``migrate_database_url`` owns the tables; ``admin_database_url`` is the
    superuser (a test suite makes databases with it). The URL of a server that was not started is empty.
    """

    def __init__(self, home: Path, *, lock: HomeLock | None, reaper: Reaper | None) -> None:
        """Lock ``home``. Use ``start`` instead."""
        self.home = home.resolve()
        self._closing = ExitStack()
        if lock is None:
            self._closing.callback(HomeLock(self.home).release)
        self._reaper = reaper or Reaper()
        if reaper is None:
            self._closing.callback(self._reaper.close)
        self._started: list[Child] = []
        self.postgres: Child | None = None
        self.valkey: Child | None = None
        self.database_url = self.migrate_database_url = self.admin_database_url = self.broker_url = ""
        self.archive_database_url = ""
        self.postgres_port = self.valkey_port = 0

    @classmethod
    def start(
        cls,
        home: Path,
        *,
        postgres_port: int = POSTGRES_PORT,
        valkey_port: int = VALKEY_PORT,
        auto_ports: bool = False,
        with_postgres: bool = True,
        with_valkey: bool = True,
        durable: bool = True,
        throwaway: bool = False,
        lock: HomeLock | None = None,
        reaper: Reaper | None = None,
    ) -> Self:
        """Return the servers, ready for connections.

        The first start creates the database (1 s), a later one takes 0.2 s. ``auto_ports`` uses another
        port where the given one is not free. ``durable=False`` is for data that a crash of the machine may
        destroy; ``throwaway`` removes all data at ``stop``. ``lock`` and ``reaper`` are the caller's, if any.
        Raises ``AlreadyRunning``, ``PortTaken`` or ``ServerFailed``.
        """
        servers = cls(home, lock=lock, reaper=reaper)
        try:
            account = find_account(servers.home)
            area = choose_area(servers.home, account, throwaway=throwaway)
            if throwaway:
                servers._closing.callback(remove_data, servers.home)
            end_servers(area)  # servers are left if a supervisor and its reaper were both killed
            binaries = find_binaries(area, account)
            if with_valkey:
                servers._start_valkey(binaries, area, account, valkey_port, auto_ports)
            if with_postgres:
                servers._start_postgres(binaries, area, account, postgres_port, auto_ports, durable)
        except BaseException:
            servers.stop()
            raise
        return servers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def children(self) -> tuple[Child, ...]:
        return tuple(child for child in (self.postgres, self.valkey) if child is not None)

    def stop(self) -> None:
        """Stop the servers and unlock the home. Safe to repeat."""
        for child in self._started:
            child.begin_stop()
        deadline = time.monotonic() + 8.0
        for child in self._started:
            child.end_stop(deadline)
        self._started.clear()
        self.postgres = self.valkey = None
        self._closing.close()

    def _start_postgres(
        self, binaries: Binaries, area: Path, account: OsAccount | None, port: int, auto: bool, durable: bool
    ) -> None:
        passwords = get_passwords(self.home)
        data = postgres.ensure_cluster(binaries.initdb, area, account, passwords["admin"], durable=durable)
        log = open_log(self.home, "postgres")
        plan = partial(postgres.plan_program, binaries.postgres, area, data, account, log, durable)
        is_ready = partial(postgres.is_ready, data)
        self.postgres, port = self._start("EMBEDDED_POSTGRES_PORT", port, auto, plan, is_ready)
        self.postgres_port = port
        self.admin_database_url = postgres.url_for(postgres.ADMIN_ROLE, passwords["admin"], port, "postgres")
        postgres.ensure_roles(self.admin_database_url, passwords)
        urls = {name: postgres.url_for(role, passwords[name], port) for name, role in postgres.ROLES.items()}
        self.migrate_database_url, self.database_url = urls["owner"], urls["app"]
        self.archive_database_url = urls["archive"]

    def _start_valkey(
        self, binaries: Binaries, area: Path, account: OsAccount | None, port: int, auto: bool
    ) -> None:
        password, log = get_passwords(self.home)["broker"], open_log(self.home, "valkey")
        plan = partial(_plan_valkey, binaries.valkey, area, account, password, log)
        is_ready = partial(_is_valkey_ready, password)
        self.valkey, self.valkey_port = self._start("EMBEDDED_VALKEY_PORT", port, auto, plan, is_ready)
        self.broker_url = f"redis://:{quote(password, safe='')}@{LOOPBACK}:{self.valkey_port}/0"

    def _start(
        self,
        setting: str,
        port: int,
        auto: bool,
        plan: Callable[[int], Program],
        is_ready: Callable[[int | None, int], bool],
    ) -> tuple[Child, int]:
        """Return a server that is ready, and its port; try another port if another process took it."""
        for attempt in range(1, _ATTEMPTS + 1):
            port = pick_ports({setting: port}, auto=auto)[setting]
            child = Child(plan(port), self._reaper)
            self._started.append(child)
            child.start()
            deadline = time.monotonic() + _READY_SECONDS
            while time.monotonic() < deadline and child.poll() is None:
                if is_ready(child.pid, port):
                    return child, port
                time.sleep(0.01)
            child.stop(2)
            if attempt == _ATTEMPTS or not auto or is_free(port):
                break
        log = child.program.log
        raise ServerFailed(f"{child.name} did not start; {log} ends with:\n{tail(log) if log else ''}")


def _plan_valkey(
    valkey: Path, area: Path, account: OsAccount | None, password: str, log: Path, port: int
) -> Program:
    """Return Valkey's program, without persistence: lost messages are sent again from the ledger."""
    data = make_folder(area / "valkey", 0o700, account)
    settings = {
        "bind": LOOPBACK,
        "port": str(port),
        "protected-mode": "yes",
        "requirepass": password,
        "dir": str(data),
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",  # eviction would lose messages without an error
        "loglevel": "notice",
    }
    path = make_folder(area / "run", 0o711) / "valkey.conf"
    lines = [f"{name} {json.dumps(value, ensure_ascii=False)}\n" for name, value in settings.items()]
    write_private(path, "".join(lines), account)
    return Program(
        name="valkey",
        argv=(str(valkey), str(path)),
        env=postgres.SERVER_ENV,
        cwd=data,
        account=account,
        log=log,
    )


def _is_valkey_ready(password: str, _pid: int | None, port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            with connection.makefile("rb") as replies:
                return replies.readline() == b"+OK\r\n" and replies.readline() == b"+PONG\r\n"
    except OSError:
        return False
