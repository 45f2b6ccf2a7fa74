"""The database: one engine per process, and the only module that commits."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    MetaData,
    NestedTransaction,
    Row,
    Select,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.core.errors import SettingsInvalid
from services.core.settings import Settings, get_settings
from services.core.statement_timing import TimedConnection, TimedCursor

T = TypeVar("T")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_KEEPALIVES = (
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 "
    "-c tcp_user_timeout=25000"
)
"""The server frees the locks of a machine without power after half a minute; by default after two hours."""

SESSION_SETTINGS = {"timezone": "UTC", "plan_cache_mode": "force_custom_plan", "enable_memoize": "off"}
"""Settings of every session. A pooler takes no start-up options, so ``fleet migrate`` sets them for the
database too. A generic plan joins two batches of 500 rows with a nested loop. Memoize caches lookups that
never repeat: copying bodies into its cache took a third of the time of a claim."""

_DIRECT = "shopfleet.direct"
"""A setting without a meaning, which only a start-up option can set."""

_READ_SETTINGS = f"""
select coalesce(current_setting('{_DIRECT}', true), '') = 'on',
       {", ".join(f"current_setting('{name}')" for name in SESSION_SETTINGS)}
"""

_IS_POOLER = (
    "{host}:{port} is a connection pooler such as PgBouncer, which takes no start-up options. DATABASE_URL "
    "may be a pooler if DATABASE_DIRECT_URL is the PostgreSQL server itself; DATABASE_DIRECT_URL, "
    "MIGRATE_DATABASE_URL and AUDIT_ARCHIVE_DATABASE_URL may not"
)

_engine: Engine | None = None


def driver_url(url: str) -> str:
    """Return ``url`` with the driver that this project uses (psycopg 3)."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else url


def make_engine(url: str, *, application: str, pool_size: int = 4, is_pooled: bool = False) -> Engine:
    """Return an engine that raises within seconds when the database cannot be reached.

    ``tcp_user_timeout`` bounds a half-open connection, ``connect_timeout`` an unreachable host. Every session
    has ``SESSION_SETTINGS``; a connection without them raises ``SettingsInvalid``. ``is_pooled``: ``url`` is
    a pooler in transaction mode, where prepared statements and start-up options are not possible.
    """
    options = " ".join(f"-c {name}={value}" for name, value in {_DIRECT: "on", **SESSION_SETTINGS}.items())
    direct = {"options": f"{options} {_KEEPALIVES}", "prepare_threshold": 3}
    engine = create_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        pool_timeout=2,
        hide_parameters=True,  # a statement that fails must not put its values into a log
        connect_args={
            "application_name": application,
            "cursor_factory": TimedCursor,
            "connect_timeout": 2,
            "tcp_user_timeout": 5000,
            "keepalives_idle": 10,
            **({"prepare_threshold": None} if is_pooled else direct),
        },
    )

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, _record: object, args: Any, values: Any) -> Any:
        try:
            return TimedConnection.connect(*args, **values)
        except dialect.loaded_dbapi.Error as fault:
            if "unsupported startup parameter" in str(fault):
                raise SettingsInvalid(_IS_POOLER.format(**values)) from None
            raise

    @event.listens_for(engine, "connect")
    def check_settings(connection: Any, _record: object) -> None:
        is_direct, *found = connection.execute(_READ_SETTINGS).fetchone()
        connection.rollback()
        if not is_direct and not is_pooled:
            raise SettingsInvalid(_IS_POOLER.format(host=connection.info.host, port=connection.info.port))
        if found == list(SESSION_SETTINGS.values()):
            return
        database = connection.info.dbname
        wanted = "; ".join(
            f"alter database {database} set {name} = '{value}'" for name, value in SESSION_SETTINGS.items()
        )
        raise SettingsInvalid(
            f"the database {database} lacks settings that each session needs: run fleet migrate as the "
            f"database's owner, or in psql: {wanted}; then run RECONNECT in PgBouncer's console"
        )

    return engine


def make_app_engine(application: str, settings: Settings | None = None) -> Engine:
    """Return an engine for ``DATABASE_URL``, the server or a pooler."""
    settings = settings or get_settings()
    return make_engine(settings.database_url, application=application, is_pooled=settings.has_pooler)


def get_engine() -> Engine:
    """Return this process's engine, created at first use, not at import: workers fork."""
    global _engine  # noqa: PLW0603 - one engine per process
    if _engine is None:
        _engine = make_app_engine("shopfleet")
    return _engine


def drop_engine() -> None:
    """Drop the inherited engine without closing the parent's sockets; call this after a fork."""
    global _engine  # noqa: PLW0603
    if _engine is not None:
        _engine.dispose(close=False)
        _engine = None


AtCommit = Callable[[Connection, list[Any]], None]

_AT_COMMIT = "at_commit"


class _Collected:
    """Items of ``add_at_commit`` by hook: of the transaction, or of a ``savepoint`` of it."""

    def __init__(self, savepoint: NestedTransaction | None = None) -> None:
        self.savepoint = savepoint
        self.items: dict[AtCommit, list[Any]] = {}


@contextmanager
def transaction(engine: Engine | None = None) -> Iterator[Connection]:
    """Yield a connection whose work is committed as a whole, or not at all.

    Immediately before the commit it calls each hook of ``add_at_commit`` once, with all its items.
    """
    with (engine or get_engine()).begin() as tx:
        info = tx.info
        collected = info[_AT_COMMIT] = _Collected()
        try:
            yield tx
            for hook, items in collected.items.items():
                hook(tx, items)
        finally:
            # The pool keeps ``info`` with the connection. After a lost connection it is another thread's.
            if info.get(_AT_COMMIT) is collected:
                del info[_AT_COMMIT]


def add_at_commit(tx: Connection, hook: AtCommit, items: Iterable[Any]) -> None:
    """Call ``hook`` immediately before the commit with ``items`` and all others of this transaction.

    In a transaction that ``transaction`` did not open, the hook is called now. Raises ``RuntimeError`` inside
    a savepoint, because its rollback would not remove the items; see ``rolled_back``.
    """
    collected: _Collected | None = tx.info.get(_AT_COMMIT)
    if collected is None:
        hook(tx, list(items))
        return
    if tx.get_nested_transaction() is not collected.savepoint:
        raise RuntimeError("nothing can be added for the commit inside a savepoint")
    collected.items.setdefault(hook, []).extend(items)


@contextmanager
def rolled_back(tx: Connection) -> Iterator[None]:
    """Roll back the block, and drop its items for the commit. ``tx`` stays usable."""
    before = tx.info.get(_AT_COMMIT)
    savepoint = tx.begin_nested()
    if before is not None:
        tx.info[_AT_COMMIT] = _Collected(savepoint)
    try:
        yield
    finally:
        if before is not None:
            tx.info[_AT_COMMIT] = before
        savepoint.rollback()


@contextmanager
def transaction_or_plan(engine: Engine | None = None, *, dry_run: bool) -> Iterator[Connection]:
    """Yield a connection as ``transaction`` does; with ``dry_run`` its work is rolled back at the end."""
    with transaction(engine) as tx, rolled_back(tx) if dry_run else nullcontext():
        yield tx


MAX_COUNTED = 10_000


class Page(list[T]):
    """The first rows of a query; ``total`` is the number of all, at most ``MAX_COUNTED`` + 1."""

    total = 0


def fetch_page(
    tx: Connection, query: Select[Any] | str, limit: int | None, values: Mapping[str, Any] | None = None
) -> Page[Row[Any]]:
    """Return the first ``limit`` rows of ``query``, or all; a text with ``values`` ends with its limit."""
    if isinstance(query, str):
        page = Page(tx.exec_driver_sql(query, {**(values or {}), "limit": limit}))
    else:
        page = Page(tx.execute(query.limit(limit)))
    page.total = len(page)
    if page.total != limit:
        return page
    most = MAX_COUNTED + 1
    if isinstance(query, str):
        counted = tx.exec_driver_sql(
            f"select count(*) from ({query}) counted",  # noqa: S608 - the caller's own statement
            {**(values or {}), "limit": most},
        )
    else:
        counted = tx.execute(select(func.count()).select_from(query.limit(most).subquery()))
    page.total = counted.scalar_one()
    return page


def is_connection_fault(fault: BaseException) -> bool:
    """Return whether ``fault`` is a lost or refused connection, not an error of a statement."""
    if isinstance(fault, PoolTimeout):
        return True
    if not isinstance(fault, DBAPIError):
        return False
    state = getattr(fault.orig, "sqlstate", None)
    # No state: no connection was made. 08: connection; 57P: the server stops; 53300: it has no slot left.
    is_shutdown = state is None or state.startswith(("08", "57P")) or state == "53300"
    return fault.connection_invalidated or (type(fault) is OperationalError and is_shutdown)


class KeptConnection:
    """One connection of a single thread, for single statements that commit by themselves.

    One round trip per statement instead of five: no check by the pool, no BEGIN, no COMMIT.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    @contextmanager
    def __call__(self) -> Iterator[Connection]:
        """Yield the connection; after a failure the next call opens a new one."""
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            yield self._connection
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection for good: its state is unknown, so it does not return to the pool."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()
