"""Jobs in the database: a copy of ``beat_schedule.JOBS``, changes by persons, and the schedules in force."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import NamedTuple, Unpack

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert

from services.audit.append import Author, Mutation, append_change
from services.core.errors import InputInvalid, suggest
from services.core.settings import get_settings
from services.jobs.definition import CatchUp, Covers, Job
from services.jobs.schedule import parse_schedule
from services.jobs.tables import job_overrides, jobs
from services.shops.shops import Shop

_FIND = """
select name, topic, title, schedule, zone, per_shop, covers, make_interval(secs => grace_seconds) as grace,
       catch_up, make_interval(secs => min_run_seconds) as min_run, volume, evidence
  from jobs where retired_at is null order by name
"""

SCHEDULES = """
select j.name as job, s.id as shop_id, coalesce(s.slug, '') as slug,
       coalesce(o.schedule, a.schedule, j.schedule) as schedule,
       case j.zone when 'shop' then s.timezone when 'fleet' then %(fleet_zone)s else j.zone end as zone,
       coalesce(o.enabled, a.enabled, true) as enabled, o.schedule is not null as is_own,
       greatest(j.first_seen_at, s.created_at) as begins, greatest(a.changed_at, o.changed_at) as changed_at,
       c.scheduled_until, c.next_due_at, c.schedule as old_schedule, c.zone as old_zone,
       c.enabled as old_enabled
  from jobs j
  left join shops s on j.per_shop and not exists (
       select from shop_config r where r.shop_id = s.id and r.settings ? 'removed_at')
  left join job_overrides a on a.job = j.name and a.shop_id is null
  left join job_overrides o on o.job = j.name and o.shop_id = s.id
  left join job_schedule_state c on c.job = j.name and c.shop_id is not distinct from s.id
 where j.retired_at is null and (s.id is not null or not j.per_shop)
"""
"""Every job at every place where it runs: the schedule in force, and the one used for the last planning."""

_LIST = f"""
select job, shop_id, slug, schedule, zone, enabled, is_own, next_due_at from ({SCHEDULES}) places
 where (%(job)s::text is null or job = %(job)s) and (%(shop_id)s::int is null or shop_id = %(shop_id)s)
 order by job, slug
"""  # noqa: S608 - constants only


class JobUnknown(InputInvalid):
    """There is no job with this name."""


class EffectiveSchedule(NamedTuple):
    """A job at one shop (``shop_id`` None: for the fleet) with the schedule in force there."""

    job: Job
    shop_id: int | None
    slug: str
    schedule: str
    zone: str
    enabled: bool
    is_own: bool
    """Whether the shop has its own schedule."""
    next_due_at: datetime | None


def record_jobs(tx: Connection, wanted: Iterable[Job], now: datetime) -> None:
    """Upsert the jobs ``wanted``; retire all others, whose history stays."""
    names = []
    for job in wanted:
        names.append(job.name)
        row = {name: value for name, value in asdict(job).items() if name not in ("grace", "min_run")} | {
            "covers": job.covers.value,
            "catch_up": job.catch_up.value,
            "grace_seconds": job.grace.total_seconds(),
            "min_run_seconds": job.min_run.total_seconds(),
            "retired_at": None,
        }
        statement = insert(jobs).values(**row, first_seen_at=now)
        tx.execute(statement.on_conflict_do_update(index_elements=["name"], set_=row))
    others = jobs.c.retired_at.is_(None) & jobs.c.name.not_in(names)
    tx.execute(update(jobs).where(others).values(retired_at=now))


def find_jobs(tx: Connection) -> dict[str, Job]:
    """Return every job by name."""
    return {
        row["name"]: Job(**row | {"covers": Covers(row["covers"]), "catch_up": CatchUp(row["catch_up"])})
        for row in map(dict, tx.exec_driver_sql(_FIND).mappings())
    }


def get_job(tx: Connection, name: str) -> Job:
    """Return the job ``name``; raise ``JobUnknown``, which lists the known names."""
    found = find_jobs(tx)
    if name not in found:
        raise JobUnknown(f"there is no job {name!r}: it {suggest(name, found, 'fleet jobs list')}")
    return found[name]


def list_schedules(
    tx: Connection, job: str | None = None, shop_id: int | None = None
) -> list[EffectiveSchedule]:
    """Return the schedule in force at each place where a job runs: of all, or only of ``job`` or the shop."""
    found = find_jobs(tx)
    values = {"job": job, "shop_id": shop_id, "fleet_zone": get_settings().fleet_timezone}
    places = tx.exec_driver_sql(_LIST, values).all()  # the columns are the fields of EffectiveSchedule
    return [EffectiveSchedule(found[name], *place) for name, *place in places]


def change_job(
    tx: Connection,
    job: Job,
    shop: Shop | None,
    change: Mapping[str, str | bool | None],
    **author: Unpack[Author],
) -> bool:
    """Set the ``schedule`` or ``enabled`` of ``job``, at ``shop`` or everywhere, from beat's next tick on.

    Returns whether that changed anything. None removes the change: the schedule is that of ``beat_schedule``
    again, a shop is on or off as the whole job. Slots before ``now`` keep the old schedule; slots while the
    job is off do not run later. Raises ``ScheduleInvalid``.
    """
    if change.get("schedule") is not None:
        change = {"schedule": parse_schedule(str(change["schedule"]))}
    shop_id, reason = shop.id if shop else None, author.get("reason", "")
    columns = job_overrides.c
    where = (columns.job == job.name) & columns.shop_id.is_not_distinct_from(shop_id)
    found = tx.execute(select(columns.schedule, columns.enabled).where(where).with_for_update()).first()
    before = found._asdict() if found else {"schedule": None, "enabled": None}
    in_force = before if shop or before["enabled"] is not None else before | {"enabled": True}
    if in_force.items() >= change.items():
        return False
    row = {**change, "reason": reason, "changed_at": author["now"], "changed_by": author["by"]}
    upsert = insert(job_overrides).values(job=job.name, shop_id=shop_id, **row)
    upsert = upsert.on_conflict_do_update(constraint="uq_job_overrides_scope", set_=row)
    changed = tx.execute(upsert.returning(columns.schedule, columns.enabled)).one()
    summary = f"{job.name} {_describe_change(change)}" + (f" at {shop.slug}" if shop else "")
    mutation = Mutation(
        "job_overrides", job.name, summary + (f": {reason}" if reason else ""), before, changed._asdict()
    )
    append_change(tx, "job.change", {shop_id: [mutation]}, **author)
    return True


def resume_job(tx: Connection, job: Job, shop: Shop | None, **author: Unpack[Author]) -> bool:
    """Start runs of ``job`` again, at ``shop`` or everywhere; return whether that changed anything.

    The shop follows the whole job again, unless the job is off and only this shop should run.
    """
    wanted = None if shop is not None and not is_job_off(tx, job.name) else True
    return change_job(tx, job, shop, {"enabled": wanted}, **author)


def is_job_off(tx: Connection, name: str) -> bool:
    """Return whether the job ``name`` is switched off for all shops."""
    whole = (job_overrides.c.job == name) & job_overrides.c.shop_id.is_(None)
    return tx.scalar(select(job_overrides.c.enabled).where(whole)) is False


def _describe_change(change: Mapping[str, str | bool | None]) -> str:
    if "schedule" in change:
        schedule = change["schedule"]
        return f"has the schedule {schedule!r}" if schedule else "has its default schedule again"
    if change["enabled"] is None:
        return "is on or off as the whole job again"
    return "is switched on" if change["enabled"] else "is switched off"
