"""Sentry Crons: one check-in covers the runs of a job in one zone for one period.

A Sentry monitor has one schedule in one zone. A job of all shops therefore has a monitor per zone, and one
for each shop with its own schedule. Without ``SENTRY_DSN`` no check-in is sent.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5

import orjson
from sqlalchemy import Connection, Row

from services.core.errors import WorkError
from services.core.pg_arrays import arrays, int_array
from services.core.settings import get_settings
from services.jobs.definition import SHOP_ZONE, START_WITHIN, Job
from services.ledger.work import FLEET, Done, NewWork, Outcome, PreparedCall, WorkItem
from services.providers.http import get_http_client

NAMESPACE = UUID("4a1f6a0c-93c7-4a57-8f0e-52f0f9f1d6ab")
"""Namespace of check-in ids, which are derived from the row: a repeated check-in updates the first one."""
TOPIC = "sentry_checkin"
LONGEST_SLUG = 50
"""Source: Sentry, ``DEFAULT_SLUG_MAX_LENGTH``."""

_NOT_IN_SLUG = re.compile(r"[^a-z0-9]+")

_MONITORED = """
select r.id, r.job, r.period,
       case j.zone when 'shop' then coalesce(s.timezone, %(fleet_zone)s) when 'fleet' then %(fleet_zone)s
                   else j.zone end as zone,
       coalesce(o.schedule, a.schedule, j.schedule) as schedule,
       case when o.schedule is not null then s.slug end as own_slug
  from job_runs r join jobs j on j.name = r.job
  left join shops s on s.id = r.shop_id
  left join job_overrides a on a.job = r.job and a.shop_id is null
  left join job_overrides o on o.job = r.job and o.shop_id = r.shop_id
 where r.id = any(%(id)s::bigint[])
"""

# A run that starts while a check-in of its monitor and period is open joins it. ``xmax`` is zero on new rows.
_OPEN = """
insert into monitor_checkins as c (job, monitor, period, config, opened_at)
select v.job, v.monitor, v.period, v.config::jsonb, %(now)s
  from unnest(%(job)s::text[], %(monitor)s::text[], %(period)s::text[], %(config)s::text[])
       as v(job, monitor, period, config)
 order by v.monitor, v.period
on conflict (monitor, period) where closed_at is null do update set monitor = excluded.monitor
returning c.id, c.monitor, c.config, c.opened_at, c.period, c.xmax = 0 as is_new
"""

_JOIN = """
update job_runs r set checkin_id = v.checkin_id
  from unnest(%(id)s::bigint[], %(checkin_id)s::bigint[]) as v(id, checkin_id) where r.id = v.id
"""

_HAS_ENDED = "not exists (select from job_runs r where r.checkin_id = c.id and r.ended_at is null)"

_LOCK_ENDED = f"""
select id from monitor_checkins c where closed_at is null and {_HAS_ENDED} for update skip locked
"""  # noqa: S608

# A separate statement, because it must see a run that joined just before the lock was taken.
_CLOSE = f"""
update monitor_checkins c set closed_at = %(now)s
 where c.id = any(%(id)s::bigint[]) and closed_at is null and {_HAS_ENDED}
returning c.id, c.monitor, c.config, c.opened_at,
  (select coalesce(bool_and(r.status = 'done'), false) from job_runs r where r.checkin_id = c.id) as all_done,
  (select extract(epoch from max(r.ended_at) - least(min(r.started_at), max(r.ended_at)))::float8
     from job_runs r where r.checkin_id = c.id) as seconds
"""  # noqa: S608 - constants only

_FIND_CLOSED = "select id from monitor_checkins where id = any(%(id)s::bigint[]) and closed_at is not null"


def open_checkins(
    tx: Connection, run_ids: Sequence[int], jobs: Mapping[str, Job], now: datetime
) -> list[NewWork]:
    """Assign each run to an open check-in; return the work that sends ``in_progress`` for new check-ins."""
    settings = get_settings()
    if not settings.sentry_dsn or not run_ids:
        return []
    values = {"id": int_array(run_ids), "fleet_zone": settings.fleet_timezone}
    runs = tx.exec_driver_sql(_MONITORED, values).all()
    key_of = {run.id: (name_monitor(jobs[run.job], run.zone, run.own_slug), run.period) for run in runs}
    first = {key_of[run.id]: run for run in runs}
    new = [(run.job, *key, _config(jobs[run.job], run)) for key, run in first.items()]
    values = arrays("job monitor period config", new)
    opened = tx.exec_driver_sql(_OPEN, {**values, "now": now}).all()
    ids = {(row.monitor, row.period): row.id for row in opened}
    joined = [(run_id, ids[key]) for run_id, key in key_of.items()]
    tx.exec_driver_sql(_JOIN, arrays("id checkin_id", joined))
    return [_plan_checkin(row, "in_progress") for row in opened if row.is_new]


def close_checkins(tx: Connection, now: datetime) -> list[NewWork]:
    """Close check-ins whose runs have all ended; return the work that sends their ``ok`` or ``error``."""
    ended = int_array(tx.exec_driver_sql(_LOCK_ENDED).scalars())
    closed = tx.exec_driver_sql(_CLOSE, {"id": ended, "now": now}).all()
    if not get_settings().sentry_dsn:
        return []
    return [_plan_checkin(row, "ok" if row.all_done else "error", row.seconds or 0.0) for row in closed]


class SentryCheckinHandler:
    """Handler of ``sentry_checkin``. A check-in that is sent twice counts once, by its id."""

    def prepare(
        self,
        tx: Connection,
        items: Sequence[WorkItem],
        now: datetime,  # noqa: ARG002 - part of the protocol
    ) -> Sequence[PreparedCall | Outcome]:
        """Return the call of each item, or ``superseded`` for the ``in_progress`` of a closed check-in.

        Sent after the ``ok`` of the same id, it would open the check-in again.
        """
        settings = get_settings()
        if not settings.sentry_dsn:
            return [Done("disabled") for _ in items]
        ids = int_array(item.payload["checkin"] for item in items)
        closed = set(tx.exec_driver_sql(_FIND_CLOSED, {"id": ids}).scalars())
        return [
            Done("superseded")
            if item.payload["status"] == "in_progress" and item.payload["checkin"] in closed
            else PreparedCall(
                item=item, act=partial(_send, settings.sentry_dsn, settings.environment, item.payload)
            )
            for item in items
        ]


def _send(dsn: str, environment: str, payload: Mapping[str, Any]) -> Outcome:
    # Imported here, because every worker loads this module and few fleets have a DSN.
    from services.providers.sentry_envelopes import send_checkin

    checkin = {name: value for name, value in payload.items() if name != "checkin"}
    try:
        send_checkin(get_http_client(), dsn, checkin | {"environment": environment})
    except WorkError as fault:
        return fault
    return Done("delivered")


def name_monitor(job: Job, zone: str, own_slug: str | None) -> str:
    """Return a monitor's slug: the job's name with its zone, or with the shop that has its own schedule."""
    if own_slug is not None:
        slug = f"{job.name}-at-{own_slug}"
    elif job.zone == SHOP_ZONE:
        slug = f"{job.name}-{_NOT_IN_SLUG.sub('-', zone.lower().replace('+', 'plus'))}"
    else:
        slug = job.name
    if len(slug) <= LONGEST_SLUG:
        return slug
    return f"{slug[: LONGEST_SLUG - 9]}-{sha256(slug.encode()).hexdigest()[:8]}"


def _config(job: Job, run: Row[Any]) -> str:
    """Return the monitor's configuration for Sentry, with durations in whole minutes."""
    start, end = (
        max(1, math.ceil(grace / timedelta(minutes=1))) for grace in (min(job.grace, START_WITHIN), job.grace)
    )
    return orjson.dumps(
        {
            "schedule": {"type": "crontab", "value": run.schedule},
            "timezone": run.zone,
            "checkin_margin": start,
            "max_runtime": end,
        }
    ).decode()


def _plan_checkin(row: Row[Any], status: str, duration_seconds: float | None = None) -> NewWork:
    name = f"{row.monitor}:{row.id}:{row.opened_at.isoformat()}"
    payload = {
        "checkin": row.id,
        "check_in_id": uuid5(NAMESPACE, name).hex,
        "monitor_slug": row.monitor,
        "status": status,
        "monitor_config": row.config,
    }
    if duration_seconds is not None:
        payload["duration"] = round(duration_seconds, 3)
    return NewWork(shop_id=FLEET, topic=TOPIC, key=row.monitor, payload=payload, origin="job")
