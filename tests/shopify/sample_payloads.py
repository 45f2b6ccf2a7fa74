"""Small Shopify payloads with the fields that are read, and their shop."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, text

from services.audit.append import append_all
from services.core.db import transaction
from services.ledger.accept import record_work
from services.ledger.work import Done, HandlerResult, WorkItem
from services.shopify.payload import find_body

NOON = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)
NOW = NOON + timedelta(hours=6)
SHOP = 1
ITEM, LOCATION = 2**53 + 11, 77
ORDER = 2**62 + 7

_ids = count(10**9)  # above the ids of the queue: the audit stores the id of an item


def at(minutes: float) -> str:
    """Return a time after ``NOON`` in Shopify's format, with the shop's offset."""
    return (NOON + timedelta(minutes=minutes)).astimezone().isoformat(timespec="seconds")


def whole(topic: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return ``body`` with every key of its topic: Shopify sends null for missing values."""
    shape = find_body(topic)
    return dict.fromkeys(shape.required if shape else ()) | body


def item(topic: str, body: dict[str, Any] | bytes, *, shop_id: int = SHOP, event_topic: str = "") -> WorkItem:
    number = next(_ids)
    return WorkItem(
        id=number,
        shop_id=shop_id,
        topic=topic,
        key="",
        payload={},
        retry_count=0,
        request_id=f"req-{number}",
        event_id=number,
        event_topic=event_topic,
        body=body if isinstance(body, bytes) else orjson.dumps(whole(event_topic, body)),
    )


def line(line_id: int = ORDER + 1, sku: str | None = "MUG", quantity: int = 1, price: str = "12.50") -> Any:
    return {"id": line_id, "sku": sku, "title": "A mug", "quantity": quantity, "price": price}


def order(
    updated: float = 0, *, number: int = ORDER, lines: Sequence[Any] | None = None, **fields: Any
) -> WorkItem:
    body = {
        "id": number,
        "admin_graphql_api_id": f"gid://shopify/Order/{number}",
        "name": f"#{number % 1000}",
        "currency": "CAD",
        "total_price": "12.50",
        "financial_status": "paid",
        "cancelled_at": None,
        "created_at": at(0),
        "updated_at": at(updated),
        "line_items": [line()] if lines is None else lines,
    }
    return item("order_ingest", body | fields, event_topic="orders/updated")


def refund(
    minutes: float = 30,
    *,
    refund_id: int = ORDER + 500,
    number: int = ORDER,
    amount: str = "12.50",
    restock: str = "return",
    quantity: int = 1,
    **fields: Any,
) -> WorkItem:
    body = {
        "id": refund_id,
        "order_id": number,
        "created_at": at(minutes),
        "transactions": [
            {"kind": "refund", "status": "success", "amount": amount, "currency": "CAD"},
            {"kind": "refund", "status": "failure", "amount": "99.00", "currency": "CAD"},
        ],
        "refund_line_items": [
            {
                "id": refund_id + 1,
                "line_item_id": number + 1,
                "quantity": quantity,
                "restock_type": restock,
                "location_id": LOCATION if restock != "no_restock" else None,
                "line_item": {"sku": "MUG"},
            }
        ],
    }
    return item("refund_ingest", body | fields, event_topic="refunds/create")


def level(available: int | None, minutes: float, *, location: int = LOCATION, number: int = ITEM) -> WorkItem:
    body = {
        "inventory_item_id": number,
        "location_id": location,
        "available": available,
        "updated_at": at(minutes),
    }
    return item("inventory_level_ingest", body, event_topic="inventory_levels/update")


def product(
    sku: str | None = "MUG", minutes: float = -60, *, number: int = ITEM, variant: int = 5
) -> WorkItem:
    blue = {
        "id": variant,
        "inventory_item_id": number,
        "sku": sku,
        "title": "Blue",
        "updated_at": at(minutes),
    }
    body = {"id": 4, "title": "A mug", "variants": [blue, {"id": 7, "inventory_item_id": None}]}
    return item("product_ingest", body, event_topic="products/update")


Ingest = Callable[[Connection, Sequence[WorkItem], datetime], HandlerResult]


def ingest(engine: Engine, effect: Ingest, *items: WorkItem) -> HandlerResult:
    """Process one batch in one transaction, with its follow-up work and its audit."""
    with transaction(engine) as tx:
        effects = effect(tx, items, NOW)
        record_work(tx, effects.new_work, NOW)
        append_all(tx, effects.audit, NOW)
    return effects


def outcome_codes(effects: HandlerResult) -> list[str]:
    return [o.result if isinstance(o, Done) else o.code for o in effects.outcomes]


def add_shop(engine: Engine, slug: str = "harbour", domain: str = "harbour.myshopify.com") -> int:
    with transaction(engine) as tx:
        shop_id = tx.execute(
            text(
                "insert into shops (slug, name, timezone, currency) "
                "values (:slug, 'Harbour', 'America/Los_Angeles', 'CAD') returning id"
            ),
            {"slug": slug},
        ).scalar_one()
        tx.execute(
            text("insert into shop_config (shop_id, shopify_domain) values (:id, :domain)"),
            {"id": shop_id, "domain": domain},
        )
    return int(shop_id)


def count_levels(engine: Engine) -> None:
    """Make every shop own its stock: each level was counted at its last observation."""
    with transaction(engine) as tx:
        tx.execute(text("update shop_config set stock_owner = 'shopfleet'"))
        tx.execute(
            text("update inventory_levels set counted_available = available, counted_at = observed_at")
        )


def rows(engine: Engine, query: str, **values: Any) -> list[Any]:
    with engine.connect() as tx:
        return [tuple(row) for row in tx.execute(text(query), values)]


def empty(engine: Engine, *tables: str) -> None:
    """Delete all rows of ``tables`` with one statement: a property test does so before each example."""
    deletions = ", ".join(f"in_{name} as (delete from {name})" for name in tables)  # noqa: S608
    with transaction(engine) as tx:
        tx.exec_driver_sql(f"with {deletions} select")


def clear_work_queue(engine: Engine) -> None:
    """Delete the work that the test setup planned."""
    with transaction(engine) as tx:
        tx.execute(text("delete from work_queue"))
