"""An answer about the fleet within a deadline, even while the database or the broker hangs.

A server that is stopped but not gone keeps its connections open and says nothing, so no timeout of the
connection helps. Each question is therefore asked on a thread of its own, at most one at a time: while
it hangs, later askers are told "away" at their own deadline instead of starting more threads.
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
from services.ledger.health import Conditions, Health, read_pulse, with_figures
from services.ledger.stats import FIGURES_TIMEOUT_MS, TopicFigures, find_figures

DEADLINE_SECONDS = 1.5
"""``/health`` promises an answer within 2 s; the rest is for the web server."""
KEEP_SECONDS = 1.0
"""An answer this young is given again, so that a crowd of askers costs one reading a second."""
KEEP_TIMES_COST = 10
"""Counting that was slow is kept this many times as long: it takes a tenth of the time at most."""
BROKER_SECONDS = 1.0

CountConditions = Callable[[Connection, datetime], Conditions]
"""Counts what needs a person: incidents and jobs are in rooms above this one."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class CachedCheck(Generic[_T]):
    """Asks ``ask`` on a daemon thread, at most once at a time, and keeps a good answer for a moment."""

    def __init__(
        self,
        name: str,
        ask: Callable[[], _T | None],
        *,
        keep_seconds: float = KEEP_SECONDS,
        keep_times_cost: int = 0,
    ) -> None:
        self._name = name
        self._ask = ask
        self._keep_seconds = keep_seconds
        self._keep_times_cost = keep_times_cost
        self._lock = threading.Lock()
        self._flight: Future[_T | None] | None = None
        self._keep_until = 0.0

    def start(self) -> Future[_T | None]:
        """Return the answer under way, or a fresh enough one; ask anew otherwise."""
        with self._lock:
            flight = self._flight
            if flight is not None and (
                not flight.done() or (flight.result() is not None and monotonic() < self._keep_until)
            ):
                return flight
            self._flight = flight = Future()
            threading.Thread(
                target=self._run, args=(flight,), name=f"probe-{self._name}", daemon=True
            ).start()
            return flight

    def _run(self, flight: Future[_T | None]) -> None:
        started = monotonic()
        try:
            answer = self._ask()
        except Exception as fault:  # noqa: BLE001 - whatever it is, the answer is "away"; the line says why
            what = {"part": self._name, "error": f"{type(fault).__name__}: {fault}"}
            _log.warning("probe failed", extra={"fields": what})
            answer = None
        took = monotonic() - started
        self._keep_until = monotonic() + max(self._keep_seconds, took * self._keep_times_cost)
        flight.set_result(answer)


class HealthCheck:
    """Asks the database and the broker how they are. One a process, shared by all its threads."""

    def __init__(
        self,
        count_conditions: CountConditions,
        *,
        engine: Callable[[], Engine] = get_engine,
        ping: Callable[[float], float | None] = broker.ping,
        deadline_seconds: float = DEADLINE_SECONDS,
        keep_seconds: float = KEEP_SECONDS,
    ) -> None:
        self._engine = engine
        self._count_conditions = count_conditions
        self._deadline_seconds = deadline_seconds
        self._pulse = CachedCheck("database", self._read_pulse, keep_seconds=keep_seconds)
        self._figures = CachedCheck(
            "figures", self._read_figures, keep_seconds=keep_seconds, keep_times_cost=KEEP_TIMES_COST
        )
        self._conditions = CachedCheck(
            "conditions", self._read_conditions, keep_seconds=keep_seconds, keep_times_cost=KEEP_TIMES_COST
        )
        self._broker = CachedCheck("broker", lambda: ping(BROKER_SECONDS), keep_seconds=keep_seconds)
        self._ready = CachedCheck("ready", self._touch_database, keep_seconds=keep_seconds)

    def read(self) -> Health:
        """Return the fleet's health by the deadline; what has not answered by then is away.

        Figures and conditions are asked apart: a long backlog, slow to count, or a table that a
        migration has locked, is no missing database.
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
        health = replace(health, broker_latency_ms=broker_latency_ms, conditions=conditions)
        return with_figures(health, topics)

    def is_ready(self) -> bool:
        """Say whether a webhook could be recorded now: the database answers and its tables are there."""
        answer = result_within(self._ready.start(), self._deadline_seconds)
        return answer is True

    def _read_pulse(self) -> Health:
        with transaction(self._engine()) as tx:
            return read_pulse(tx)

    def _read_conditions(self) -> Conditions:
        with transaction(self._engine()) as tx:
            tx.execute(text(f"set local statement_timeout = {FIGURES_TIMEOUT_MS}"))
            return self._count_conditions(tx, utc_now())

    def _read_figures(self) -> tuple[TopicFigures, ...]:
        with transaction(self._engine()) as tx:
            return find_figures(tx, utc_now())

    def _touch_database(self) -> bool:
        with transaction(self._engine()) as tx:
            tx.execute(text("select 1 from inbound_events limit 0"))
        return True


def result_within(flight: Future[_T | None], seconds: float) -> _T | None:
    """Return the answer if it comes within ``seconds``; None when it is late or could not be had."""
    try:
        return flight.result(timeout=max(0.0, seconds))
    except TimeoutError:
        return None
