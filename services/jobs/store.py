"""The jobs as the database knows them: what ``beat_schedule`` says, and what people changed since."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

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

_FIND = """
select name, topic, title, schedule, zone, per_shop, covers, grace_seconds, catch_up, min_run_seconds, volume,
       evidence
  from jobs where retired_at is null order by name
"""


class JobUnknown(ShopfleetError):
    """There is no job of that name."""


class EffectiveSchedule(NamedTuple):
    """A job at one shop (or the fleet, ``shop_id`` None), with the schedule that holds there now."""

    job: Job
    shop_id: int | None
    slug: str
    schedule: str
    zone: str
    enabled: bool
    is_own: bool
    """Whether the schedule is this shop's own."""
    next_due_at: datetime | None


_PLACES = """
select j.name, s.id, coalesce(s.slug, ''), coalesce(o.schedule, a.schedule, j.schedule),
       case j.zone when 'shop' then s.timezone when 'fleet' then %(fleet_zone)s else j.zone end,
       coalesce(o.enabled, a.enabled, true), o.schedule is not null, c.next_due_at
  from jobs j
  left join shops s on j.per_shop
  left join job_overrides a on a.job = j.name and a.shop_id is null
  left join job_overrides o on o.job = j.name and o.shop_id = s.id
  left join job_clocks c on c.job = j.name and c.shop_id is not distinct from s.id
 where j.retired_at is null and (s.id is not null or not j.per_shop)
   and (%(job)s::text is null or j.name = %(job)s)
 order by j.name, s.slug nulls first
"""


def record_jobs(tx: Connection, jobs: Iterable[Job], now: datetime) -> None:
    """The database knows exactly ``jobs``; one that is gone from the table keeps its history."""
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
    return {
        row[0]: Job(
            name=row[0],
            topic=row[1],
            title=row[2],
            schedule=row[3],
            zone=row[4],
            per_shop=row[5],
            covers=Covers(row[6]),
            grace=timedelta(seconds=row[7]),
            catch_up=CatchUp(row[8]),
            min_run=timedelta(seconds=row[9]),
            volume=row[10],
            evidence=row[11],
        )
        for row in tx.exec_driver_sql(_FIND)
    }


def get_job(tx: Connection, name: str) -> Job:
    """Return the job ``name``; raise ``JobUnknown`` naming those there are."""
    jobs = find_jobs(tx)
    if name not in jobs:
        there = ", ".join(jobs) or "none yet: beat writes them here when it first leads"
        raise JobUnknown(f"there is no job {name!r}; there are {there}")
    return jobs[name]


def list_schedules(tx: Connection, job: str | None = None) -> list[EffectiveSchedule]:
    """Return where each job runs (all, or the one named), with the schedule that holds there."""
    jobs = find_jobs(tx)
    values = {"job": job, "fleet_zone": get_settings().fleet_timezone}
    return [EffectiveSchedule(jobs[row[0]], *row[1:]) for row in tx.exec_driver_sql(_PLACES, values)]
