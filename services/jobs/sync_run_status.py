"""Copies the status of a run's work item to the run."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from services.alerts.incidents import Incident, record_incidents
from services.jobs.complete_run import FAILED
from services.jobs.sentry_monitors import close_checkins
from services.jobs.telemetry import plan_completed, to_ended_run
from services.ledger.accept import WorkRef, record_work

_FAIL = """
update job_runs r
   set status = 'failed', ended_at = coalesce(w.finished_at, %(now)s),
       error = coalesce(w.error_code || ': ' || w.last_error, w.result, w.status)
  from work_queue w
 where w.id = r.work_id and r.ended_at is null and w.status in ('dead', 'discarded')
returning r.id, r.job, r.shop_id, r.period, r.origin, r.started_by, r.request_id, r.work_id, r.status,
          extract(epoch from r.ended_at - coalesce(r.started_at, r.ended_at))::float8 as seconds,
          w.status = 'dead' as is_dead, coalesce(w.error_code, '') as error_code, r.error
"""


def sync_run_status(tx: Connection, now: datetime) -> list[WorkRef]:
    """Set runs whose work is dead or discarded to ``failed``, and close check-ins whose runs have ended.

    Dead work opens an incident, which stays open until the run ends well; work that a person discarded opens
    none. Returns the work to notify workers of. A failed run whose work is requeued runs again.
    """
    failed = tx.exec_driver_sql(_FAIL, {"now": now}).all()
    record_incidents(tx, [_incident(row) for row in failed if row.is_dead], now)
    events = [new for row in failed for new in plan_completed(to_ended_run(row), {}, now)]
    return record_work(tx, [*events, *close_checkins(tx, now)], now)


def _incident(row: Row[Any]) -> Incident:
    summary = f"{row.job} for {row.period} failed: {row.error}"[:500]
    detail = {"run": row.id, "code": row.error_code}
    return Incident(row.shop_id, f"{FAILED}:{row.job}", row.period, "P2", summary, detail)
