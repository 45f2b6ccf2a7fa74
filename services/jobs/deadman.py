"""Dead man's switch: finds runs that have no end by due time + grace, from rows alone."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
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


class Overdue(NamedTuple):
    """A run with no end by ``due_at + grace``."""

    job: str
    shop_id: int | None
    period: str
    due_at: datetime
    grace: timedelta
    status: str
    started_at: datetime | None


def find_overdue(tx: Connection, now: datetime) -> list[Overdue]:
    """Return the runs that should have ended by ``now``, the longest overdue first."""
    return [
        Overdue(
            job=row.job,
            shop_id=row.shop_id,
            period=row.period or period_of(Covers(row.covers), row.due_at, ZoneInfo(row.zone)),
            due_at=row.due_at,
            grace=timedelta(seconds=row.grace_seconds),
            status=row.status,
            started_at=row.started_at,
        )
        for row in tx.exec_driver_sql(_OVERDUE, {"now": now})
    ]


def record_overdue(tx: Connection, now: datetime) -> int:
    """Open an incident "cron did not run" for every overdue run; return how many incidents changed."""
    return record_incidents(tx, plan_incidents(find_overdue(tx, now)), now)


def plan_incidents(overdue: Sequence[Overdue]) -> list[Incident]:
    """Return an incident for each of ``overdue``."""
    return [
        Incident(
            late.shop_id,
            f"{NOT_RUN}:{late.job}",
            late.period,
            "P2",
            f"cron did not run: {late.job} for {late.period} was due at {late.due_at:%Y-%m-%d %H:%M} UTC and "
            f"has no end {late.grace.total_seconds() / 60:g} min later; {_WHY.get(late.status, late.status)}",
            {
                "status": late.status,
                "due_at": late.due_at,
                "started_at": late.started_at,
                "grace_seconds": late.grace.total_seconds(),
            },
        )
        for late in overdue
    ]
