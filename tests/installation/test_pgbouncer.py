"""PgBouncer in transaction mode: what is refused at start, and a fleet behind it, on Redis."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, text

from services.core.db import make_engine
from services.core.errors import SettingsInvalid
from services.fleet.doctor import DoctorCheck, examine
from services.fleet.embedded.servers import EmbeddedServers
from services.fleet.up import RunningFleet
from tests.chaos.faults import Fault, Outages
from tests.chaos.fleet import open_chaos
from tests.installation.package_databases import PgBouncer, Postgres
from tests.installation.package_servers import PackageServer, Redis
from tests.installation.test_redis import check_nothing_is_lost, check_works

pytestmark = pytest.mark.timeout(900)

PROCESSES = (
    (sys.executable, "-m", "services.ingress.serve"),
    (sys.executable, "-m", "services.console.serve"),
    (sys.executable, "-m", "celery", "-A", "tasks", "worker", "-Q", "webhooks", "-c", "1"),
    (sys.executable, "-m", "celery", "-A", "tasks", "beat"),
)


IGNORES_OPTIONS = "ignore_startup_parameters = options\n"


@pytest.fixture(params=["", IGNORES_OPTIONS], ids=["refuses options", "ignores options"])
def pooler(request: pytest.FixtureRequest, servers: EmbeddedServers, tmp_path: Path) -> Iterator[PgBouncer]:
    with PgBouncer(tmp_path / "pgbouncer", servers.database_url, request.param) as started:
        yield started


def test_an_engine_for_the_server_refuses_a_pooler_and_names_it(pooler: PgBouncer) -> None:
    engine = make_engine(pooler.url, application="tests")

    with pytest.raises(SettingsInvalid, match=f"127.0.0.1:{pooler.port} is a connection pooler") as refused:
        engine.connect()

    assert pooler.password not in str(refused.value)


def test_a_session_through_a_pooler_has_the_settings_of_a_direct_one(pooler: PgBouncer) -> None:
    engine = make_engine(pooler.url, application="tests", is_pooled=True)

    assert read_settings(engine) == [("UTC", "force_custom_plan", "off")] * 20


def read_settings(engine: Engine) -> list[tuple[str, ...]]:
    """Return the settings of 20 transactions."""
    wanted = text("select current_setting('timezone'), current_setting('plan_cache_mode'), "
                  "current_setting('enable_memoize')")  # fmt: skip
    found = []
    for _ in range(20):
        with engine.begin() as tx:
            found.append(tuple(tx.execute(wanted).one()))
    return found


def test_a_database_without_the_settings_is_refused_with_the_statements_to_run(
    servers: EmbeddedServers, tmp_path: Path
) -> None:
    with psycopg.connect(servers.migrate_database_url, autocommit=True) as owner:
        owner.execute("alter database shopfleet reset plan_cache_mode")
        try:
            with PgBouncer(tmp_path / "pgbouncer", servers.database_url) as pooler:
                engine = make_engine(pooler.url, application="tests", is_pooled=True)
                with pytest.raises(SettingsInvalid, match="alter database shopfleet set plan_cache_mode"):
                    engine.connect()
        finally:
            owner.execute("alter database shopfleet set plan_cache_mode = 'force_custom_plan'")


def test_processes_with_only_a_pooled_url_do_not_start(
    environment: dict[str, str], servers: EmbeddedServers, tmp_path: Path
) -> None:
    with PgBouncer(tmp_path / "pgbouncer", servers.database_url, IGNORES_OPTIONS) as pooler:
        env = os.environ | environment | {"DATABASE_URL": pooler.url, "FLEET_HOME": str(tmp_path)}
        with ThreadPoolExecutor() as pool:
            ended = list(pool.map(partial(run_process, env), PROCESSES))

    assert [code for code, _ in ended if not code] == []
    assert [
        printed for _, printed in ended if f"127.0.0.1:{pooler.port} is a connection pooler" not in printed
    ] == []
    assert not any(pooler.password in printed for _, printed in ended)


def run_process(env: dict[str, str], command: tuple[str, ...]) -> tuple[int, str]:
    """Return the exit code of ``command`` and what it printed."""
    done = subprocess.run(
        command, env=env, cwd=Path.cwd(), capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_doctor_names_a_pooler_without_the_direct_url(
    servers: EmbeddedServers, pooler: PgBouncer, tmp_path: Path
) -> None:
    required = {"BROKER_URL": servers.broker_url, "SECRET_KEY": "k" * 32, "DATABASE_URL": pooler.url}

    def find(**more: str) -> DoctorCheck:
        return next(found for found in examine(required | more, tmp_path) if found.check == "pooler")

    assert not find().ok
    assert "is a connection pooler" in find().seen
    assert find(DATABASE_DIRECT_URL=servers.database_url).ok


def test_a_restart_of_pgbouncer_of_postgresql_behind_it_and_of_redis_loses_nothing(tmp_path: Path) -> None:
    def restart(server: PackageServer) -> Fault:
        def inject(_fleet: RunningFleet, _outages: Outages) -> None:
            server.stop()
            server.start()

        return Fault(f"{server.program} restarted", inject, keeps_workers=True)

    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres(tmp_path / "postgres"))
        postgres.create_roles()
        pooler = stack.enter_context(PgBouncer(tmp_path / "pgbouncer", postgres.url("app")))
        redis = stack.enter_context(Redis(tmp_path / "redis"))
        settings = {
            "DATABASE_URL": pooler.url,
            "DATABASE_DIRECT_URL": postgres.url("app"),
            "MIGRATE_DATABASE_URL": postgres.url("owner"),
            "AUDIT_ARCHIVE_DATABASE_URL": postgres.url("archive"),
            "BROKER_URL": redis.url,
        }
        chaos = stack.enter_context(open_chaos(tmp_path / "fleet", 20.0, Outages(), settings))
        check_nothing_is_lost(chaos, restart(pooler))
        check_nothing_is_lost(chaos, restart(postgres))
        check_works(chaos, restart(redis))
