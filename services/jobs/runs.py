"""Starts runs, for beat, HTTP, the console and the command line."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Unpack
from uuid import uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row
from sqlalchemy.dialects.postgresql import insert

from services.audit.append import Author, Mutation, append_change
from services.core.errors import InputInvalid
from services.core.pg_arrays import arrays
from services.core.settings import get_settings
from services.jobs.definition import FLEET_ZONE, SHOP_ZONE, Job
from services.jobs.schedule import parse_period, period_of
from services.jobs.sentry_monitors import open_checkins
from services.jobs.tables import job_runs
from services.ledger.accept import WorkRef, record_work
from services.ledger.topics import TOPICS
from services.ledger.work import FLEET, NewWork
from services.shops.shops import Shop, get_shop, list_shops

_NEW = (job_runs.c[name] for name in ("id", "job", "shop_id", "period", "status", "request_id"))
_INSERT = insert(job_runs).on_conflict_do_nothing(constraint="uq_job_runs_period").returning(*_NEW)

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

_FIND_STATES = """
select r.shop_id, r.status from unnest(%(shop_id)s::int[], %(period)s::text[]) as v(shop_id, period)
  join job_runs r on r.job = %(job)s and r.shop_id = v.shop_id and r.period = v.period
"""

_AGAIN = """
update job_runs set status = 'pending', due_at = %(now)s, started_at = null, ended_at = null, stats = '{}',
       error = null, origin = %(origin)s, started_by = %(by)s, request_id = %(request_id)s, work_id = null
 where id = %(id)s
returning id, job, shop_id, period, status, request_id
"""

# The work that a new run replaces must not run again if a person requeues it.
_REPLACE = """
update work_queue set status = 'discarded', result = 'replaced by a new run', finished_at = %(now)s
 where id = %(id)s and status = 'dead'
"""


class ScopeInvalid(InputInvalid):
    """A shop is named for a job that runs once for the fleet."""


class NewRun(NamedTuple):
    """A run to create; ``status`` is ``pending`` or ``skipped``."""

    job: str
    shop_id: int | None
    period: str
    due_at: datetime
    status: str = "pending"


class StartOutcome(StrEnum):
    """The state in which a request to start a run found it."""

    STARTED = "started"
    RUNNING = "running"
    ALREADY_DONE = "already_done"


class StartResult(NamedTuple):
    """The result of ``start_run``. ``ref`` is the run's work, ``checkins`` are its check-ins at Sentry."""

    found: StartOutcome
    run_id: int
    period: str
    shop: Shop | None
    ref: WorkRef | None = None
    checkins: tuple[WorkRef, ...] = ()


def record_runs(tx: Connection, runs: Sequence[NewRun], jobs: dict[str, Job], now: datetime) -> list[WorkRef]:
    """Insert ``runs`` for beat, with their work; a run that exists already is not changed."""
    if not runs:
        return []
    # In the order of ``trigger_job``, so that two transactions with the same rows do not deadlock.
    runs = sorted(runs, key=lambda run: (run.job, run.shop_id or FLEET, run.due_at))
    return _insert_work(tx, _insert_runs(tx, runs, now, "beat", "beat"), jobs, now, "beat")


def trigger_job(
    tx: Connection,
    job: Job,
    slug: str,
    period: str | None,
    *,
    origin: str,
    force: bool = False,
    **author: Unpack[Author],
) -> list[StartResult]:
    """Start ``job`` at the shop ``slug``, or at every place where it runs, even if it is paused.

    Raises as ``list_scope_shops`` and ``start_run`` do; nothing starts if the caller rolls back.
    """
    return [
        start_run(tx, job, shop, period, origin=origin, force=force, **author)
        for shop in list_scope_shops(tx, job, slug)
    ]


def list_scope_shops(tx: Connection, job: Job, slug: str) -> list[Shop | None]:
    """Return where ``job`` runs: at the shop ``slug``; if empty, at every shop or for the fleet (None).

    Raises ``ShopUnknown``, and ``ScopeInvalid`` for a ``slug`` with a job that runs once for the fleet.
    """
    if slug and not job.per_shop:
        raise ScopeInvalid(f"{job.name} runs once for the whole fleet: leave the shop {slug!r} out")
    if slug:
        return [get_shop(tx, slug)]
    # By id, so that all transactions lock the rows in one order.
    return [*sorted(list_shops(tx), key=lambda shop: shop.id)] if job.per_shop else [None]


def list_run_states(tx: Connection, job: Job, period: str, now: datetime) -> list[tuple[Shop, str]]:
    """Return each shop, by id, with the status of the job's run for ``period``; empty if there is none.

    An empty ``period`` is the newest that is over in the shop's zone. Raises ``PeriodInvalid``.
    """
    places = [
        (shop, parse_period(job.covers, period, now, zone) if period else period_of(job.covers, now, zone))
        for shop in sorted(list_shops(tx), key=lambda one: one.id)
        for zone in [_zone_of(job, shop)]
    ]
    values = arrays("shop_id period", [(shop.id, of_shop) for shop, of_shop in places])
    found = tx.exec_driver_sql(_FIND_STATES, {**values, "job": job.name})
    statuses = {row.shop_id: row.status for row in found}
    return [(shop, statuses.get(shop.id, "")) for shop, _ in places]


def start_run(
    tx: Connection,
    job: Job,
    shop: Shop | None,
    period: str | None,
    *,
    origin: str,
    force: bool = False,
    **author: Unpack[Author],
) -> StartResult:
    """Start the run of (job, shop, period) unless it is running or done; raise ``PeriodInvalid``.

    ``period`` None is the newest one that is over. A run that is done starts again only with ``force``, a run
    that failed or was skipped always.
    """
    by, now = author["by"], author["now"]
    zone = _zone_of(job, shop)
    period = parse_period(job.covers, period, now, zone) if period else period_of(job.covers, now, zone)
    shop_id = shop.id if shop else None
    request_id = author["request_id"] = author.get("request_id") or uuid4().hex
    new = _insert_runs(tx, [NewRun(job.name, shop_id, period, now)], now, origin, by, request_id)
    if not new:
        known = tx.exec_driver_sql(_FIND, {"job": job.name, "shop_id": shop_id, "period": period}).one()
        if known.status == "done" and not force:
            return StartResult(StartOutcome.ALREADY_DONE, known.id, period, shop)
        if known.status in ("pending", "running") and known.work_status in ("pending", "error"):
            ref = WorkRef(known.work_id, TOPICS[job.topic].queue, job.topic)
            return StartResult(StartOutcome.RUNNING, known.id, period, shop, ref)
        if known.status == "running" and known.work_status == "done" and not force:
            return StartResult(StartOutcome.RUNNING, known.id, period, shop)
        if known.work_id is not None:
            tx.exec_driver_sql(_REPLACE, {"id": known.work_id, "now": now})
        again = {"id": known.id, "now": now, "origin": origin, "by": by, "request_id": request_id}
        new = tx.exec_driver_sql(_AGAIN, again).all()
    # An old period says nothing about the job's schedule now: its monitor gets no check-in.
    is_newest = period == period_of(job.covers, now, zone)
    ref, *checkins = _insert_work(tx, new, {job.name: job}, now, origin, is_monitored=is_newest)
    mutation = Mutation(
        "job_runs",
        str(new[0].id),
        f"{job.name} for {period} started manually" + (", again" if force else ""),
        None,
        {"job": job.name, "period": period, "origin": origin},
    )
    append_change(tx, "job.run", {shop_id: [mutation]}, **author)
    return StartResult(StartOutcome.STARTED, new[0].id, period, shop, ref, tuple(checkins))


def _zone_of(job: Job, shop: Shop | None) -> ZoneInfo:
    if job.zone == SHOP_ZONE and shop is not None:
        return shop.zone
    return get_settings().zone if job.zone in (FLEET_ZONE, SHOP_ZONE) else ZoneInfo(job.zone)


def _insert_runs(
    tx: Connection, runs: Sequence[NewRun], now: datetime, origin: str, by: str, request_id: str = ""
) -> Sequence[Row[Any]]:
    """Return the rows that are new. Without ``request_id`` each row gets its own."""
    start = {"origin": origin, "started_by": by}
    rows = [
        {**run._asdict(), **start, "request_id": request_id or uuid4().hex,
         "ended_at": now if run.status == "skipped" else None}
        for run in runs
    ]  # fmt: skip
    return tx.execute(_INSERT, rows).all()


def _insert_work(
    tx: Connection,
    runs: Sequence[Row[Any]],
    jobs: dict[str, Job],
    now: datetime,
    origin: str,
    *,
    is_monitored: bool = True,
) -> list[WorkRef]:
    """Insert the work of the pending ``runs``, then their check-ins; return both in this order."""
    runs = [run for run in runs if run.status == "pending"]
    new = [
        NewWork(
            shop_id=run.shop_id or FLEET,
            topic=jobs[run.job].topic,
            key=f"{run.job}:{run.period}",
            payload={"run": run.id, "period": run.period},
            origin=origin,
            request_id=run.request_id,
        )
        for run in runs
    ]
    refs = record_work(tx, new, now)
    if runs:
        linked = [(run.id, ref.id) for run, ref in zip(runs, refs, strict=True)]
        tx.exec_driver_sql(_LINK, arrays("id work_id", linked))
    monitored = [run.id for run in runs] if is_monitored else []
    return refs + record_work(tx, open_checkins(tx, monitored, jobs, now), now)
