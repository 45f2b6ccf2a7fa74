"""Shops in zones, jobs as the tests need them, and what became of them."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from services.core.db import transaction
from services.jobs.definition import SHOP_ZONE, CatchUp, Covers, Job
from services.jobs.scheduler import start_due_runs
from services.jobs.store import record_jobs

RUNS = "select job, shop_id, period, status from job_runs order by shop_id nulls first, due_at"


def a_job(**changes: Any) -> Job:
    """A nightly job of each shop, at midnight."""
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
    """A shop for each slug and zone, open since ``since``."""
    with transaction(engine) as tx:
        for slug, zone in zones.items():
            tx.execute(
                text(
                    "insert into shops (slug, name, timezone, currency, created_at) "
                    "values (:slug, :slug, :zone, 'CAD', :at)"
                ),
                {"slug": slug, "zone": zone, "at": since},
            )


def know(engine: Engine, since: datetime, *jobs: Job) -> None:
    """The database knows ``jobs``, and has since ``since``."""
    with transaction(engine) as tx:
        record_jobs(tx, jobs, since)


def keep_time(engine: Engine, now: datetime) -> int:
    """One tick at ``now``; how many runs it began."""
    with transaction(engine) as tx:
        return len(start_due_runs(tx, now))


def runs(engine: Engine, query: str = RUNS) -> list[tuple[Any, ...]]:
    """The rows of ``query``."""
    with engine.connect() as tx:
        return [tuple(row) for row in tx.execute(text(query))]


def periods(engine: Engine, status: str = "pending") -> list[str]:
    """The periods of the runs in ``status``, in the order in which they were due."""
    return [row[2] for row in runs(engine) if row[3] == status]


def settle(tx: Connection, job: str, status: str = "done") -> None:
    """Every item of work that a run of ``job`` waits for is ``status``."""
    tx.execute(
        text(
            "update work_queue w set status = :status, finished_at = now(), error_code = 'x', "
            "last_error = 'y' from job_runs r where r.work_id = w.id and r.job = :job"
        ),
        {"status": status, "job": job},
    )
