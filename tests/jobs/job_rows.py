"""Helpers for job tests: shops in zones, jobs and their runs."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from services.core.db import transaction
from services.jobs.definition import SHOP_ZONE, CatchUp, Covers, Job
from services.jobs.scheduler import start_due_runs
from services.jobs.store import record_jobs

RUNS = "select job, shop_id, period, status from job_runs order by shop_id nulls first, due_at"


def make_job(**changes: Any) -> Job:
    """Return a nightly job of each shop, at midnight."""
    values: dict[str, Any] = {
        "name": "daily-reconciliation",
        "topic": "reconcile",
        "title": "nightly",
        "schedule": "0 0 * * *",
        "zone": SHOP_ZONE,
        "per_shop": True,
        "covers": Covers.DAY,
        "grace": timedelta(minutes=30),
        "catch_up": CatchUp.ALL,
    }
    return Job(**(values | changes))


def add_shops(engine: Engine, since: datetime, **zones: str) -> None:
    """Insert a shop for each slug and zone, created at ``since``."""
    with transaction(engine) as tx:
        for slug, zone in zones.items():
            tx.execute(
                text(
                    "insert into shops (slug, name, timezone, currency, created_at) "
                    "values (:slug, :slug, :zone, 'CAD', :at)"
                ),
                {"slug": slug, "zone": zone, "at": since},
            )


def add_jobs(engine: Engine, since: datetime, *jobs: Job) -> None:
    """Record ``jobs`` as known since ``since``."""
    with transaction(engine) as tx:
        record_jobs(tx, jobs, since)


def run_tick(engine: Engine, now: datetime) -> int:
    """Run one tick at ``now``; return how many runs it started."""
    with transaction(engine) as tx:
        return len(start_due_runs(tx, now))


def runs(engine: Engine, query: str = RUNS) -> list[tuple[Any, ...]]:
    """Return the rows of ``query``."""
    with engine.connect() as tx:
        return [tuple(row) for row in tx.execute(text(query))]


def periods(engine: Engine, status: str = "pending") -> list[str]:
    """Return the periods of the runs in ``status``, by due time."""
    return [row[2] for row in runs(engine) if row[3] == status]


def settle(tx: Connection, job: str, status: str = "done") -> None:
    """Set the work items of the runs of ``job`` to ``status``."""
    tx.execute(
        text(
            "update work_queue w set status = :status, finished_at = now(), error_code = 'x', "
            "last_error = 'y' from job_runs r where r.work_id = w.id and r.job = :job"
        ),
        {"status": status, "job": job},
    )
