"""Rows that a fleet leaves behind, for the tests of what is read from them."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert

from services.ledger.tables import heartbeats, request_counts, work_queue, work_stats
from services.ledger.topics import QUEUES, TOPICS


def add_heartbeats(tx: Connection, now: datetime, *, but: str = "") -> None:
    """Record a beat of everything that should beat, two seconds ago, except ``but``."""
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
    tx.execute(
        insert(work_stats),
        [{"minute": minute, "topic": topic, "worker": worker, "last_at": minute, **counts}],
    )


def add_requests(
    tx: Connection, minute: datetime, shop: str, provider: str, outcome: str, count: int
) -> None:
    """Record answered requests."""
    tx.execute(
        insert(request_counts),
        [{"minute": minute, "shop": shop, "provider": provider, "outcome": outcome, "count": count}],
    )
