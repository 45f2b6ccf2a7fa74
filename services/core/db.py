"""The database: one engine a process, and the only place that commits."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, MetaData, create_engine

from services.core.settings import get_settings

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_LETS_GO_OF_THE_DEAD = (
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 "
    "-c tcp_user_timeout=25000"
)
"""A machine that loses its power closes no connection: by its default the server would keep the locks of
its workers, and of the beat that led, for two hours. So it notices within half a minute."""

_PLANS = "-c plan_cache_mode=force_custom_plan -c enable_memoize=off"
"""A generic plan, which PostgreSQL takes after some runs, joins two sets of 500 by brute force. And a probe
for each row of a set is remembered in vain, as no two ask for the same: of a claim that was a third, spent on
copies of the bodies."""

_engine: Engine | None = None


def driver_url(url: str) -> str:
    """Return ``url`` with the driver that this project uses (psycopg 3)."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else url


def make_engine(url: str, *, application: str, pool_size: int = 4) -> Engine:
    """Return an engine that notices within seconds when the database is away.

    ``tcp_user_timeout`` bounds a half-open connection, ``connect_timeout`` a dead host, so a caller
    is told instead of hanging. ``options`` keeps every session in UTC.
    """
    return create_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        pool_timeout=2,
        hide_parameters=True,  # a statement that fails must not put its values into a log
        connect_args={
            "application_name": application,
            "connect_timeout": 2,
            "tcp_user_timeout": 5000,
            "keepalives_idle": 10,
            "options": f"-c timezone=UTC {_PLANS} {_LETS_GO_OF_THE_DEAD}",
            "prepare_threshold": 3,
        },
    )


def get_engine() -> Engine:
    """Return this process's engine, made at first use (never at import: workers fork)."""
    global _engine  # noqa: PLW0603 - one engine a process is the point
    if _engine is None:
        _engine = make_engine(get_settings().database_url, application="shopfleet")
    return _engine


def forget_engine() -> None:
    """Drop an inherited engine without closing the parent's sockets; call this after a fork."""
    global _engine  # noqa: PLW0603
    if _engine is not None:
        _engine.dispose(close=False)
        _engine = None


@contextmanager
def transaction(engine: Engine | None = None) -> Iterator[Connection]:
    """Yield a connection whose work is committed together, or not at all."""
    with (engine or get_engine()).begin() as tx:
        yield tx


class KeptConnection:
    """One connection that a single thread keeps, for work that is one statement, committed by itself.

    Spares the pool's check, the BEGIN and the COMMIT: a round trip instead of five.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    @contextmanager
    def __call__(self) -> Iterator[Connection]:
        """Yield the connection; after a failure the next call makes a new one."""
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            yield self._connection
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the connection up, not back: nobody knows what state it is in."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()
