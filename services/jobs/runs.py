"""Starts runs, for beat, HTTP, the console and the command line alike."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.audit.chain import Entry, Mutation
from services.core.pg_arrays import instant_array, int_array, text_array
from services.core.settings import get_settings
from services.jobs.definition import FLEET_ZONE, SHOP_ZONE, Job
from services.jobs.schedule import parse_period, period_of
from services.jobs.sentry_monitors import open_checkins
from services.ledger.accept import WorkRef, record_work
from services.ledger.topics import TOPICS
from services.ledger.work import FLEET, NewWork
from services.shops.shops import Shop

_INSERT = """
insert into job_runs (job, shop_id, period, due_at, status, ended_at, origin, started_by, request_id)
select v.job, nullif(v.shop_id, 0), v.period, v.due_at, v.status,
       case when v.status = 'skipped' then %(now)s::timestamptz end, %(origin)s, %(by)s, v.request_id
  from unnest(%(job)s::text[], %(shop_id)s::int[], %(period)s::text[], %(due_at)s::timestamptz[],
              %(status)s::text[], %(request_id)s::text[])
       as v(job, shop_id, period, due_at, status, request_id)
on conflict on constraint uq_job_runs_period do nothing
returning id, job, shop_id, period, due_at, status, request_id
"""

_LINK = """
update job_runs r set work_id = v.work_id
  from unnest(%(id)s::bigint[], %(work_id)s::bigint[]) as v(id, work_id) where r.id = v.id
"""

_FIND = """
select r.id, r.status, r.work_id, w.status as work_status
  from job_runs r left join work_queue w on w.id = r.work_id
 where r.job = %(job)s and r.shop_id is not distinct from %(shop_id)s::int and r.period = %(period)s
   for update of r
"""

_AGAIN = """
update job_runs set status = 'pending', due_at = %(now)s, started_at = null, ended_at = null, stats = '{}',
       error = null, origin = %(origin)s, started_by = %(by)s, request_id = %(request_id)s, work_id = null
 where id = %(id)s
returning id, job, shop_id, period, due_at, status, request_id
"""

# The work that a new run replaces must not run again if somebody requeues it.
_REPLACE = """
update work_queue set status = 'discarded', result = 'replaced by a new run', finished_at = %(now)s
 where id = %(id)s and status = 'dead'
"""


class NewRun(NamedTuple):
    """A run to create; ``status`` is ``pending`` or ``skipped``."""

    job: str
    shop_id: int | None
    period: str
    due_at: datetime
    status: str = "pending"


class StartedRun(NamedTuple):
    """A row of ``job_runs`` that was just written."""

    id: int
    job: str
    shop_id: int | None
    period: str
    due_at: datetime
    status: str
    request_id: str


class StartOutcome(StrEnum):
    """What starting a run found."""

    STARTED = "started"
    RUNNING = "running"
    ALREADY_DONE = "already_done"


class StartResult(NamedTuple):
    """The result of starting a run. ``ref`` is its work, ``checkins`` the work that reports its start."""

    found: StartOutcome
    run_id: int
    period: str
    ref: WorkRef | None = None
    checkins: tuple[WorkRef, ...] = ()
    audit: tuple[Entry, ...] = ()
    """For the caller to append."""


def record_runs(
    tx: Connection, runs: Sequence[NewRun], jobs: dict[str, Job], now: datetime, *, origin: str = "beat"
) -> list[WorkRef]:
    """Create ``runs`` with their work; a run that exists already stays as it is."""
    if not runs:
        return []
    # In the order of ``trigger_job``: two transactions that meet the same rows do not deadlock.
    runs = sorted(runs, key=lambda run: (run.job, run.shop_id or FLEET, run.due_at))
    rows = tx.exec_driver_sql(
        _INSERT,
        {
            "now": now,
            "origin": origin,
            "by": origin,
            "job": text_array([run.job for run in runs]),
            "shop_id": int_array(run.shop_id or FLEET for run in runs),
            "period": text_array([run.period for run in runs]),
            "due_at": instant_array(run.due_at for run in runs),
            "status": text_array([run.status for run in runs]),
            "request_id": text_array([uuid4().hex for _ in runs]),
        },
    )
    return _plan_work(tx, [StartedRun(**row) for row in rows.mappings()], jobs, now, origin)


def start_run(
    tx: Connection,
    job: Job,
    shop: Shop | None,
    period: str | None,
    *,
    origin: str,
    by: str,
    now: datetime,
    force: bool = False,
    request_id: str = "",
) -> StartResult:
    """Start the run of (job, shop, period), unless it runs or is done already; raise ``PeriodInvalid``.

    ``period`` None is the newest one that is over. A run that is done runs again only with ``force``; one
    that failed or was skipped always does.
    """
    zone = zone_of(job, shop)
    period = parse_period(job.covers, period, now, zone) if period else period_of(job.covers, now, zone)
    shop_id = shop.id if shop else None
    request_id = request_id or uuid4().hex
    key = {"job": job.name, "shop_id": shop_id, "period": period}
    new = (
        tx.exec_driver_sql(
            _INSERT,
            {
                "now": now,
                "origin": origin,
                "by": by,
                "job": text_array([job.name]),
                "shop_id": int_array([shop_id or FLEET]),
                "period": text_array([period]),
                "due_at": instant_array([now]),
                "status": text_array(["pending"]),
                "request_id": text_array([request_id]),
            },
        )
        .mappings()
        .first()
    )
    if new is None:
        known = tx.exec_driver_sql(_FIND, key).one()
        if known.status == "done" and not force:
            return StartResult(StartOutcome.ALREADY_DONE, known.id, period)
        if known.status in ("pending", "running") and known.work_status in ("pending", "error"):
            return StartResult(
                StartOutcome.RUNNING,
                known.id,
                period,
                WorkRef(known.work_id, TOPICS[job.topic].queue, job.topic),
            )
        if known.work_id is not None:
            tx.exec_driver_sql(_REPLACE, {"id": known.work_id, "now": now})
        again = {"id": known.id, "now": now, "origin": origin, "by": by, "request_id": request_id}
        new = tx.exec_driver_sql(_AGAIN, again).mappings().one()
    run = StartedRun(**new)
    ref, *checkins = _plan_work(tx, [run], {job.name: job}, now, origin)
    mutation = Mutation(
        "job_runs",
        str(run.id),
        f"{job.name} for {period} started by hand" + (", again" if force else ""),
        None,
        {"job": job.name, "period": period, "origin": origin},
    )
    entry = Entry(shop_id, by, "job.run", request_id, [mutation])
    return StartResult(StartOutcome.STARTED, run.id, period, ref, tuple(checkins), (entry,))


def zone_of(job: Job, shop: Shop | None) -> ZoneInfo:
    """Return the zone of ``job``'s days at ``shop``."""
    if job.zone == SHOP_ZONE and shop is not None:
        return shop.zone
    return get_settings().zone if job.zone in (FLEET_ZONE, SHOP_ZONE) else ZoneInfo(job.zone)


def _plan_work(
    tx: Connection, runs: Sequence[StartedRun], jobs: dict[str, Job], now: datetime, origin: str
) -> list[WorkRef]:
    runs = [run for run in runs if run.status == "pending"]
    refs = record_work(
        tx,
        [
            NewWork(
                shop_id=run.shop_id or FLEET,
                topic=jobs[run.job].topic,
                key=f"{run.job}:{run.period}",
                payload={"run": run.id, "period": run.period},
                origin=origin,
                request_id=run.request_id,
            )
            for run in runs
        ],
        now,
    )
    if runs:
        pairs = list(zip(runs, refs, strict=True))
        tx.exec_driver_sql(
            _LINK,
            {"id": int_array(run.id for run, _ in pairs), "work_id": int_array(ref.id for _, ref in pairs)},
        )
    return refs + record_work(tx, open_checkins(tx, [run.id for run in runs], jobs, now), now)
