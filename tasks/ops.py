"""Maintenance tasks: sweep, canary and drift. Their messages carry no work."""

import os
import socket
from typing import Any

from celery import Task

from services.alerts.work_rules import record_dead_work, record_long_pauses
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.sentry import capture_sweep_failed
from services.costs.cap import apply_ai_caps
from services.ledger.backlog import measure_drift, read_backlog
from services.ledger.dispatch import get_sender, send_messages
from services.ledger.pause import end_pauses
from services.ledger.sweep import record_heartbeat
from services.ledger.sweep import sweep as sweep_ledger
from services.ledger.topics import QUEUES
from services.privacy.store import record_unconfirmed_erasures
from services.shops.secrets import delete_retired_secrets
from tasks.celery import app


@app.task(name="sweep", queue="ops", soft_time_limit=50, time_limit=60)
def sweep() -> dict[str, int]:
    """Free expired leases, end expired pauses, and send messages for ready work."""
    depths = get_sender().count_messages(QUEUES)
    try:
        # A separate transaction, because it locks audit chains, for which workers with locked rows wait.
        with transaction() as tx:
            end_pauses(tx, utc_now())
        with transaction() as tx:
            report, refs = sweep_ledger(tx, utc_now(), depths)
    except Exception as fault:
        capture_sweep_failed(fault)
        raise
    send_messages(refs)
    return {"freed": report.freed, "sent_again": report.sent_again}


@app.task(name="canary", bind=True, soft_time_limit=10, time_limit=15)
def canary(self: Task[Any, None], queue: str) -> None:
    """Record a heartbeat, which shows that a worker of ``queue`` takes messages, and its node name."""
    worker = f"{self.request.hostname or socket.gethostname()}:{os.getpid()}"
    with transaction() as tx:
        record_heartbeat(tx, f"queue:{queue}", utc_now(), {"worker": worker})


@app.task(name="measure-drift", queue="ops", soft_time_limit=50, time_limit=60)
def drift() -> dict[str, int]:
    """Record due rows minus messages per queue, open incidents for work that needs a person, and pause the
    AI work of shops at their cap."""
    depths = get_sender().count_messages(QUEUES)
    with transaction() as tx:
        queues = measure_drift(read_backlog(tx, utc_now()), depths)
        found = {line.queue: line.drift for line in queues if line.drift is not None}
        record_heartbeat(tx, "drift", utc_now(), dict(found))
        record_dead_work(tx, utc_now())
        record_unconfirmed_erasures(tx, utc_now())
        delete_retired_secrets(tx, utc_now())
        record_long_pauses(tx, utc_now())
    with transaction() as tx:
        refs = apply_ai_caps(tx, utc_now())
    send_messages(refs)
    return found
