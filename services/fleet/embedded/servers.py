"""The two embedded servers as one thing to start and stop."""

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from services.fleet.child import Account, Child
from services.fleet.embedded import postgres, valkey
from services.fleet.embedded.binaries import Binaries, find_binaries
from services.fleet.embedded.state import (
    HomeLock,
    find_account,
    forget_area,
    get_passwords,
    open_log,
    settle_area,
)
from services.fleet.errors import ServerFailed
from services.fleet.ports import is_free, pick_port
from services.fleet.reaper import Guard

POSTGRES_PORT = 15432
VALKEY_PORT = 16379
_ATTEMPTS = 3


class EmbeddedServers:
    """Running servers. Use as a context manager, or call ``stop``.

    ``database_url`` is the application's role, which cannot change tables; ``archive_database_url`` may only
    delete archived audit events; ``migrate_database_url`` owns the tables; ``admin_database_url`` is the
    superuser (a test suite makes databases with it). A server that was not wanted has the empty URL.
    """

    def __init__(self, home: Path, *, lock: HomeLock | None, guard: Guard | None) -> None:
        """Take ``home``; ``start`` is the way in."""
        self.home = home.resolve()
        self._own_lock = None if lock else HomeLock(self.home)
        self._own_guard = None if guard else Guard()
        self._guard = guard or self._own_guard or Guard()
        self._throwaway = False
        self._area: Path | None = None
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
        guard: Guard | None = None,
    ) -> Self:
        """Return the servers, ready for connections.

        A first start makes the database (a second), a later one takes 0.2 s. ``auto_ports`` takes
        another port where the wanted one is not free. ``durable=False`` is for data that may be lost
        with the machine; ``throwaway`` removes all data at ``stop``. ``lock`` and ``guard`` are the
        caller's own, if it has them. Raises ``AlreadyRunning``, ``PortTaken`` or ``ServerFailed``.
        """
        servers = cls(home, lock=lock, guard=guard)
        servers._throwaway = throwaway
        try:
            account = find_account(servers.home)
            servers._area = settle_area(servers.home, account, throwaway=throwaway)
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
        """Leave no server running and the home free. Safe to repeat."""
        for child in self.children:
            child.begin_stop()
        deadline = time.monotonic() + grace_seconds
        for child in self.children:
            child.end_stop(deadline)
        self.postgres = self.valkey = None
        if self._throwaway and self._area is not None:
            forget_area(self.home, self._area)
        if self._own_guard is not None:
            self._own_guard.close()
        if self._own_lock is not None:
            self._own_lock.release()

    def _start_postgres(
        self, binaries: Binaries, account: Account | None, port: int, *, auto_ports: bool, durable: bool
    ) -> None:
        area, passwords = self._get_area(), get_passwords(self.home)
        data = postgres.ensure_cluster(binaries.initdb, area, account, passwords["admin"], durable=durable)
        log = open_log(self.home, "postgres")
        for attempt in range(1, _ATTEMPTS + 1):
            port = pick_port("EMBEDDED_POSTGRES_PORT", port, auto=auto_ports)
            program = postgres.postgres_program(
                binaries.postgres, area, data, account, port=port, log=log, durable=durable
            )
            self.postgres = Child(program, self._guard)
            self.postgres.start()
            try:
                postgres.wait_until_ready(self.postgres, data)
            except ServerFailed:
                self.postgres.stop(2)
                if attempt == _ATTEMPTS or not _lost_race(port, auto_ports=auto_ports):
                    raise
            else:
                break
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
        for attempt in range(1, _ATTEMPTS + 1):
            port = pick_port("EMBEDDED_VALKEY_PORT", port, auto=auto_ports)
            program = valkey.valkey_program(
                binaries.valkey, area, account, port=port, password=password, log=log
            )
            self.valkey = Child(program, self._guard)
            self.valkey.start()
            try:
                valkey.wait_until_ready(self.valkey, port, password)
            except ServerFailed:
                self.valkey.stop(2)
                if attempt == _ATTEMPTS or not _lost_race(port, auto_ports=auto_ports):
                    raise
            else:
                break
        self.valkey_port = port
        self.broker_url = valkey.url_for(password, port)

    def _get_area(self) -> Path:
        assert self._area is not None  # noqa: S101 - set by start
        return self._area


def _lost_race(port: int, *, auto_ports: bool) -> bool:
    """Say whether somebody took ``port`` between our look at it and the server's start."""
    return auto_ports and not is_free(port)
