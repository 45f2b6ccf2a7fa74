"""Shopify's sample payloads are parsed, with their exact ids."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.ledger.work import Done, WorkItem
from services.shopify.logistics.fulfillments import ingest_fulfillments, ingest_locations
from services.shopify.orders.customers import ingest_customers
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.orders.transactions import ingest_order_transactions
from services.shopify.products.handler import ingest_products
from services.shopify.products.inventory_items import ingest_inventory_items
from services.shopify.shop_profile import ingest_storefronts
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.sample_payloads import Ingest, add_shop, ingest, item, rows

CASES: list[tuple[Ingest, str]] = [
    *((ingest_orders, f"orders/{name}") for name in ("create", "updated", "paid", "fulfilled", "cancelled")),
    (ingest_refunds, "refunds/create"),
    (ingest_products, "products/create"),
    (ingest_products, "products/update"),
    (ingest_order_transactions, "order_transactions/create"),
    (ingest_fulfillments, "fulfillments/create"),
    *((ingest_inventory_items, f"inventory_items/{name}") for name in ("create", "update")),
    (ingest_locations, "locations/create"),
    (ingest_customers, "customers/create"),
    (ingest_storefronts, "shop/update"),
    (ingest_inventory_levels, "inventory_levels/connect"),
    (ingest_inventory_levels, "inventory_levels/update"),
]


def sample(samples: Path, topic: str) -> WorkItem:
    """Return Shopify's sample payload of ``topic``."""
    name = topic.replace("/", "__")
    body = (samples / "shopify" / "payloads_2026-07_exact_ids" / f"{name}.json").read_bytes()
    return item("sample", body, event_topic=topic)


@pytest.mark.parametrize(("effect", "topic"), CASES, ids=[topic for _, topic in CASES])
def test_sample_of_shopifys_is_read(engine: Engine, samples: Path, effect: Ingest, topic: str) -> None:
    add_shop(engine)

    effects = ingest(engine, effect, sample(samples, topic))

    assert effects.outcomes == [Done()]
    assert effects.audit
    if effect is ingest_orders:
        stored = rows(engine, "select order_gid, total_cents from orders")
        assert stored == [("gid://shopify/Order/820982911946154508", 40495)]
        assert rows(engine, "select count(*) from order_lines where line_id = 487817672276298554") == [(1,)]


FACTS = {
    "orders/create": (
        "select subtotal_cents, discount_cents, shipping_cents, customer_id, province from orders",
        (40495, 2000, 1000, 115310627314723954, "US-KY"),
    ),
    "refunds/create": ("select sum(subtotal_cents) from order_refund_lines", (41495,)),
    "order_transactions/create": (
        "select kind, status, amount_cents, currency, payment_ref from order_transactions",
        ("authorization", "success", 41995, "USD", ""),
    ),
    "fulfillments/create": ("select status, quantity from fulfillments", ("pending", 5)),
    "inventory_items/create": (
        "select sku, is_tracked, cost_cents from inventory_items",
        ("example-sku", True, None),
    ),
    "locations/create": ("select name, province, is_active from locations", ("Example Shop", "CA-ON", True)),
    "customers/create": (
        "select customer_id, name, email, phone from customers",
        (706405506930370084, "Bob Biller", "bob@biller.com", ""),
    ),
    "shop/update": (
        "select shopify_id, name, currency, province, plan_name, uninstalled_at from storefronts",
        (548380009, "Super Toys", "USD", "US-TN", "enterprise", None),
    ),
}
"""Facts of Shopify's samples, extracted by hand."""


@pytest.mark.parametrize("topic", FACTS)
def test_sample_of_shopifys_leaves_its_facts(engine: Engine, samples: Path, topic: str) -> None:
    add_shop(engine)
    query, fact = FACTS[topic]
    effect = next(effect for effect, name in CASES if name == topic)

    ingest(engine, effect, sample(samples, topic))

    assert rows(engine, query) == [fact]


@pytest.mark.parametrize(
    ("effect", "topic"),
    [
        (ingest_orders, "orders/delete"),
        (ingest_products, "products/delete"),
        (ingest_inventory_items, "inventory_items/delete"),
    ],
)
def test_sample_of_a_deletion_changes_nothing_where_nothing_is_recorded(
    engine: Engine, samples: Path, effect: Ingest, topic: str
) -> None:
    add_shop(engine)

    effects = ingest(engine, effect, sample(samples, topic))

    assert effects.outcomes == [Done("unknown_id")]
