"""Dead man's switch: finds runs that have no end by due time + grace, from rows alone."""

from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents
from services.jobs.complete_run import NOT_RUN
from services.jobs.definition import Covers
from services.jobs.schedule import period_of

# Runs that have not ended, and schedules whose next run is not planned.
_OVERDUE = """
select r.job, r.shop_id, r.period, r.due_at, j.grace_seconds, r.status, r.started_at, null as zone, j.covers
  from job_runs r join jobs j on j.name = r.job
 where r.ended_at is null and r.due_at + make_interval(secs => j.grace_seconds) < %(now)s
union all
select c.job, c.shop_id, null, c.next_due_at, j.grace_seconds, 'not planned', null, c.zone, j.covers
  from job_schedule_state c join jobs j on j.name = c.job and j.retired_at is null
 where c.next_due_at + make_interval(secs => j.grace_seconds) < %(now)s
 order by due_at
"""

OVERDUE_LINES = f"""
select 'jobs_overdue' as kind, job as label, concat_ws(' ', job, period) as name, shop_id, due_at as since,
       null::timestamptz as until, '' as by, status as why
  from ({_OVERDUE}) late
"""  # noqa: S608 - constants only
"""Every overdue run as a condition: see ``services.jobs.conditions``."""

_WHY = {
    "pending": "no worker has started it: is its queue paused, or its worker dead?",
    "running": "started but not finished: check the worker, and `fleet jobs history` for a pending retry",
    "not planned": "it was not planned: is beat alive?",
}


def record_overdue(tx: Connection, now: datetime) -> None:
    """Open an incident "cron did not run" for every overdue run."""
    incidents = []
    for late in tx.exec_driver_sql(_OVERDUE, {"now": now}):
        period = late.period or period_of(Covers(late.covers), late.due_at, ZoneInfo(late.zone))
        summary = (
            f"cron did not run: {late.job} for {period} was due at {late.due_at:%Y-%m-%d %H:%M} UTC and has "
            f"no end {late.grace_seconds / 60:g} min later; {_WHY.get(late.status, late.status)}"
        )
        detail = {
            "status": late.status,
            "due_at": late.due_at,
            "started_at": late.started_at,
            "grace_seconds": late.grace_seconds,
        }
        incidents.append(Incident(late.shop_id, f"{NOT_RUN}:{late.job}", period, "P2", summary, detail))
    record_incidents(tx, incidents, now)
