"""One tick: starts due runs, ends the runs of ended work, and opens incidents for what is overdue.

The leading beat ticks. Other processes only ``watch``, because a dead beat cannot report itself.
"""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.core.db import transaction
from services.core.sentry import capture_bug
from services.jobs.complete_run import sync_run_status
from services.jobs.conditions import record_overdue
from services.jobs.operator_mail import record_notices
from services.jobs.scheduler import start_due_runs
from services.ledger.accept import WorkRef

CLOCKS_APART = timedelta(minutes=2)
"""Beat's clock and the database's differ by more than this: one of them is wrong."""
CLOCK_RULE = "clocks_apart"
WATCH_SECONDS = 30.0

_log = logging.getLogger(__name__)


def tick(engine: Engine, host_now: datetime) -> list[WorkRef]:
    """Do all parts of a tick; return the work to notify workers of.

    The database's clock counts, as it is one for all beats. While it differs from ``host_now`` no run starts,
    and an incident is open; what is due meanwhile starts afterwards.
    """
    refs = _guarded("start", engine, lambda tx, now: _start(tx, now, host_now))
    return refs + _guarded("follow", engine, sync_run_status) + watch(engine)


def watch(engine: Engine) -> list[WorkRef]:
    """Open incidents for overdue runs, and mail the operator; return the work to notify workers of."""
    _guarded("watch", engine, record_overdue)
    return _guarded("mail", engine, record_notices)


class OverdueMonitor:
    """A thread that calls ``watch`` every ``every_seconds`` until it is stopped."""

    def __init__(self, engine: Engine, every_seconds: float = WATCH_SECONDS) -> None:
        self._engine, self._every_seconds = engine, every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="overdue-monitor", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and wait up to 5 s for it."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            watch(self._engine)


def _start(tx: Connection, now: datetime, host_now: datetime) -> list[WorkRef]:
    apart = abs(now - host_now)
    if apart > CLOCKS_APART:
        seconds = round(apart.total_seconds())
        summary = f"beat's clock and the database's are {seconds} s apart: no job begins until they agree"
        record_incidents(tx, [Incident(None, CLOCK_RULE, f"{now:%Y-%m-%d}", "P1", summary)], now)
        return []
    resolve_incident(tx, None, CLOCK_RULE, None, now, f"They agreed at {now:%H:%M} UTC.")
    return start_due_runs(tx, now)


def _guarded(
    part: str, engine: Engine, act: Callable[[Connection, datetime], list[WorkRef] | None]
) -> list[WorkRef]:
    """Do one part in its own transaction, at the database's time; the others run even if it fails."""
    try:
        with transaction(engine) as tx:
            return act(tx, tx.exec_driver_sql("select clock_timestamp()").scalar_one()) or []
    except Exception as fault:  # noqa: BLE001 - the next tick tries again, and the dead-man sees what is missing
        _log.error(
            "tick failed", extra={"fields": {"part": part, "error": f"{type(fault).__name__}: {fault}"}}
        )
        capture_bug(fault, topic=f"tick:{part}")
        return []
