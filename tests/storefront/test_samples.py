"""Shopify's own sample payloads are read, with their exact ids."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.ledger.work import Done
from services.storefront.orders import ingest_orders
from services.storefront.products import ingest_products
from services.storefront.refunds import ingest_refunds
from services.storefront.stock import ingest_inventory_levels
from tests.storefront.bodies import Ingest, ingest, item, rows

CASES: list[tuple[Ingest, str]] = [
    *((ingest_orders, f"orders/{name}") for name in ("create", "updated", "paid", "fulfilled", "cancelled")),
    (ingest_refunds, "refunds/create"),
    (ingest_products, "products/create"),
    (ingest_products, "products/update"),
    (ingest_inventory_levels, "inventory_levels/connect"),
    (ingest_inventory_levels, "inventory_levels/update"),
]


@pytest.mark.parametrize(("effect", "topic"), CASES, ids=[topic for _, topic in CASES])
def test_sample_of_shopifys_is_read(engine: Engine, samples: Path, effect: Ingest, topic: str) -> None:
    name = topic.replace("/", "__")
    body = (samples / "shopify" / "payloads_2026-07_exact_ids" / f"{name}.json").read_bytes()

    effects = ingest(engine, effect, item("sample", body, event_topic=topic))

    assert effects.outcomes == [Done()]
    if effect is ingest_orders:
        stored = rows(engine, "select order_gid, total_cents from orders")
        assert stored == [("gid://shopify/Order/820982911946154508", 40495)]
        assert rows(engine, "select count(*) from order_lines where line_id = 487817672276298554") == [(1,)]
