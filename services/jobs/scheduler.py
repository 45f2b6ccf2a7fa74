"""Scheduler: plans the runs that are due, per job and shop, and records how far each schedule is planned.

Each tick plans what is due and not planned yet, so a missed tick, a repeated tick or two beats cause no
error.
"""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row

from services.core.pg_arrays import arrays
from services.core.settings import get_settings
from services.jobs.definition import Job
from services.jobs.runs import NewRun, record_runs
from services.jobs.schedule import find_slots, list_next_slots, period_of, plan_catch_up
from services.jobs.store import SCHEDULES, find_jobs
from services.ledger.accept import WorkRef
from services.ledger.work import FLEET

_LOCK = "select pg_advisory_xact_lock(%(lock)s)"
_PLANNING = 0x5F1EE9
"""Key of the advisory lock: only one beat plans at a time."""

# Only places to update: new, changed, due, or planned beyond now (a wrong clock was set back).
_FIND_DUE = f"""
select * from ({SCHEDULES}) places
 where (old_schedule, old_zone, old_enabled) is distinct from (schedule, zone, enabled)
    or next_due_at <= %(now)s or scheduled_until > %(now)s
"""  # noqa: S608 - constants only

_UPSERT = """
insert into job_schedule_state as c (job, shop_id, scheduled_until, next_due_at, schedule, zone, enabled)
select v.job, nullif(v.shop_id, 0), v.scheduled_until, v.next_due_at, v.schedule, v.zone, v.enabled
  from unnest(%(job)s::text[], %(shop_id)s::int[], %(scheduled_until)s::timestamptz[],
              %(next_due_at)s::timestamptz[], %(schedule)s::text[], %(zone)s::text[], %(enabled)s::bool[])
       as v(job, shop_id, scheduled_until, next_due_at, schedule, zone, enabled)
on conflict on constraint uq_job_schedule_state_scope do update set
   scheduled_until = excluded.scheduled_until, next_due_at = excluded.next_due_at,
   schedule = excluded.schedule, zone = excluded.zone, enabled = excluded.enabled
"""


class ZonedSchedule(NamedTuple):
    """A schedule in its zone; it has no slots while it is not ``enabled``."""

    schedule: str
    zone: str
    enabled: bool

    def slots(self, after: datetime, until: datetime) -> list[datetime]:
        """Return the slots in (``after``, ``until``]."""
        return find_slots(self.schedule, ZoneInfo(self.zone), after, until) if self.enabled else []

    def next_slot(self, now: datetime) -> datetime | None:
        """Return the first slot after ``now``, or None."""
        return list_next_slots(self.schedule, ZoneInfo(self.zone), now)[0] if self.enabled else None


FindSlots = Callable[[ZonedSchedule, datetime, datetime], list[datetime]]


def start_due_runs(tx: Connection, now: datetime) -> list[WorkRef]:
    """Insert every run that is due by ``now``, with its work; return the work to notify workers of."""
    tx.exec_driver_sql(_LOCK, {"lock": _PLANNING})
    scopes = tx.exec_driver_sql(_FIND_DUE, {"now": now, "fleet_zone": get_settings().fleet_timezone}).all()
    if not scopes:
        return []
    jobs = find_jobs(tx)
    # Most shops of a zone have the same schedule and state, so the slots are cached.
    slots, next_slot = cache(ZonedSchedule.slots), cache(ZonedSchedule.next_slot)
    runs: list[NewRun] = []
    states: list[tuple[Any, ...]] = []
    for scope in scopes:
        due, until = _find_due_slots(scope, now, slots)
        runs += _plan_runs(jobs[scope.job], scope, due, now)
        timing = _timing(scope)
        states.append((scope.job, scope.shop_id or FLEET, until, next_slot(timing, now), *timing))
    refs = record_runs(tx, runs, jobs, now)
    names = "job shop_id scheduled_until next_due_at schedule zone enabled"
    tx.exec_driver_sql(_UPSERT, arrays(names, states))
    return refs


def _timing(scope: Row[Any]) -> ZonedSchedule:
    return ZonedSchedule(scope.schedule, scope.zone, scope.enabled)


def _find_due_slots(scope: Row[Any], now: datetime, slots: FindSlots) -> tuple[list[datetime], datetime]:
    """Return the slots that are not planned yet, and the new ``scheduled_until``.

    Slots before a change of the schedule are those of the old one. A ``scheduled_until`` after ``now`` is set
    back: runs that are already in ``job_runs`` do not run twice.
    """
    planned = min(scope.scheduled_until or scope.begins, now)
    timing = _timing(scope)
    old = ZonedSchedule(scope.old_schedule, scope.old_zone, scope.old_enabled)
    if old.schedule is None or old == timing:
        due = slots(timing, planned, now)
        return due, max([planned, *due[-1:]])
    changed = min(max(scope.changed_at or now, planned), now)
    return [*slots(old, planned, changed), *slots(timing, changed, now)], now


def _plan_runs(job: Job, scope: Row[Any], slots: list[datetime], now: datetime) -> list[NewRun]:
    zone = ZoneInfo(scope.zone)
    due, skipped = plan_catch_up(job.catch_up, slots, now, job.grace)
    return [
        NewRun(job.name, scope.shop_id, period_of(job.covers, slot, zone), slot, status)
        for status, some in (("pending", due), ("skipped", skipped))
        for slot in some
    ]
