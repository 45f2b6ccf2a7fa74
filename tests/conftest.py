"""Shared fixtures: each test process starts its own PostgreSQL and Valkey from wheels."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from services.core import db
from services.core.crypto import get_sealer
from services.core.settings import Settings, get_settings
from services.fleet.embedded.servers import EmbeddedServers
from services.schema.migrate import apply_migrations
from services.schema.models import metadata
from tests.lock_order import UNWATCHED, watch_locks

SAMPLES = Path(__file__).parents[2] / "shared" / "samples"


_SCOPES = {
    "tests/journeys/": "fleet",
    "tests/tasks/": "fleet",
    "tests/audit/test_object_store.py": "object store",
    "tests/audit/test_anchors.py": "object store",
    "tests/audit/test_archive.py": "object store",
    "tests/closing/test_month_run.py": "object store",
    "tests/mail/test_look.py": "browser",
}
"""Path -> scope. Tests that share a slow resource (fleet, S3 server, browser) run in one xdist worker."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Run the tests of one scope of ``_SCOPES`` in the same xdist worker."""
    from xdist.scheduler import LoadScopeScheduling

    class ByScope(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            return next((scope for start, scope in _SCOPES.items() if nodeid.startswith(start)), nodeid)

    return ByScope(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Start the servers of this test process and migrate the database."""
    home = tmp_path_factory.mktemp("fleet home")
    with EmbeddedServers.start(home, auto_ports=True, durable=False, throwaway=True) as started:
        apply_migrations(started.migrate_database_url, "shopfleet_app", "shopfleet_archive")
        _stop_autovacuum(started.migrate_database_url)
        yield started


def _stop_autovacuum(url: str) -> None:
    """Keep statistics as they are in a new database: with those of a moment, plans differ from run to run."""
    owner = db.make_engine(url, application="tests-owner", pool_size=1)
    with owner.begin() as tx:
        for name in metadata.tables:
            tx.execute(text(f"alter table {name} set (autovacuum_enabled = off)"))
    owner.dispose()


@pytest.fixture(scope="session")
def environment(servers: EmbeddedServers) -> Iterator[dict[str, str]]:
    """Put the settings of the test servers into ``os.environ`` for the session."""
    values = {
        "DATABASE_URL": servers.database_url,
        "MIGRATE_DATABASE_URL": servers.migrate_database_url,
        "AUDIT_ARCHIVE_DATABASE_URL": servers.archive_database_url,
        "BROKER_URL": servers.broker_url,
        "FLEET_HOME": str(servers.home),
        "SECRET_KEY": "tests-only-" + "k" * 32,
        "CRON_SECRET": "tests-only-cron-secret-" + "c" * 32,
        "LOG_LEVEL": "warning",
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    _clear_caches()
    yield values
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _clear_caches()


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """Settings of the test process."""
    return get_settings()


@pytest.fixture(scope="session")
def owner_engine(servers: EmbeddedServers) -> Iterator[Engine]:
    """Engine of the role that owns the tables, for statements that the application role may not run."""
    engine = db.make_engine(servers.migrate_database_url, application="tests-owner", pool_size=1)
    yield engine
    engine.dispose()


# Truncating all tables takes four times as long, before each of thousands of tests.
_FIND_USED = """
select relname from pg_class
 where relnamespace = 'public'::regnamespace and relname = any(:names) and pg_relation_size(oid) > 0
"""
_RESTART_IDENTITIES = """
select setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false) from pg_sequences
 where schemaname = 'public' and last_value is not null
"""


def _empty_all_tables(owner_engine: Engine) -> None:
    """Empty every table. The last statement of a process that the test before killed may still run."""
    for attempt in range(10):
        try:
            with owner_engine.begin() as tx:
                used = tx.execute(text(_FIND_USED), {"names": list(metadata.tables)}).scalars().all()
                if used:
                    tx.execute(text(f"truncate {', '.join(used)} cascade"))
                tx.execute(text(_RESTART_IDENTITIES))
            return
        except OperationalError as fault:
            if attempt == 9 or "deadlock detected" not in str(fault.orig):
                raise


@pytest.fixture
def engine(environment: dict[str, str], owner_engine: Engine) -> Iterator[Engine]:
    """Engine of the application role; all tables are empty."""
    assert get_settings().database_url == environment["DATABASE_URL"], "a test before left other settings"
    _empty_all_tables(owner_engine)
    # Anchors of one test would contradict the chains of the next one.
    shutil.rmtree(Path(environment["FLEET_HOME"]) / "archive", ignore_errors=True)
    with watch_locks(db.get_engine()) as watch:
        yield db.get_engine()
    db.get_engine().dispose()
    assert watch.faults == [], "locks were taken out of order: see services.core.locks.Lock"


@pytest.fixture
def tx(engine: Engine) -> Iterator[Connection]:
    """Transaction that is rolled back after the test; a test may use it for several transactions."""
    with engine.connect().execution_options(**UNWATCHED) as connection, connection.begin() as outer:
        yield connection
        outer.rollback()


@pytest.fixture
def broker_url(servers: EmbeddedServers, environment: dict[str, str]) -> str:
    """Flush the broker and return its URL."""
    import redis

    with redis.Redis.from_url(servers.broker_url) as client:
        client.flushall()
    return servers.broker_url


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of the providers' sample payloads, which are not part of the project."""
    if not SAMPLES.is_dir():
        pytest.skip("the providers' samples (../shared/samples) are missing")
    return SAMPLES


def _clear_caches() -> None:
    get_settings.cache_clear()
    get_sealer.cache_clear()
    db.drop_engine()
