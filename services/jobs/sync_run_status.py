"""Runs follow their work: what became of an item of the ledger becomes of its run."""

from datetime import datetime

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents
from services.jobs.complete_run import FAILED
from services.jobs.sentry_monitors import close_checkins
from services.jobs.telemetry import EndedRun, plan_completed
from services.ledger.accept import WorkRef, record_work

_FAIL = """
update job_runs r
   set status = 'failed', ended_at = coalesce(w.finished_at, %(now)s),
       error = coalesce(w.error_code || ': ' || w.last_error, w.result, w.status)
  from work_queue w
 where w.id = r.work_id and r.ended_at is null and w.status in ('dead', 'discarded')
returning r.id, r.job, r.shop_id, r.period, r.origin, r.started_by, r.request_id, r.work_id, r.status,
          extract(epoch from r.ended_at - coalesce(r.started_at, r.ended_at))::float8,
          w.status = 'dead', coalesce(w.error_code, ''), r.error
"""


def sync_run_status(tx: Connection, now: datetime) -> list[WorkRef]:
    """A run whose work gave up or was discarded has ``failed``; a round whose runs are over is closed.

    One whose work gave up has an open incident until it ends well. A person who discarded work needs none.
    Returns the work to ring for: telling of it. A failed run whose work is requeued is running again.
    """
    rows = tx.exec_driver_sql(_FAIL, {"now": now}).all()
    failed = [EndedRun(*row[:10]) for row in rows]
    gave_up = [(run, row[11], row[12]) for run, row in zip(failed, rows, strict=True) if row[10]]
    record_incidents(tx, [_describe(*one) for one in gave_up], now)
    told = [new for run in failed for new in plan_completed(run, {}, now)]
    return record_work(tx, [*told, *close_checkins(tx, now)], now)


def _describe(run: EndedRun, code: str, error: str) -> Incident:
    """Return the incident of a run that gave up."""
    summary = f"{run.job} for {run.period} failed: {error}"[:500]
    return Incident(
        run.shop_id, f"{FAILED}:{run.job}", run.period, "P2", summary, {"run": run.id, "code": code}
    )
