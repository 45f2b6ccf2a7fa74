"""Helpers that insert ledger rows with the functions of the ledger."""

from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, text

from services.core.db import transaction
from services.ledger.accept import AcceptedEvent, NewEvent, record_events, record_work
from services.ledger.work import NewWork

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def new_event(number: int, *, shop_id: int = 1, body: bytes = b"{}", **changes: object) -> NewEvent:
    """Return a planned Shopify order event."""
    values: dict[str, object] = {
        "shop_id": shop_id,
        "provider": "shopify",
        "topic": "orders/create",
        "delivery_key": f"delivery-{number}",
        "body": body,
        "received_at": NOW,
        "key": f"gid://shopify/Order/{number}",
        "request_id": f"request-{number}",
    }
    return NewEvent(**(values | changes))  # type: ignore[arg-type]


def accept(engine: Engine, *events: NewEvent) -> list[AcceptedEvent]:
    """Record ``events`` and commit."""
    with transaction(engine) as tx:
        return record_events(tx, events)


def plan(
    engine: Engine, topic: str, count: int, *, shop_id: int = 1, keys: list[str] | None = None
) -> list[int]:
    """Plan ``count`` items of ``topic`` and commit; return their ids."""
    new = [
        NewWork(shop_id=shop_id, topic=topic, key=keys[i] if keys else f"key-{shop_id}-{i}")
        for i in range(count)
    ]
    with transaction(engine) as tx:
        return [ref.id for ref in record_work(tx, new, NOW)]


def statuses(engine: Engine) -> dict[str, int]:
    """Return the number of rows by status, with the query of the runbook."""
    with transaction(engine) as tx:
        rows = tx.execute(text("select status, count(*) from work_queue group by status"))
        return {row[0]: row[1] for row in rows}


def rows_of(tx: Connection) -> list[dict[str, object]]:
    """Return every row of the queue, by id."""
    return [dict(r._mapping) for r in tx.execute(text("select * from work_queue order by id"))]
