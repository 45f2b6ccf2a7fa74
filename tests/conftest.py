"""Shared fixtures: each test process starts its own PostgreSQL and Valkey from wheels."""

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, make_url, text
from sqlalchemy.pool import QueuePool

from services.core import db
from services.core.clock import utc_now
from services.core.crypto import get_sealer
from services.core.settings import Settings, get_settings
from services.fleet.embedded import postgres
from services.fleet.embedded.servers import EmbeddedServers
from services.schema.migrate import apply_migrations
from services.schema.models import metadata
from tests.lock_order import UNWATCHED, watch_locks
from tests.shared_caches import share_caches

SAMPLES = Path(__file__).parents[2] / "shared" / "samples"


_SCOPES = {
    "tests/journeys/": "fleet",
    "tests/tasks/": "fleet",
    "tests/audit/test_object_store.py": "object store",
    "tests/audit/test_anchors.py": "object store",
    "tests/audit/test_archive.py": "object store",
    "tests/closing/test_month_run.py": "object store",
    "tests/mail/test_look.py": "browser",
    "tests/providers/test_shopify_documents.py": "Admin schemas",
    "tests/interop/": "other libraries",
    "tests/ingress/test_other_libraries.py": "other libraries",
    "tests/observability/test_flower.py": "Flower",
    "tests/fleet/test_up.py": "fleet up",
    "tests/fleet/test_embedded.py": "embedded servers",
    "tests/console/test_openapi.py": "schemathesis",
}
"""Path -> scope. Tests that share a slow resource (fleet, S3 server, browser, a library or schema that takes
seconds to load) run in one xdist worker."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Run the tests of one scope of ``_SCOPES`` in the same xdist worker."""
    from xdist.scheduler import LoadScopeScheduling

    class ByScope(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            return next((scope for start, scope in _SCOPES.items() if nodeid.startswith(start)), nodeid)

        def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
            """Forget a complete scope: xdist counts all of the run again after each test, 20 s of CPU."""
            scope = self._split_scope(self.registered_collections[node][item_index])
            super().mark_test_complete(node, item_index, duration)
            if all(self.assigned_work[node][scope].values()):
                del self.assigned_work[node][scope]

    return ByScope(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_sessionstart() -> None:
    """Import the modules of the tests without garbage collection.

    A shell ignores SIGINT for what it runs in the background, and so would the programs of the tests.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()
    share_caches()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Exclude what was imported and collected, which stays, from later collections: 500,000 objects."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Start the servers of this test process and migrate the database."""
    home = tmp_path_factory.mktemp("fleet home")
    with EmbeddedServers.start(home, auto_ports=True, durable=False, throwaway=True) as started:
        apply_migrations(started.migrate_database_url, "shopfleet_app", "shopfleet_archive")
        _prepare_for_tests(started)
        yield started


def _prepare_for_tests(servers: EmbeddedServers) -> None:
    """Keep statistics as they are in a new database: with those of a moment, plans differ from run to run.

    Each test connects: a password of a role is checked with one round of SHA-256.
    """
    admin = db.make_engine(servers.admin_database_url, application="tests-admin", pool_size=1)
    with admin.begin() as tx:
        tx.exec_driver_sql("set local scram_iterations = 1")
        for url in (servers.database_url, servers.migrate_database_url, servers.archive_database_url):
            role = make_url(url)
            tx.exec_driver_sql(f"alter role {role.username} password '{role.password}'")
    admin.dispose()
    owner = db.make_engine(servers.migrate_database_url, application="tests-owner", pool_size=1)
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
def now(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set ``NOW`` of the module to the time of the test: that of the collection may be half an hour ago."""
    monkeypatch.setattr(request.module, "NOW", utc_now())


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


_TABLES = sorted(metadata.tables)
_LARGE_BYTES = 10 * 8192
"""The planner takes a new table of up to 10 pages for one of 10 pages: plans are those of an empty table."""
_LOCK = f"lock table {', '.join(_TABLES)} in share row exclusive mode"
_FIND_USED = " union all ".join(
    f"select '{name}', pg_relation_size('{name}') > {_LARGE_BYTES}"  # noqa: S608 - names of our tables
    f" where pg_relation_size('{name}') > {_LARGE_BYTES} or exists (select from {name})"
    for name in _TABLES
)
_RESTART_IDENTITIES = """
select setval(seqrelid, seqstart, false) from pg_sequence where pg_sequence_last_value(seqrelid) is not null
"""


@pytest.fixture(scope="session")
def cleaner(servers: EmbeddedServers) -> Iterator[psycopg.Connection]:
    """Connection that empties the tables, without checks of foreign keys."""
    url = make_url(servers.admin_database_url).set(database=postgres.DATABASE)
    options = "-c session_replication_role=replica"
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True, options=options) as one:
        yield one


def _empty_all_tables(cleaner: psycopg.Connection) -> None:
    """Empty every table. The last statement of a process that the test before killed may still run.

    ``truncate`` makes a new file for each table and index: for few rows that takes 20 times as long.
    """
    for attempt in range(10):
        try:
            with cleaner.transaction():
                cleaner.execute(_LOCK)
                used = cleaner.execute(_FIND_USED, prepare=True).fetchall()
                large = ", ".join(name for name, is_large in used if is_large)
                changes = [f"delete from {name}" for name, is_large in used if not is_large]  # noqa: S608
                changes += [f"truncate {large} cascade"] if large else []
                cleaner.execute("; ".join([*changes, _RESTART_IDENTITIES]), prepare=False)
            return
        except psycopg.errors.DeadlockDetected:
            if attempt == 9:
                raise


@pytest.fixture
def engine(environment: dict[str, str], cleaner: psycopg.Connection) -> Iterator[Engine]:
    """Engine of the application role; all tables are empty. The next test uses its connections too."""
    assert get_settings().database_url == environment["DATABASE_URL"], "a test before left other settings"
    _empty_all_tables(cleaner)
    # Anchors of one test would contradict the chains of the next one.
    shutil.rmtree(Path(environment["FLEET_HOME"]) / "archive", ignore_errors=True)
    with watch_locks(db.get_engine()) as watch:
        yield db.get_engine()
    pool = db.get_engine().pool
    if isinstance(pool, QueuePool) and pool.checkedout():
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


@pytest.fixture(autouse=True)
def _forget_celery() -> Iterator[None]:
    """Remove what Celery's command line writes into the environment, which later processes would inherit.

    A beat with another ``CELERY_BROKER_URL`` than ``BROKER_URL`` refuses to start.
    """
    before = {name for name in os.environ if name.startswith("CELERY_")}
    yield
    for name in [name for name in os.environ if name.startswith("CELERY_")]:
        if name not in before:
            del os.environ[name]


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
