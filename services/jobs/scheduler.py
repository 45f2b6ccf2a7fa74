"""Job clocks: how far each job's slots are dealt with at each shop, and when the next is expected.

Work is found by "due and not done", never by "now is the minute": a tick that was missed, came twice or
came from two beats at once changes nothing.
"""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.core.pg_arrays import instant_array, int_array, text_array
from services.core.settings import get_settings
from services.jobs.definition import Job
from services.jobs.runs import NewRun, record_runs
from services.jobs.schedule import find_next, find_slots, period_of, plan_catch_up
from services.jobs.store import find_jobs
from services.ledger.accept import WorkRef
from services.ledger.work import FLEET

_LOCK = "select pg_advisory_xact_lock(%(lock)s)"
_PLANNING = 0x5F1EE9
"""Two beats that plan at once take turns."""

# Only what needs a look: a new place, one whose schedule changed, one that is due, and one whose clock is
# ahead of ours, as after a clock that was wrong has been put right.
_FIND = """
select * from (
  select j.name, coalesce(s.id, 0), coalesce(c.spec, '') as old_spec, c.handled_until, c.next_due_at,
         greatest(j.first_seen_at, s.created_at) as begins,
         greatest(a.changed_at, o.changed_at) as changed_at,
         concat_ws('|', case when coalesce(o.enabled, a.enabled, true) then 'on' else 'off' end,
                   case j.zone when 'shop' then s.timezone when 'fleet' then %(fleet_zone)s else j.zone end,
                   coalesce(o.schedule, a.schedule, j.schedule)) as spec
    from jobs j
    left join shops s on j.per_shop
    left join job_overrides a on a.job = j.name and a.shop_id is null
    left join job_overrides o on o.job = j.name and o.shop_id = s.id
    left join job_clocks c on c.job = j.name and c.shop_id is not distinct from s.id
   where j.retired_at is null and (s.id is not null or not j.per_shop)
) places
 where old_spec <> spec or next_due_at <= %(now)s or handled_until > %(now)s
"""

_SET = """
insert into job_clocks as c (job, shop_id, handled_until, next_due_at, spec)
select v.job, nullif(v.shop_id, 0), v.handled_until, v.next_due_at, v.spec
  from unnest(%(job)s::text[], %(shop_id)s::int[], %(handled_until)s::timestamptz[],
              %(next_due_at)s::timestamptz[], %(spec)s::text[])
       as v(job, shop_id, handled_until, next_due_at, spec)
on conflict on constraint uq_job_clocks_scope do update set
   handled_until = excluded.handled_until, next_due_at = excluded.next_due_at, spec = excluded.spec
"""


class _Place(NamedTuple):
    """A job at a shop whose clock needs a look."""

    job: str
    shop_id: int
    old_spec: str
    handled_until: datetime | None
    next_due_at: datetime | None
    begins: datetime
    changed_at: datetime | None
    spec: str


class _Set(NamedTuple):
    """What a clock shows after the look."""

    place: _Place
    handled_until: datetime
    next_due_at: datetime | None


Slots = Callable[[str, datetime, datetime], list[datetime]]
"""Returns the slots of a spec in (after, until]."""


def start_due_runs(tx: Connection, now: datetime) -> list[WorkRef]:
    """Every run that is due by ``now`` is a row with its work planned. Returns what to ring for."""
    tx.exec_driver_sql(_LOCK, {"lock": _PLANNING})
    values = {"now": now, "fleet_zone": get_settings().fleet_timezone}
    places = [_Place(*row) for row in tx.exec_driver_sql(_FIND, values)]
    if not places:
        return []
    jobs = find_jobs(tx)
    # Most shops of a zone share their spec and how far they are: each set of slots is reckoned once.
    slots, after = cache(_find_slots), cache(_find_next)
    runs: list[NewRun] = []
    clocks: list[_Set] = []
    for place in places:
        found, handled_until = _plan_place(place, now, slots)
        runs += _plan_runs(jobs[place.job], place, found, now)
        clocks.append(_Set(place, handled_until, after(place.spec, now)))
    refs = record_runs(tx, runs, jobs, now)
    _set_clocks(tx, clocks)
    return refs


def _plan_place(place: _Place, now: datetime, slots: Slots) -> tuple[list[datetime], datetime]:
    """Return the slots that passed unhandled, and how far the clock is then.

    What was due before a change of schedule is due by the old one. A clock ahead of now is put back:
    what was already run in its future is in ``job_runs``, and does not run twice.
    """
    handled = min(place.handled_until or place.begins, now)
    if place.old_spec in ("", place.spec):
        found = slots(place.spec, handled, now)
        return found, max([handled, *found[-1:]])
    changed = min(max(place.changed_at or now, handled), now)
    return [*slots(place.old_spec, handled, changed), *slots(place.spec, changed, now)], now


def _plan_runs(job: Job, place: _Place, slots: list[datetime], now: datetime) -> list[NewRun]:
    zone = ZoneInfo(place.spec.split("|")[1])
    due, skipped = plan_catch_up(job.catch_up, slots, now, job.grace)
    shop_id = place.shop_id or None
    return [
        NewRun(job.name, shop_id, period_of(job.covers, slot, zone), slot, status)
        for status, some in (("pending", due), ("skipped", skipped))
        for slot in some
    ]


def _find_slots(spec: str, after: datetime, until: datetime) -> list[datetime]:
    switch, zone, schedule = spec.split("|")
    return find_slots(schedule, ZoneInfo(zone), after, until) if switch == "on" else []


def _find_next(spec: str, now: datetime) -> datetime | None:
    switch, zone, schedule = spec.split("|")
    return find_next(schedule, ZoneInfo(zone), now)[0] if switch == "on" else None


def _set_clocks(tx: Connection, clocks: list[_Set]) -> None:
    tx.exec_driver_sql(
        _SET,
        {
            "job": text_array([clock.place.job for clock in clocks]),
            "shop_id": int_array(clock.place.shop_id or FLEET for clock in clocks),
            "handled_until": instant_array(clock.handled_until for clock in clocks),
            "next_due_at": instant_array(clock.next_due_at for clock in clocks),
            "spec": text_array([clock.place.spec for clock in clocks]),
        },
    )
