"""Two shops of one day, one with every webhook and one without some, and the sandbox with the whole day."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import orjson
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.jobs.definition import Covers
from services.jobs.handler import JobRun
from services.ledger.accept import NewEvent, record_events
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS
from services.ledger.work import TransactionalHandler
from services.payments.handler import ingest_transactions
from services.providers import shopify, stripe
from services.sandbox.payloads.catalogue import make_items
from services.sandbox.payloads.orders import make_order
from services.shopify.logistics.fulfillment_orders import ingest_fulfillment_orders
from services.shopify.logistics.fulfillments import ingest_fulfillments, ingest_locations
from services.shopify.logistics.partial_entities import ingest_returns
from services.shopify.orders.customers import ingest_customers
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.orders.transactions import ingest_order_transactions
from services.shopify.products.handler import ingest_products
from services.shopify.products.inventory_items import ingest_inventory_items
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.backfill.sample_day import CURRENCY, Webhook

DOMAIN = "holed.myshopify.com"
TOKEN = "shpat_" + "0a" * 16
STRIPE_KEY = "rk_test_" + "0a" * 12

EFFECTS: dict[str, TransactionalHandler] = {
    "order_ingest": ingest_orders,
    "refund_ingest": ingest_refunds,
    "order_transaction_ingest": ingest_order_transactions,
    "fulfillment_ingest": ingest_fulfillments,
    "fulfillment_order_ingest": ingest_fulfillment_orders,
    "return_ingest": ingest_returns,
    "product_ingest": ingest_products,
    "inventory_item_ingest": ingest_inventory_items,
    "inventory_level_ingest": ingest_inventory_levels,
    "location_ingest": ingest_locations,
    "customer_ingest": ingest_customers,
    "transaction_ingest": ingest_transactions,
}
TABLES = (
    "orders", "order_lines", "order_refunds", "order_refund_lines", "order_transactions", "fulfillments",
    "customers", "products", "variants", "inventory_items", "locations", "inventory_levels",
    "stock_movements", "transactions",
)  # fmt: skip
NOT_COMPARED = {"shop_id", "event_id", "changed_at"}
"""Columns that differ between the two shops: event and time of writing."""


@dataclass(frozen=True)
class Shops:
    """``whole`` received every webhook; ``holed`` lacks some, which the sandbox at ``url`` has."""

    engine: Engine
    whole: int
    holed: int
    url: str


def control(url: str, **state: Any) -> None:
    httpx.post(f"{url}/_control", json=state).raise_for_status()


def receive(engine: Engine, shop_id: int, webhooks: Iterable[Webhook], *, name: str = "hook") -> None:
    """Record the webhooks as the ingress does, and process them."""
    with transaction(engine) as tx:
        record_events(tx, [_event(shop_id, one, f"{name}-{n}") for n, one in enumerate(webhooks)])
    work_off(engine)


def work_off(engine: Engine) -> None:
    """Process all waiting transactional work with the runner of the workers."""
    for topic, effect in EFFECTS.items():
        runner = TransactionalRunner(engine, "tests", random.Random(1))
        while runner.run_batch(TOPICS[topic], effect).more:
            pass
    with transaction(engine) as tx:
        stuck = tx.execute(
            text("select topic, error_code, last_error from work_queue where status in ('error', 'dead')")
        ).all()
    assert stuck == []


def contents(engine: Engine, shop_id: int) -> dict[str, list[str]]:
    """Return every row of the shop by table, as sorted text."""
    contents_by_table: dict[str, list[str]] = {}
    with transaction(engine) as tx:
        for table in TABLES:
            found = tx.execute(
                text(f"select to_jsonb(t) from {table} t where shop_id = :shop"),  # noqa: S608 - our names
                {"shop": shop_id},
            )
            rows = ({k: v for k, v in row[0].items() if k not in NOT_COMPARED} for row in found)
            contents_by_table[table] = sorted(
                orjson.dumps(row, option=orjson.OPT_SORT_KEYS).decode() for row in rows
            )
    return contents_by_table


def count_backfill(engine: Engine, shop_id: int) -> int:
    with transaction(engine) as tx:
        return int(
            tx.execute(
                text("select count(*) from inbound_events where shop_id = :s and origin = 'backfill'"),
                {"s": shop_id},
            ).scalar_one()
        )


def put_order(shops: Shops, updated_at: datetime, number: int = 1) -> dict[str, Any]:
    """Add an order only at Shopify; return its body."""
    rng = random.Random(number)
    order = make_order(rng, make_items(rng, 3), placed_at=updated_at, currency=CURRENCY, number=number)
    control(shops.url, shop=DOMAIN, orders=[order])
    return order


def job_run(shop_id: int, job: str = "gap-healing") -> JobRun:
    """Return a running job run."""
    return JobRun(
        id=1, job=job, shop_id=shop_id, period="2026-11-20T20:17:00Z", covers=Covers.MOMENT,
        zone=ZoneInfo("America/Los_Angeles"), request_id="run", work_id=1,
    )  # fmt: skip


def _event(shop_id: int, one: Webhook, delivery_key: str) -> NewEvent:
    is_stripe = one.provider == "stripe"
    return NewEvent(
        shop_id=shop_id,
        provider=one.provider,
        topic=one.topic,
        delivery_key=one.body["id"] if is_stripe else delivery_key,
        body=orjson.dumps(one.body),
        received_at=one.at,
        occurred_at=one.at,
        key=stripe.stripe_object_key(one.body)
        if is_stripe
        else shopify.shopify_object_key(one.topic, one.body),
    )
