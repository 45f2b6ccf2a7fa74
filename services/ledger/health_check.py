"""HealthCheck: reads the health within a deadline, even while the database or the broker hangs.

A server that hangs keeps its connections open, so a connection timeout does not help. Each part is therefore
read in its own thread, one call at a time; a caller gets None at its deadline.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from time import monotonic
from typing import Generic, TypeVar

from sqlalchemy import Connection, Engine, text

from services.core import broker_probe
from services.core.clock import utc_now
from services.core.database_fault import check_writable
from services.core.db import get_engine, transaction
from services.ledger.backlog import FIGURES_TIMEOUT_MS, list_topic_figures
from services.ledger.health import Conditions, Health, read_heartbeats

DEADLINE_SECONDS = 1.5
"""``/health`` answers within 2 s; the rest of that time is for the web server."""
KEEP_SECONDS = 1.0
"""How long a result is reused: many callers cause one reading per second."""
KEEP_TIMES_COST = 10
"""A slow count is reused for this many times its duration, so counting takes at most a tenth of the time."""
BROKER_SECONDS = 1.0

CountConditions = Callable[[Connection, datetime], Conditions]
"""Counts conditions; passed in, because the packages of incidents and jobs import this one."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class CachedCheck(Generic[_T]):
    """Calls ``read`` in a daemon thread, one call at a time, and keeps a result that is not None."""

    def __init__(
        self,
        name: str,
        read: Callable[[], _T | None],
        *,
        keep_seconds: float = KEEP_SECONDS,
        keep_times_cost: float = 0,
    ) -> None:
        self._name, self._read = name, read
        self._keep_seconds, self._keep_times_cost = keep_seconds, keep_times_cost
        self._lock = threading.Lock()
        self._future: Future[_T | None] | None = None
        self._keep_until = 0.0

    def start(self) -> Future[_T | None]:
        """Return the running call or the kept result; otherwise start a call."""
        with self._lock:
            future = self._future
            if future is not None and (
                not future.done() or (future.result() is not None and monotonic() < self._keep_until)
            ):
                return future
            self._future = future = Future()
            name = f"probe-{self._name}"
            threading.Thread(target=self._run, args=(future,), name=name, daemon=True).start()
            return future

    def _run(self, future: Future[_T | None]) -> None:
        started = monotonic()
        try:
            result = self._read()
        except Exception as fault:  # noqa: BLE001 - the result is None, the log says why
            fields = {"part": self._name, "error": f"{type(fault).__name__}: {fault}"}
            _log.warning("health_check_failed", extra={"fields": fields})
            result = None
        took = monotonic() - started
        self._keep_until = monotonic() + max(self._keep_seconds, took * self._keep_times_cost)
        future.set_result(result)


class HealthCheck:
    """Reads the health of database, broker and work. All threads of a process share one."""

    def __init__(
        self,
        count_conditions: CountConditions,
        *,
        engine: Callable[[], Engine] = get_engine,
        ping: Callable[[float], float | None] = broker_probe.ping,
        deadline_seconds: float = DEADLINE_SECONDS,
        keep_seconds: float = KEEP_SECONDS,
    ) -> None:
        self._engine, self._count_conditions = engine, count_conditions
        self._deadline_seconds = deadline_seconds
        slow = {"keep_seconds": keep_seconds, "keep_times_cost": KEEP_TIMES_COST}
        self._heartbeats = CachedCheck(
            "database", self._in_transaction(_read_writable), keep_seconds=keep_seconds
        )
        self._figures = CachedCheck(
            "figures", self._in_transaction(lambda tx: list_topic_figures(tx, utc_now())), **slow
        )
        self._conditions = CachedCheck("conditions", self._in_transaction(self._read_conditions), **slow)
        self._broker = CachedCheck("broker", lambda: ping(BROKER_SECONDS), keep_seconds=keep_seconds)
        self._ready = CachedCheck("ready", self._in_transaction(_touch_tables), keep_seconds=keep_seconds)

    def read(self) -> Health:
        """Return the health by the deadline; a part that is not read by then is None or empty.

        Figures and conditions are read separately: the database is up even if a backlog is too long to count
        or a migration has locked a table.
        """
        until = monotonic() + self._deadline_seconds
        heartbeats, ping, figures = self._heartbeats.start(), self._broker.start(), self._figures.start()
        counted = self._conditions.start()
        health = result_within(heartbeats, until - monotonic())
        broker_latency_ms = result_within(ping, until - monotonic())
        if health is None:
            return Health(broker_latency_ms=broker_latency_ms)
        conditions = result_within(counted, until - monotonic())
        topics = result_within(figures, until - monotonic()) or ()
        return replace(health, broker_latency_ms=broker_latency_ms, conditions=conditions, topics=topics)

    def is_ready(self) -> bool:
        """Return whether a webhook could be recorded now: the database takes changes and has its tables."""
        return result_within(self._ready.start(), self._deadline_seconds) is True

    def _in_transaction(self, read: Callable[[Connection], _T]) -> Callable[[], _T]:
        def read_now() -> _T:
            with transaction(self._engine()) as tx:
                return read(tx)

        return read_now

    def _read_conditions(self, tx: Connection) -> Conditions:
        tx.execute(text(f"set local statement_timeout = {FIGURES_TIMEOUT_MS}"))
        return self._count_conditions(tx, utc_now())


def _read_writable(tx: Connection) -> Health:
    check_writable(tx)
    return read_heartbeats(tx)


def _touch_tables(tx: Connection) -> bool:
    check_writable(tx)
    tx.execute(text("select 1 from inbound_events limit 0"))
    return True


def result_within(future: Future[_T | None], seconds: float) -> _T | None:
    """Return the result, or None after ``seconds``."""
    try:
        return future.result(timeout=max(0.0, seconds))
    except TimeoutError:
        return None
