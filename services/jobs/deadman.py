"""Dead-man: what should have run by now and shows no end. Found from rows, whoever is dead."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents
from services.jobs.complete_run import NOT_RUN
from services.jobs.definition import Covers
from services.jobs.overdue import Overdue
from services.jobs.schedule import period_of

# A run that was announced and has not ended, and a clock whose next slot nobody has dealt with.
_OVERDUE = """
select r.job, r.shop_id, r.period, r.due_at, j.grace_seconds, r.status, r.started_at, null as spec, j.covers
  from job_runs r join jobs j on j.name = r.job
 where r.ended_at is null and r.due_at + make_interval(secs => j.grace_seconds) < %(now)s
union all
select c.job, c.shop_id, null, c.next_due_at, j.grace_seconds, 'not planned', null, c.spec, j.covers
  from job_clocks c join jobs j on j.name = c.job and j.retired_at is null
 where c.next_due_at + make_interval(secs => j.grace_seconds) < %(now)s
 order by 4
"""

OVERDUE_LINES = f"""
select 'jobs_overdue' as kind, job as label, concat_ws(' ', job, period) as name, shop_id, due_at as since,
       null::timestamptz as until, '' as by, status as why
  from ({_OVERDUE}) late
"""  # noqa: S608 - the text is our own
"""Everything overdue as a condition: see ``services.jobs.conditions``."""

_WHY = {
    "pending": "no worker has begun it: is its queue paused, or its worker dead?",
    "running": "it has begun and not ended: is its worker alive, or does it wait for another try?",
    "not planned": "nobody has planned it: is beat alive?",
}


def find_overdue(tx: Connection, now: datetime) -> list[Overdue]:
    """Return what should have ended by ``now``, the longest overdue first."""
    rows = tx.exec_driver_sql(_OVERDUE, {"now": now})
    return [
        Overdue(
            job, shop_id, period or _period(covers, due, spec), due, timedelta(seconds=grace), status, began
        )
        for job, shop_id, period, due, grace, status, began, spec, covers in rows
    ]


def record_overdue(tx: Connection, now: datetime) -> int:
    """Everything overdue has its open incident "cron did not run". Returns how many changed."""
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


def _period(covers: str, due_at: datetime, spec: str) -> str:
    return period_of(Covers(covers), due_at, ZoneInfo(spec.split("|")[1]))
