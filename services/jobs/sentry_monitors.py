"""Rounds: the runs that one monitor of Sentry Crons watches together, with one check-in.

A monitor has one schedule in one zone, so a job of all shops has one for each zone it runs in, and a shop
with a schedule of its own has its own. Without a ``SENTRY_DSN`` nothing is planned.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple, Protocol
from uuid import UUID, uuid5

import orjson
from sqlalchemy import Connection

from services.core.pg_arrays import int_array, text_array
from services.core.settings import get_settings
from services.jobs.definition import SHOP_ZONE, Job
from services.ledger.work import FLEET, NewWork

NAMESPACE = UUID("4a1f6a0c-93c7-4a57-8f0e-52f0f9f1d6ab")
"""A check-in's id is made of its round under this name: one that is sent again updates the first."""
TOPIC = "sentry_checkin"
LONGEST_SLUG = 50
"""Characters of a monitor's slug. Source: Sentry, ``DEFAULT_SLUG_MAX_LENGTH``."""

_NOT_IN_SLUG = re.compile(r"[^a-z0-9]+")


class Started(Protocol):
    """What a round needs to know of a run; the rest is in its row."""

    @property
    def id(self) -> int:
        """``job_runs.id``."""
        ...


class MonitoredRun(NamedTuple):
    """A run with the schedule it began by. ``own_slug`` is its shop's where that has its own."""

    run_id: int
    job: str
    period: str
    zone: str
    schedule: str
    own_slug: str | None


class MonitorCheckIn(NamedTuple):
    """A round as its row has it."""

    id: int
    monitor: str
    config: Mapping[str, Any]
    opened_at: datetime


_WATCHED = """
select r.id, r.job, r.period,
       case j.zone when 'shop' then coalesce(s.timezone, %(fleet_zone)s) when 'fleet' then %(fleet_zone)s
                   else j.zone end,
       coalesce(o.schedule, a.schedule, j.schedule), case when o.schedule is not null then s.slug end
  from job_runs r join jobs j on j.name = r.job
  left join shops s on s.id = r.shop_id
  left join job_overrides a on a.job = r.job and a.shop_id is null
  left join job_overrides o on o.job = r.job and o.shop_id = r.shop_id
 where r.id = any(%(id)s::bigint[])
"""

# A run that begins while its monitor's round of that period is open belongs to it, whoever began it.
# ``xmax`` is zero on a row that this statement inserted.
_OPEN = """
insert into job_rounds as r (job, monitor, period, config, opened_at)
select v.job, v.monitor, v.period, v.config::jsonb, %(now)s
  from unnest(%(job)s::text[], %(monitor)s::text[], %(period)s::text[], %(config)s::text[])
       as v(job, monitor, period, config)
 order by v.monitor, v.period
on conflict (monitor, period) where closed_at is null do update set monitor = excluded.monitor
returning r.id, r.monitor, r.config, r.opened_at, r.period, r.xmax = 0
"""

_JOIN = """
update job_runs r set round_id = v.round_id
  from unnest(%(id)s::bigint[], %(round_id)s::bigint[]) as v(id, round_id) where r.id = v.id
"""

_IS_OVER = "not exists (select from job_runs u where u.round_id = r.id and u.ended_at is null)"

_LOCK_OVER = f"select id from job_rounds r where closed_at is null and {_IS_OVER} for update skip locked"  # noqa: S608

# A statement of its own: it sees a run that joined its round just before the lock was got.
_CLOSE = f"""
update job_rounds r set closed_at = %(now)s
 where r.id = any(%(id)s::bigint[]) and closed_at is null and {_IS_OVER}
returning r.id, r.monitor, r.config, r.opened_at,
  (select coalesce(bool_and(u.status = 'done'), false) from job_runs u where u.round_id = r.id),
  (select extract(epoch from max(u.ended_at) - least(min(u.started_at), max(u.ended_at)))::float8
     from job_runs u where u.round_id = r.id)
"""  # noqa: S608 - the texts are our own


def open_checkins(
    tx: Connection, runs: Sequence[Started], jobs: Mapping[str, Job], now: datetime
) -> list[NewWork]:
    """Each of ``runs`` belongs to an open round. Returns the ``in_progress`` of rounds that are new."""
    settings = get_settings()
    if not settings.sentry_dsn or not runs:
        return []
    values = {"id": int_array(run.id for run in runs), "fleet_zone": settings.fleet_timezone}
    watched = [MonitoredRun(*row) for row in tx.exec_driver_sql(_WATCHED, values)]
    named = {run.run_id: (name_monitor(jobs[run.job], run), run.period) for run in watched}
    first = {named[run.run_id]: run for run in watched}
    new = {
        "now": now,
        "job": text_array([run.job for run in first.values()]),
        "monitor": text_array([monitor for monitor, _ in first]),
        "period": text_array([period for _, period in first]),
        "config": text_array([_config(jobs[run.job], run) for run in first.values()]),
    }
    rounds: dict[tuple[str, str], int] = {}
    told: list[NewWork] = []
    for *row, period, is_new in tx.exec_driver_sql(_OPEN, new):
        found = MonitorCheckIn(*row)
        rounds[found.monitor, period] = found.id
        if is_new:
            told.append(_plan_checkin(found, "in_progress"))
    joined = {"id": int_array(named), "round_id": int_array(rounds[of] for of in named.values())}
    tx.exec_driver_sql(_JOIN, joined)
    return told


def close_checkins(tx: Connection, now: datetime) -> list[NewWork]:
    """A round whose runs are all over is closed, once. Returns its ``ok``, or ``error`` if any failed."""
    over = int_array(tx.exec_driver_sql(_LOCK_OVER).scalars())
    closed = tx.exec_driver_sql(_CLOSE, {"id": over, "now": now}).all()
    if not get_settings().sentry_dsn:
        return []
    return [
        _plan_checkin(MonitorCheckIn(*row), "ok" if all_done else "error", seconds or 0.0)
        for *row, all_done, seconds in closed
    ]


def find_closed(tx: Connection, round_ids: Iterable[int]) -> set[int]:
    """Return those of ``round_ids`` that are closed."""
    values = {"id": int_array(round_ids)}
    sql = "select id from job_rounds where id = any(%(id)s::bigint[]) and closed_at is not null"
    return set(tx.exec_driver_sql(sql, values).scalars())


def name_monitor(job: Job, run: MonitoredRun) -> str:
    """Return the slug of the monitor that watches ``run``: its job's name, and what sets it apart."""
    if run.own_slug is not None:
        slug = f"{job.name}-at-{run.own_slug}"
    elif job.zone == SHOP_ZONE:
        zone = _NOT_IN_SLUG.sub("-", run.zone.lower().replace("+", "plus"))
        slug = f"{job.name}-{zone}"
    else:
        slug = job.name
    if len(slug) <= LONGEST_SLUG:
        return slug
    return f"{slug[: LONGEST_SLUG - 9]}-{sha256(slug.encode()).hexdigest()[:8]}"


def _config(job: Job, run: MonitoredRun) -> str:
    """Return the monitor's settings as Sentry wants them; its periods are whole minutes."""
    grace_minutes = max(1, math.ceil(job.grace / timedelta(minutes=1)))
    return orjson.dumps(
        {
            "schedule": {"type": "crontab", "value": run.schedule},
            "timezone": run.zone,
            "checkin_margin": grace_minutes,
            "max_runtime": grace_minutes,
        }
    ).decode()


def _plan_checkin(of: MonitorCheckIn, status: str, duration_seconds: float | None = None) -> NewWork:
    payload = {
        "round": of.id,
        "check_in_id": uuid5(NAMESPACE, f"{of.monitor}:{of.id}:{of.opened_at.isoformat()}").hex,
        "monitor_slug": of.monitor,
        "status": status,
        "monitor_config": of.config,
    }
    if duration_seconds is not None:
        payload["duration"] = round(duration_seconds, 3)
    return NewWork(shop_id=FLEET, topic=TOPIC, key=of.monitor, payload=payload, origin="job")
