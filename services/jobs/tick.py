"""One tick of time: runs that are due begin, ended work ends its run, and what is overdue is said.

Beat does this while it leads. Everybody who is awake may ``watch``: the dead cannot report themselves.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.core.db import transaction
from services.core.sentry import capture_bug
from services.jobs.deadman import record_overdue
from services.jobs.operator_mail import record_notices
from services.jobs.scheduler import start_due_runs
from services.jobs.sync_run_status import sync_run_status
from services.ledger.accept import WorkRef

CLOCKS_APART = timedelta(minutes=2)
"""Two clocks that differ by more than this: one of them jumped, and nobody here can know which."""
CLOCK_RULE = "clocks_apart"

_log = logging.getLogger(__name__)


def tick(engine: Engine, host_now: datetime) -> list[WorkRef]:
    """Time has been kept once. Returns the work to ring for.

    The database's clock decides, as it is one for all beats. While it and this host's disagree nothing
    begins, and that is an incident: what is due meanwhile begins when they agree again.
    """
    refs = _guarded("start", engine, lambda tx: _start(tx, host_now))
    refs += _guarded("follow", engine, lambda tx: sync_run_status(tx, _read_clock(tx)))
    return refs + watch(engine)


def watch(engine: Engine) -> list[WorkRef]:
    """What should have ended by now and has not, has its incident, and the operator has a mail about it.

    Returns the work to ring for.
    """
    _guarded("watch", engine, _watch)
    return _guarded("mail", engine, lambda tx: record_notices(tx, _read_clock(tx)))


def _watch(tx: Connection) -> list[WorkRef]:
    record_overdue(tx, _read_clock(tx))
    return []


def _start(tx: Connection, host_now: datetime) -> list[WorkRef]:
    now = _read_clock(tx)
    apart = abs(now - host_now)
    if apart > CLOCKS_APART:
        seconds = round(apart.total_seconds())
        summary = f"beat's clock and the database's are {seconds} s apart: no job begins until they agree"
        record_incidents(tx, [Incident(None, CLOCK_RULE, f"{now:%Y-%m-%d}", "P1", summary)], now)
        return []
    resolve_incident(tx, None, CLOCK_RULE, None, now, f"They agreed at {now:%H:%M} UTC.")
    return start_due_runs(tx, now)


def _guarded(part: str, engine: Engine, act: Callable[[Connection], list[WorkRef]]) -> list[WorkRef]:
    """Do one part in its own transaction. One that fails must not keep the others from being done."""
    try:
        with transaction(engine) as tx:
            return act(tx)
    except Exception as fault:  # noqa: BLE001 - the next tick tries again, and the dead-man sees what lacks
        _log.error(
            "tick failed", extra={"fields": {"part": part, "error": f"{type(fault).__name__}: {fault}"}}
        )
        capture_bug(fault, topic=f"tick:{part}")
        return []


def _read_clock(tx: Connection) -> datetime:
    now: datetime = tx.exec_driver_sql("select clock_timestamp()").scalar_one()
    return now
