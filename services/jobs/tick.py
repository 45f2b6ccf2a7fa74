"""One tick: starts due runs, ends the runs of ended work, and opens incidents for overdue runs.

Only the leader beat calls ``tick``. Other processes call ``report_overdue_runs``,
because a dead beat cannot report itself.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection, Engine

from services.alerts import own_figures
from services.alerts.evaluate import check_rules
from services.alerts.figures import CollectFigures
from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.alerts.notify import record_alerts
from services.core.db import transaction
from services.core.sentry import capture_bug
from services.jobs import figures
from services.jobs.complete_run import sync_run_status
from services.jobs.conditions import record_overdue
from services.jobs.scheduler import start_due_runs
from services.ledger.accept import WorkRef

COLLECTORS: tuple[CollectFigures, ...] = (own_figures.collect_figures, figures.collect_figures)
"""The figures of jobs and of the rooms below."""

Follow = Callable[[Connection, datetime], list[WorkRef]]
"""Brings rows to the state of their work; returns the work to notify workers of."""

MAX_CLOCK_DIFFERENCE = timedelta(minutes=2)
"""If beat's clock and the database's differ by more, one of them is wrong."""
CLOCK_RULE = "clocks_apart"
OVERDUE_CHECK_SECONDS = 30.0
SILENCE_SECONDS = 20
"""A frozen beat keeps its locks in the database for so long."""
LOCK_SECONDS = 2
"""A table that a migration or a person has locked delays each part of a tick by so long, and alerts leave."""
STATEMENT_SECONDS = 10
"""Every statement of a tick is faster by far; one that is not must not stop beat's loop."""
LIMIT_TIME = f"""
select set_config('lock_timeout', '{LOCK_SECONDS}s', true),
       set_config('statement_timeout', '{STATEMENT_SECONDS}s', true)
"""

_log = logging.getLogger(__name__)


def tick(
    engine: Engine,
    host_now: datetime,
    collectors: Sequence[CollectFigures] = COLLECTORS,
    followers: Mapping[str, Follow] = {},
) -> list[WorkRef]:
    """Do all parts of a tick; return the work to notify workers of.

    The time is the database's, because all beats share it. While it differs too much from ``host_now``, no
    run starts and an incident is open; due runs start afterwards. ``collectors`` are the figures of the
    rules; by default ``COLLECTORS``. ``followers`` bring rows of rooms above to the state of their work.
    """
    refs = _guarded("start", engine, lambda tx, now: _start(tx, now, host_now))
    for part, follow in {"run_status": sync_run_status, **followers}.items():
        refs += _guarded(part, engine, follow)
    return refs + report_overdue_runs(engine, collectors)


def report_overdue_runs(engine: Engine, collectors: Sequence[CollectFigures] = COLLECTORS) -> list[WorkRef]:
    """Open incidents for overdue runs and by the rules, and tell people; return the work to notify of."""
    _guarded("overdue", engine, record_overdue)
    _guarded("rules", engine, partial(_check_rules, collectors))
    return _guarded("alerts", engine, record_alerts)


def limit_silence(tx: Connection) -> None:
    """Make the database end ``tx`` if its process sends no statement for ``SILENCE_SECONDS``."""
    tx.exec_driver_sql(f"set local idle_in_transaction_session_timeout = '{SILENCE_SECONDS} s'")


class OverdueMonitor:
    """A thread that calls ``report_overdue_runs`` every ``every_seconds``."""

    def __init__(
        self,
        engine: Engine,
        collectors: Sequence[CollectFigures] = COLLECTORS,
        every_seconds: float = OVERDUE_CHECK_SECONDS,
    ) -> None:
        self._engine, self._collectors, self._every_seconds = engine, collectors, every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="overdue-monitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and wait up to 5 s for it."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            report_overdue_runs(self._engine, self._collectors)


def _start(tx: Connection, now: datetime, host_now: datetime) -> list[WorkRef]:
    apart = abs(now - host_now)
    if apart > MAX_CLOCK_DIFFERENCE:
        seconds = round(apart.total_seconds())
        summary = f"beat's clock and the database's differ by {seconds} s: no job starts until they agree"
        record_incidents(tx, [Incident(None, CLOCK_RULE, f"{now:%Y-%m-%d}", "P1", summary)], now)
        return []
    resolve_incident(tx, None, CLOCK_RULE, None, now, "They agree.")
    return start_due_runs(tx, now)


def _check_rules(collectors: Sequence[CollectFigures], tx: Connection, now: datetime) -> None:
    check_rules(tx, collectors, now)


def _guarded(
    part: str, engine: Engine, act: Callable[[Connection, datetime], list[WorkRef] | None]
) -> list[WorkRef]:
    """Run one part in its own transaction, with the database's time; the other parts run even if it fails.

    A statement that waits longer for a lock than ``LOCK_SECONDS``, or takes longer than
    ``STATEMENT_SECONDS``, fails.
    """
    try:
        with transaction(engine) as tx:
            limit_silence(tx)
            tx.exec_driver_sql(LIMIT_TIME)
            return act(tx, tx.exec_driver_sql("select clock_timestamp()").scalar_one()) or []
    except Exception as fault:  # noqa: BLE001 - the next tick retries; a missing run opens an incident
        _log.error(
            "tick_failed", extra={"fields": {"part": part, "error": f"{type(fault).__name__}: {fault}"}}
        )
        capture_bug(fault, topic=f"tick:{part}")
        return []
