"""Helpers that insert the rows of a running fleet."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert
from sqlalchemy.dialects.postgresql import insert as upsert

from services.alerts.incidents import Incident, record_incidents
from services.jobs.tables import job_runs, jobs
from services.ledger.settle import BatchResult, Settlement, record_stats
from services.ledger.tables import TOTAL, heartbeats, request_counts, work_queue
from services.ledger.topics import QUEUES, TOPICS
from services.ledger.work import WorkItem
from services.shops.connections import record_connection_broken
from services.shops.shops import add_shop


def add_heartbeats(tx: Connection, now: datetime, *, but: str = "") -> None:
    """Record a heartbeat of every component two seconds ago, except ``but``."""
    names = ["beat", "sweep", *(f"queue:{queue}" for queue in QUEUES)]
    rows = [{"name": name, "at": now - timedelta(seconds=2)} for name in names if name != but]
    tx.execute(insert(heartbeats), rows)


def add_drift(tx: Connection, now: datetime, detail: dict[str, Any]) -> None:
    """Record a measured drift."""
    tx.execute(insert(heartbeats), [{"name": "drift", "at": now, "detail": detail}])


def add_work(tx: Connection, topic: str, *, status: str = "pending", count: int = 1, **columns: Any) -> None:
    """Record ``count`` rows of work of ``topic``."""
    row = {"shop_id": 1, "queue": TOPICS[topic].queue, "topic": topic, "status": status, **columns}
    tx.execute(insert(work_queue), [row] * count)


def add_settled(tx: Connection, topic: str, minute: datetime, *, worker: str = "w1", **counts: int) -> None:
    """Record what ``worker`` settled of ``topic`` in ``minute``."""
    tries = [Settlement(WorkItem(0, 1, topic, "", {}, 0), "dead")]
    result = BatchResult(
        done=counts.get("done", 0),
        retried=tries * counts.get("retried", 0),
        dead=tries * counts.get("dead", 0),
    )
    record_stats(tx, TOPICS[topic], worker, result, minute)


def add_requests(
    tx: Connection, minute: datetime, shop: str, provider: str, outcome: str, count: int
) -> None:
    """Record answered requests, in their minute and in the total."""
    for at, slug in ((minute, shop), (TOTAL, "")):
        of = {"minute": at, "shop": slug, "provider": provider, "outcome": outcome}
        row = of | {"route": f"/webhooks/{provider}" if slug else "", "status": 0, "count": count}
        new = upsert(request_counts).values(row)
        total = {"count": request_counts.c.count + count}
        tx.execute(new.on_conflict_do_update(index_elements=request_counts.primary_key.columns, set_=total))


def add_job(tx: Connection, name: str, **columns: Any) -> None:
    """Record a scheduled job."""
    row = {
        "name": name, "topic": "reconcile", "title": name, "schedule": "0 0 * * *", "zone": "fleet",
        "per_shop": False, "covers": "day", "grace_seconds": 60, "catch_up": "all", "min_run_seconds": 0,
        "volume": "", "evidence": "", "first_seen_at": datetime.now(UTC),
    }  # fmt: skip
    tx.execute(insert(jobs), [row | columns])


def add_run(
    tx: Connection, job: str, period: str, status: str, *, shop_id: int | None = None, **columns: Any
) -> int:
    """Record a run of ``job``; unless pending or running it ended an hour ago."""
    at = datetime.now(UTC) - timedelta(hours=1)
    row = {
        "job": job, "period": period, "status": status, "shop_id": shop_id, "due_at": at, "origin": "beat",
        "ended_at": None if status in ("pending", "running") else at,
    }  # fmt: skip
    return int(tx.execute(insert(job_runs).values(row | columns).returning(job_runs.c.id)).scalar_one())


def add_incident(tx: Connection, severity: str, *, rule: str = "audit_chain_failed") -> None:
    """Record an open incident of the fleet."""
    incident = Incident(None, rule, "2026-11-20", severity, "the chain is not as it was written")
    record_incidents(tx, [incident], datetime.now(UTC))


def add_broken_connection(tx: Connection, slug: str, provider: str = "stripe") -> int:
    """Record a shop whose credential was refused. Returns its id."""
    now = datetime.now(UTC)
    shop = add_shop(tx, slug=slug, name=slug, timezone="UTC", currency="CAD", now=now)
    record_connection_broken(tx, shop.id, provider, f"{provider}.key_refused", "HTTP 401", now)
    return shop.id
