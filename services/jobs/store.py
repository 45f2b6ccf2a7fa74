"""Jobs in the database: a copy of ``beat_schedule.JOBS``, and the schedule that is in force at each shop."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.core.errors import ShopfleetError
from services.core.pg_arrays import text_array
from services.core.settings import get_settings
from services.jobs.definition import CatchUp, Covers, Job

_UPSERT = """
insert into jobs as j (name, topic, title, schedule, zone, per_shop, covers, grace_seconds, catch_up,
                       min_run_seconds, volume, evidence, first_seen_at, retired_at)
values (%(name)s, %(topic)s, %(title)s, %(schedule)s, %(zone)s, %(per_shop)s, %(covers)s, %(grace)s,
        %(catch_up)s, %(min_run)s, %(volume)s, %(evidence)s, %(now)s, null)
on conflict (name) do update set
   topic = excluded.topic, title = excluded.title, schedule = excluded.schedule, zone = excluded.zone,
   per_shop = excluded.per_shop, covers = excluded.covers, grace_seconds = excluded.grace_seconds,
   catch_up = excluded.catch_up, min_run_seconds = excluded.min_run_seconds, volume = excluded.volume,
   evidence = excluded.evidence, retired_at = null
"""

_RETIRE = "update jobs set retired_at = %(now)s where retired_at is null and name <> all(%(names)s::text[])"

_FIND = "select * from jobs where retired_at is null order by name"

SCHEDULES = """
select j.name as job, s.id as shop_id, coalesce(s.slug, '') as slug,
       coalesce(o.schedule, a.schedule, j.schedule) as schedule,
       case j.zone when 'shop' then s.timezone when 'fleet' then %(fleet_zone)s else j.zone end as zone,
       coalesce(o.enabled, a.enabled, true) as enabled, o.schedule is not null as is_own,
       greatest(j.first_seen_at, s.created_at) as begins, greatest(a.changed_at, o.changed_at) as changed_at,
       c.scheduled_until, c.next_due_at, c.schedule as old_schedule, c.zone as old_zone,
       c.enabled as old_enabled
  from jobs j
  left join shops s on j.per_shop
  left join job_overrides a on a.job = j.name and a.shop_id is null
  left join job_overrides o on o.job = j.name and o.shop_id = s.id
  left join job_schedule_state c on c.job = j.name and c.shop_id is not distinct from s.id
 where j.retired_at is null and (s.id is not null or not j.per_shop)
"""
"""Every job at every shop it runs for: the schedule in force, and the one by which runs were last planned."""

_LIST = f"""{SCHEDULES} and (%(job)s::text is null or j.name = %(job)s)
 order by j.name, s.slug nulls first
"""


class JobUnknown(ShopfleetError):
    """There is no job of that name."""


class EffectiveSchedule(NamedTuple):
    """A job at one shop (or for the fleet, ``shop_id`` None) with the schedule that is in force there."""

    job: Job
    shop_id: int | None
    slug: str
    schedule: str
    zone: str
    enabled: bool
    is_own: bool
    """Whether the schedule is this shop's own."""
    next_due_at: datetime | None


def record_jobs(tx: Connection, jobs: Iterable[Job], now: datetime) -> None:
    """Write ``jobs`` to the database; a job that is no longer among them is retired and keeps its history."""
    names = []
    for job in jobs:
        names.append(job.name)
        tx.exec_driver_sql(
            _UPSERT,
            {
                "name": job.name,
                "topic": job.topic,
                "title": job.title,
                "schedule": job.schedule,
                "zone": job.zone,
                "per_shop": job.per_shop,
                "covers": job.covers.value,
                "grace": job.grace.total_seconds(),
                "catch_up": job.catch_up.value,
                "min_run": job.min_run.total_seconds(),
                "volume": job.volume,
                "evidence": job.evidence,
                "now": now,
            },
        )
    tx.exec_driver_sql(_RETIRE, {"names": text_array(names), "now": now})


def find_jobs(tx: Connection) -> dict[str, Job]:
    """Return every job by name."""
    return {row.name: _job(row) for row in tx.exec_driver_sql(_FIND)}


def get_job(tx: Connection, name: str) -> Job:
    """Return the job ``name``; raise ``JobUnknown``, which lists the known names."""
    jobs = find_jobs(tx)
    if name not in jobs:
        known = ", ".join(jobs) or "none yet: beat writes them here when it first leads"
        raise JobUnknown(f"there is no job {name!r}; there are {known}")
    return jobs[name]


def list_schedules(tx: Connection, job: str | None = None) -> list[EffectiveSchedule]:
    """Return each place where a job runs (all jobs, or the one named), with the schedule in force there."""
    jobs = find_jobs(tx)
    values = {"job": job, "fleet_zone": get_settings().fleet_timezone}
    return [
        EffectiveSchedule(
            job=jobs[row.job],
            shop_id=row.shop_id,
            slug=row.slug,
            schedule=row.schedule,
            zone=row.zone,
            enabled=row.enabled,
            is_own=row.is_own,
            next_due_at=row.next_due_at,
        )
        for row in tx.exec_driver_sql(_LIST, values)
    ]


def _job(row: Row[Any]) -> Job:
    return Job(
        name=row.name,
        topic=row.topic,
        title=row.title,
        schedule=row.schedule,
        zone=row.zone,
        per_shop=row.per_shop,
        covers=Covers(row.covers),
        grace=timedelta(seconds=row.grace_seconds),
        catch_up=CatchUp(row.catch_up),
        min_run=timedelta(seconds=row.min_run_seconds),
        volume=row.volume,
        evidence=row.evidence,
    )
