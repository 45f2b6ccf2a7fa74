"""The two embedded servers, started and stopped together."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from services.fleet.child import Account, Child, Program
from services.fleet.embedded import postgres, valkey
from services.fleet.embedded.binaries import Binaries, find_binaries
from services.fleet.embedded.state import (
    HomeLock,
    choose_area,
    find_account,
    get_passwords,
    open_log,
    remove_data,
)
from services.fleet.errors import ServerFailed
from services.fleet.ports import is_free, pick_port
from services.fleet.reaper import Reaper

POSTGRES_PORT = 15432
VALKEY_PORT = 16379
_ATTEMPTS = 3


class EmbeddedServers:
    """Running servers. Use it as a context manager, or call ``stop``.

    ``database_url`` is the application's role, which cannot change tables; ``archive_database_url`` may only
    delete archived audit events; ``migrate_database_url`` owns the tables; ``admin_database_url`` is the
    superuser (a test suite makes databases with it). The URL of a server that was not started is empty.
    """

    def __init__(self, home: Path, *, lock: HomeLock | None, reaper: Reaper | None) -> None:
        """Lock ``home``. Use ``start`` instead."""
        self.home = home.resolve()
        self._own_lock = None if lock else HomeLock(self.home)
        self._own_reaper = None if reaper else Reaper()
        self._reaper = reaper or self._own_reaper or Reaper()
        self._throwaway = False
        self._area: Path | None = None
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

        The first start creates the database (1 s), a later one takes 0.2 s. ``auto_ports`` takes another
        port where the wanted one is not free. ``durable=False`` is for data that may be lost with the
        machine; ``throwaway`` removes all data at ``stop``. ``lock`` and ``reaper`` are the caller's, if it
        has them. Raises ``AlreadyRunning``, ``PortTaken`` or ``ServerFailed``.
        """
        servers = cls(home, lock=lock, reaper=reaper)
        servers._throwaway = throwaway
        try:
            account = find_account(servers.home)
            servers._area = choose_area(servers.home, account, throwaway=throwaway)
            binaries = find_binaries(servers._area, account)
            if with_valkey:
                servers._start_valkey(binaries, account, valkey_port, auto_ports=auto_ports)
            if with_postgres:
                servers._start_postgres(
                    binaries, account, postgres_port, auto_ports=auto_ports, durable=durable
                )
        except BaseException:
            servers.stop()
            raise
        return servers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def children(self) -> tuple[Child, ...]:
        """The servers' processes."""
        return tuple(child for child in (self.postgres, self.valkey) if child is not None)

    def stop(self, *, grace_seconds: float = 8.0) -> None:
        """Stop the servers and unlock the home. Safe to repeat."""
        for child in self._started:
            child.begin_stop()
        deadline = time.monotonic() + grace_seconds
        for child in self._started:
            child.end_stop(deadline)
        self._started.clear()
        self.postgres = self.valkey = None
        if self._throwaway and self._area is not None:
            remove_data(self.home, self._area)
        if self._own_reaper is not None:
            self._own_reaper.close()
        if self._own_lock is not None:
            self._own_lock.release()

    def _start_postgres(
        self, binaries: Binaries, account: Account | None, port: int, *, auto_ports: bool, durable: bool
    ) -> None:
        area, passwords = self._get_area(), get_passwords(self.home)
        data = postgres.ensure_cluster(binaries.initdb, area, account, passwords["admin"], durable=durable)
        log = open_log(self.home, "postgres")

        def plan(port: int) -> Program:
            return postgres.postgres_program(
                binaries.postgres, area, data, account, port=port, log=log, durable=durable
            )

        def wait(child: Child, _port: int) -> None:
            postgres.wait_until_ready(child, data)

        self.postgres, port = self._start("EMBEDDED_POSTGRES_PORT", port, auto_ports, plan, wait)
        self.postgres_port = port
        self.admin_database_url = postgres.url_for(postgres.ADMIN_ROLE, passwords["admin"], port, "postgres")
        postgres.ensure_roles(
            self.admin_database_url,
            owner_password=passwords["owner"],
            app_password=passwords["app"],
            archive_password=passwords["archive"],
        )
        self.migrate_database_url = postgres.url_for(postgres.OWNER_ROLE, passwords["owner"], port)
        self.database_url = postgres.url_for(postgres.APP_ROLE, passwords["app"], port)
        self.archive_database_url = postgres.url_for(postgres.ARCHIVE_ROLE, passwords["archive"], port)

    def _start_valkey(
        self, binaries: Binaries, account: Account | None, port: int, *, auto_ports: bool
    ) -> None:
        area, password = self._get_area(), get_passwords(self.home)["broker"]
        log = open_log(self.home, "valkey")

        def plan(port: int) -> Program:
            return valkey.valkey_program(
                binaries.valkey, area, account, port=port, password=password, log=log
            )

        def wait(child: Child, port: int) -> None:
            valkey.wait_until_ready(child, port, password)

        self.valkey, port = self._start("EMBEDDED_VALKEY_PORT", port, auto_ports, plan, wait)
        self.valkey_port = port
        self.broker_url = valkey.url_for(password, port)

    def _start(
        self,
        setting: str,
        port: int,
        auto_ports: bool,
        plan: Callable[[int], Program],
        wait: Callable[[Child, int], None],
    ) -> tuple[Child, int]:
        """Return a server that is ready, and its port; try another port where one is taken meanwhile."""
        for attempt in range(1, _ATTEMPTS + 1):
            port = pick_port(setting, port, auto=auto_ports)
            child = Child(plan(port), self._reaper)
            self._started.append(child)
            child.start()
            try:
                wait(child, port)
            except ServerFailed:
                child.stop(2)
                if attempt == _ATTEMPTS or not auto_ports or is_free(port):
                    raise
            else:
                break
        return child, port

    def _get_area(self) -> Path:
        assert self._area is not None  # noqa: S101 - set by start
        return self._area
