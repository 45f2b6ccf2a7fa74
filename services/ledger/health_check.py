"""The health within a deadline, even while the database or the broker hangs.

A server that hangs keeps its connections open, so no connection timeout helps. Each part is therefore read
on a thread of its own, at most one at a time; a caller gets None at its own deadline.
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

from services.core import broker
from services.core.clock import utc_now
from services.core.db import get_engine, transaction
from services.ledger.figures import FIGURES_TIMEOUT_MS, find_figures
from services.ledger.health import Conditions, Health, read_pulse

DEADLINE_SECONDS = 1.5
"""``/health`` promises an answer within 2 s; the rest is for the web server."""
KEEP_SECONDS = 1.0
"""A result is used again for so long: many callers cost one reading a second."""
KEEP_TIMES_COST = 10
"""A slow count is used again for so many times its duration: counting takes a tenth of the time at most."""
BROKER_SECONDS = 1.0

CountConditions = Callable[[Connection, datetime], Conditions]
"""Counts what needs a person: incidents and jobs are in rooms that import this one."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class CachedCheck(Generic[_T]):
    """Calls ``ask`` on a daemon thread, one call at a time, and keeps a result that is not None."""

    def __init__(
        self,
        name: str,
        ask: Callable[[], _T | None],
        *,
        keep_seconds: float = KEEP_SECONDS,
        keep_times_cost: float = 0,
    ) -> None:
        self._name, self._ask = name, ask
        self._keep_seconds, self._keep_times_cost = keep_seconds, keep_times_cost
        self._lock = threading.Lock()
        self._flight: Future[_T | None] | None = None
        self._keep_until = 0.0

    def start(self) -> Future[_T | None]:
        """Return the running call, or a result that is kept; otherwise start a call."""
        with self._lock:
            flight = self._flight
            if flight is not None and (
                not flight.done() or (flight.result() is not None and monotonic() < self._keep_until)
            ):
                return flight
            self._flight = flight = Future()
            name = f"probe-{self._name}"
            threading.Thread(target=self._run, args=(flight,), name=name, daemon=True).start()
            return flight

    def _run(self, flight: Future[_T | None]) -> None:
        started = monotonic()
        try:
            answer = self._ask()
        except Exception as fault:  # noqa: BLE001 - the result is None, the log says why
            what = {"part": self._name, "error": f"{type(fault).__name__}: {fault}"}
            _log.warning("probe failed", extra={"fields": what})
            answer = None
        took = monotonic() - started
        self._keep_until = monotonic() + max(self._keep_seconds, took * self._keep_times_cost)
        flight.set_result(answer)


class HealthCheck:
    """Reads the health of database, broker and work. One a process, shared by all its threads."""

    def __init__(
        self,
        count_conditions: CountConditions,
        *,
        engine: Callable[[], Engine] = get_engine,
        ping: Callable[[float], float | None] = broker.ping,
        deadline_seconds: float = DEADLINE_SECONDS,
        keep_seconds: float = KEEP_SECONDS,
    ) -> None:
        self._engine, self._count_conditions = engine, count_conditions
        self._deadline_seconds = deadline_seconds
        slow = {"keep_seconds": keep_seconds, "keep_times_cost": KEEP_TIMES_COST}
        self._pulse = CachedCheck("database", self._in_transaction(read_pulse), keep_seconds=keep_seconds)
        self._figures = CachedCheck(
            "figures", self._in_transaction(lambda tx: find_figures(tx, utc_now())), **slow
        )
        self._conditions = CachedCheck("conditions", self._in_transaction(self._read_conditions), **slow)
        self._broker = CachedCheck("broker", lambda: ping(BROKER_SECONDS), keep_seconds=keep_seconds)
        self._ready = CachedCheck("ready", self._in_transaction(_touch_tables), keep_seconds=keep_seconds)

    def read(self) -> Health:
        """Return the health by the deadline; a part that has not answered by then is missing.

        Figures and conditions are read apart: a long backlog, or a table that a migration has locked, is no
        missing database.
        """
        until = monotonic() + self._deadline_seconds
        pulse, ping, figures = self._pulse.start(), self._broker.start(), self._figures.start()
        counted = self._conditions.start()
        health = result_within(pulse, until - monotonic())
        broker_latency_ms = result_within(ping, until - monotonic())
        if health is None:
            return Health(broker_latency_ms=broker_latency_ms)
        conditions = result_within(counted, until - monotonic())
        topics = result_within(figures, until - monotonic()) or ()
        return replace(health, broker_latency_ms=broker_latency_ms, conditions=conditions, topics=topics)

    def is_ready(self) -> bool:
        """Tell whether a webhook could be recorded now: the database answers and its tables are there."""
        return result_within(self._ready.start(), self._deadline_seconds) is True

    def _in_transaction(self, read: Callable[[Connection], _T]) -> Callable[[], _T]:
        def ask() -> _T:
            with transaction(self._engine()) as tx:
                return read(tx)

        return ask

    def _read_conditions(self, tx: Connection) -> Conditions:
        tx.execute(text(f"set local statement_timeout = {FIGURES_TIMEOUT_MS}"))
        return self._count_conditions(tx, utc_now())


def _touch_tables(tx: Connection) -> bool:
    tx.execute(text("select 1 from inbound_events limit 0"))
    return True


def result_within(flight: Future[_T | None], seconds: float) -> _T | None:
    """Return the result if it comes within ``seconds``, else None."""
    try:
        return flight.result(timeout=max(0.0, seconds))
    except TimeoutError:
        return None
