"""The suite's ground: a real PostgreSQL and a real Valkey for each process of the run, from wheels."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from services.core import db
from services.core.crypto import get_sealer
from services.core.settings import Settings, get_settings
from services.fleet.embedded.servers import EmbeddedServers
from services.schema.migrate import apply_migrations
from services.schema.models import metadata
from tests.lock_order import UNWATCHED, watch_locks

SAMPLES = Path(__file__).parents[2] / "shared" / "samples"


_PLACES = {
    "tests/journeys/": "houses",
    "tests/tasks/": "houses",
    "tests/audit/test_object_store.py": "stores",
    "tests/audit/test_anchors.py": "stores",
    "tests/audit/test_archive.py": "stores",
    "tests/closing/test_month_run.py": "stores",
    "tests/mail/test_look.py": "looks",
}
"""Tests that share something slow to start (a fleet, an S3 server, a browser) share a worker of the run."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Tests that share a house of processes run in one worker of the run; all others anywhere."""
    from xdist.scheduler import LoadScopeScheduling

    class ByHouse(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            return next((place for start, place in _PLACES.items() if nodeid.startswith(start)), nodeid)

    return ByHouse(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """The servers of this test process, with a migrated database."""
    home = tmp_path_factory.mktemp("fleet home")
    with EmbeddedServers.start(home, auto_ports=True, durable=False, throwaway=True) as started:
        apply_migrations(started.migrate_database_url, "shopfleet_app", "shopfleet_archive")
        yield started


@pytest.fixture(scope="session")
def environment(servers: EmbeddedServers) -> Iterator[dict[str, str]]:
    """The settings under which the suite's processes run, in ``os.environ`` while it does."""
    wanted = {
        "DATABASE_URL": servers.database_url,
        "MIGRATE_DATABASE_URL": servers.migrate_database_url,
        "AUDIT_ARCHIVE_DATABASE_URL": servers.archive_database_url,
        "BROKER_URL": servers.broker_url,
        "FLEET_HOME": str(servers.home),
        "SECRET_KEY": "tests-only-" + "k" * 32,
        "CRON_SECRET": "tests-only-cron-secret-" + "c" * 32,
        "LOG_LEVEL": "warning",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    _forget()
    yield wanted
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _forget()


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The process's settings."""
    return get_settings()


@pytest.fixture(scope="session")
def owner_engine(servers: EmbeddedServers) -> Iterator[Engine]:
    """The role that owns the tables; for what the application's role may not do."""
    engine = db.make_engine(servers.migrate_database_url, application="tests-owner", pool_size=1)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(environment: dict[str, str], owner_engine: Engine) -> Iterator[Engine]:
    """The application's engine over an empty database."""
    names = ", ".join(table.name for table in metadata.sorted_tables)
    with owner_engine.begin() as tx:
        tx.execute(text(f"truncate {names} restart identity cascade"))
    # Or the anchors of one test would contradict the chains of the next.
    shutil.rmtree(Path(environment["FLEET_HOME"]) / "archive", ignore_errors=True)
    with watch_locks(db.get_engine()) as watch:
        yield db.get_engine()
    db.get_engine().dispose()
    assert watch.faults == [], "locks were taken out of order: see services.core.locks.Lock"


@pytest.fixture
def tx(engine: Engine) -> Iterator[Connection]:
    """A transaction that is rolled back when the test ends; it may stand for several of the product's."""
    with engine.connect().execution_options(**UNWATCHED) as connection, connection.begin() as outer:
        yield connection
        outer.rollback()


@pytest.fixture
def broker_url(servers: EmbeddedServers, environment: dict[str, str]) -> str:
    """An emptied broker."""
    import redis

    with redis.Redis.from_url(servers.broker_url) as client:
        client.flushall()
    return servers.broker_url


@pytest.fixture(scope="session")
def samples() -> Path:
    """The providers' sample payloads, which are not part of the project."""
    if not SAMPLES.is_dir():
        pytest.skip("the providers' samples (../shared/samples) are not here")
    return SAMPLES


def _forget() -> None:
    get_settings.cache_clear()
    get_sealer.cache_clear() if hasattr(get_sealer, "cache_clear") else None
    db.drop_engine()
