"""Conditions: states that need a person while webhooks are accepted and work runs, such as overdue runs.

Each kind of condition is a query in ``_LINES``; all of them return the columns of ``PAUSE_LINES``.
"""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row

from services.alerts.incidents import OPEN_LINES, Incident, record_incidents
from services.alerts.recorded_rules import NOT_RUN
from services.core.times import format_time
from services.jobs.definition import START_WITHIN, Covers
from services.jobs.schedule import period_of
from services.ledger.backoff import BACKOFF_LINES
from services.ledger.health import DEGRADING, Conditions
from services.ledger.pause import PAUSE_LINES
from services.shops.connections import BROKEN_LINES

LINES_PER_KIND = 50
"""Most lines shown of one kind, oldest first; the counts are complete."""

FAILED_LINES = """
select 'runs_failed' as kind, r.job as label, r.job || ' ' || r.period as name, r.shop_id,
       r.ended_at as since, null::timestamptz as until, r.started_by as by, coalesce(r.error, '') as why
  from job_runs r
  join jobs j on j.name = r.job and j.retired_at is null
  left join work_queue w on w.id = r.work_id
 where r.status = 'failed' and r.ended_at > %(now)s::timestamptz - interval '35 days'
   and w.status is distinct from 'discarded'
   and not exists (select from job_runs u where u.job = r.job and u.shop_id = r.shop_id
                      and u.period > r.period and u.status in ('done', 'failed'))
   and not exists (select from job_runs u where u.job = r.job and u.shop_id is null and r.shop_id is null
                      and u.period > r.period and u.status in ('done', 'failed'))
"""
"""At most one failed run for each (job, shop): the one whose period is the newest that ended.

The condition disappears when a run of a later period ends, when the same period runs again, when a person
discards the work, or 35 days after the run's end (enough for a monthly job). ``skipped`` runs do not count.
The periods of one job have one format, so they sort as text. Two ``not exists``, because ``is not distinct
from`` uses no index.
"""

_START_GRACE = f"least(j.grace_seconds, {START_WITHIN.total_seconds():.0f})"

# Runs that have not started or ended in time, and schedules whose next run is not planned.
_OVERDUE = f"""
select job, shop_id, period, due_at, grace_seconds, status, started_at, zone, covers
  from (
    select r.job, r.shop_id, r.period, r.due_at, r.status, r.started_at, null as zone, j.covers,
           case when r.started_at is null then {_START_GRACE} else j.grace_seconds end as grace_seconds
      from job_runs r join jobs j on j.name = r.job
     where r.ended_at is null
    union all
    select c.job, c.shop_id, null, c.next_due_at, 'not planned', null, c.zone, j.covers, {_START_GRACE}
      from job_schedule_state c join jobs j on j.name = c.job and j.retired_at is null
  ) expected
 where due_at + make_interval(secs => grace_seconds) < %(now)s
 order by due_at
"""  # noqa: S608 - constants only

OVERDUE_LINES = f"""
select 'jobs_overdue' as kind, job as label, concat_ws(' ', job, period) as name, shop_id, due_at as since,
       null::timestamptz as until, '' as by, status as why
  from ({_OVERDUE}) late
"""  # noqa: S608 - constants only
_REASONS = {
    "pending": "no worker has started it: check whether its queue is paused and its worker runs",
    "running": "started but not finished: check the worker, and `fleet jobs history` for a pending retry",
    "not planned": "it was not planned: check whether beat runs",
}

_LINES = " union all ".join(
    (PAUSE_LINES, BACKOFF_LINES, OPEN_LINES, BROKEN_LINES, FAILED_LINES, OVERDUE_LINES)
)

_COUNT = f"select kind, label, count(*) from ({_LINES}) lines group by kind, label"  # noqa: S608 - constants only

_FIND = f"""
select kind, label, name, shop, since, until, by, why from (
  select l.*, coalesce(s.slug, l.shop_id::text) as shop,
         row_number() over (partition by l.kind order by l.since, l.name, l.shop_id) as place
    from ({_LINES}) l left join shops s on s.id = l.shop_id
   where l.kind = any(%(kind)s::text[])
) lines
 where place <= %(most)s order by array_position(%(kind)s::text[], kind), place
"""  # noqa: S608


ConditionLine = Row[Any]
"""A condition: ``kind``, ``label``, ``name``, ``shop``, ``since``, ``until``, ``by``, ``why``. Not public.

``name`` is a scope, a rule, a provider, or a job with its period; ``shop`` is a slug, or None for the fleet.
"""


def count_conditions(tx: Connection, now: datetime) -> Conditions:
    """Return the number of conditions by kind and label, without shops, persons and reasons."""
    found: dict[str, dict[str, int]] = {}
    for kind, label, count in tx.exec_driver_sql(_COUNT, {"now": now}):
        found.setdefault(kind, {})[label] = count
    return found


def list_conditions(tx: Connection, now: datetime) -> list[ConditionLine]:
    """Return the conditions by kind, oldest first, at most ``LINES_PER_KIND`` of each kind."""
    values = {"now": now, "kind": list(DEGRADING), "most": LINES_PER_KIND}
    return [*tx.exec_driver_sql(_FIND, values)]


def record_overdue(tx: Connection, now: datetime) -> None:
    """Open an incident "cron did not run" for every run that has not started or ended in time."""
    incidents = []
    for late in tx.exec_driver_sql(_OVERDUE, {"now": now}):
        period = late.period or period_of(Covers(late.covers), late.due_at, ZoneInfo(late.zone))
        summary = (
            f"cron did not run: {late.job} for {period} was due at {format_time(late.due_at)} and has "
            f"no {'end' if late.started_at else 'start'} {late.grace_seconds / 60:g} min later; "
            f"{_REASONS.get(late.status, late.status)}"
        )
        detail = {
            "status": late.status,
            "due_at": late.due_at,
            "started_at": late.started_at,
            "grace_seconds": late.grace_seconds,
        }
        incidents.append(Incident(late.shop_id, f"{NOT_RUN}:{late.job}", period, "P2", summary, detail))
    record_incidents(tx, incidents, now)
