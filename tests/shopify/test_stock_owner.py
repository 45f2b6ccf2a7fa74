"""Stock that Shopify owns is never pushed: the rule, and cases of public reports."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.ledger.accept import NewEvent, record_events
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.products.handler import ingest_products
from services.shopify.products.inventory_items import ingest_inventory_items
from services.shopify.stock.handler import ingest_inventory_levels
from services.shopify.stock.levels import PUSH_TOPIC
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    NOW,
    Ingest,
    add_shop,
    ingest,
    item,
    level,
    line,
    order,
    product,
    refund,
    rows,
)

SERVICES = Path(__file__).parents[2] / "services"
LEVELS = "select inventory_item_id, location_id, available from inventory_levels order by 1, 2"
PUSHES = "select key from work_queue where topic = 'inventory_push'"
EFFECTS: dict[str, Ingest] = {
    "products": ingest_products,
    "inventory_levels": ingest_inventory_levels,
    "inventory_items": ingest_inventory_items,
    "orders": ingest_orders,
    "refunds": ingest_refunds,
}


def sources(*calls: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield the modules whose text contains one of ``calls``."""
    for path in sorted(SERVICES.rglob("*.py")):
        text = path.read_text()
        if any(f"{call}(" in text for call in calls):
            yield path.relative_to(SERVICES).as_posix(), ast.parse(text)


def test_work_of_the_topic_is_made_in_one_place_that_filters_by_owner() -> None:
    """Only ``list_due_pushes`` makes pushes: its statement keeps those of owned and counted levels."""
    makers = {
        name
        for name, tree in sources("NewWork")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "NewWork"
        for keyword in node.keywords
        if keyword.arg == "topic"
        and (getattr(keyword.value, "id", None) or getattr(keyword.value, "value", None))
        in ("PUSH_TOPIC", PUSH_TOPIC)
    }

    assert makers == {"shopify/stock/push_plan.py"}


def callers() -> set[str]:
    return {
        name
        for name, tree in sources("list_due_pushes", "record_pushes")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("list_due_pushes", "record_pushes")
    }


ROADS = {
    "shopify/orders/handler.py": "a sale",
    "shopify/orders/refund_handler.py": "a restock",
    "shopify/stock/level_sku_sync.py": "another sku of a variant or an item",
    "shopify/stock/handler.py": "an observation, by webhook, by healing or by a read",
    "shopify/logistics/fulfillment_orders.py": "the location of a sale",
    "shopify/stock/count_store.py": "a count; refused for a shop that Shopify owns",
    "shopify/stock/push_result.py": "what a push learned",
    "shopify/stock/push_plan.py": "the commands of the next two",
    "shopify/stock/pool_links.py": "goods that enter a pool, and its buffer",
}


def test_every_way_to_plan_a_push_is_listed() -> None:
    assert callers() == set(ROADS)


def test_no_way_plans_a_push_for_a_shop_that_shopify_owns(engine: Engine) -> None:
    """Even if a level was counted and differs, as during a change of the owner."""
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -1))
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "update inventory_levels set counted_at = now(), available = 3, counted_available = 3"
        )

    ingest(engine, ingest_orders, order(lines=[line(quantity=3)]))
    ingest(engine, ingest_refunds, refund())
    ingest(engine, ingest_products, product("CUP", 5))
    renamed = {"id": ITEM, "sku": "PLATE", "cost": None, "updated_at": "2026-11-20T20:10:00Z"}
    ingest(engine, ingest_inventory_items, item("x", renamed, event_topic="inventory_items/update"))
    ingest(engine, ingest_inventory_levels, level(8, 9), level(5, 9, location=LOCATION + 1))

    assert rows(engine, PUSHES) == []


def test_two_variants_that_share_a_sku_are_what_shopify_reports_of_each(engine: Engine) -> None:
    add_shop(engine)
    for number, pieces in ((1001, 10), (1002, 20)):
        ingest(engine, ingest_products, product("DUP", number=number, variant=number + 50))
        ingest(engine, ingest_inventory_levels, level(pieces, -1, number=number))

    ingest(engine, ingest_orders, order(lines=[line(sku="DUP", quantity=3) | {"variant_id": 1052}]))
    ingest(engine, ingest_inventory_levels, level(17, 0.1, number=1002))

    assert rows(engine, LEVELS) == [(1001, LOCATION, 10), (1002, LOCATION, 17)]
    assert rows(engine, PUSHES) == []


def test_sale_and_restock_at_one_of_two_locations_leave_the_other_alone(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -1, location=501), level(5, -1, location=502))

    ingest(engine, ingest_orders, order(location_id=502))
    ingest(engine, ingest_inventory_levels, level(4, 0.1, location=502))
    back = {"location_id": 502, "id": 9, "line_item_id": 8, "quantity": 1, "restock_type": "return",
            "line_item": {"sku": "MUG"}}  # fmt: skip
    ingest(engine, ingest_refunds, refund(refund_line_items=[back]))
    ingest(engine, ingest_inventory_levels, level(5, 30, location=502))

    assert rows(engine, LEVELS) == [(ITEM, 501, 10), (ITEM, 502, 5)]
    assert rows(engine, PUSHES) == []


@pytest.fixture(scope="session")
def bypass_case() -> dict[str, Any]:
    path = Path(__file__).parents[3] / "shared" / "cases" / "orders_and_refunds" / "stock_bypass.json"
    if not path.is_file():
        pytest.skip("the shared cases (../shared/cases) are missing")
    case: dict[str, Any] = json.loads(path.read_text())
    return case


def test_shared_case_of_an_order_that_leaves_stock_alone_plans_no_push(
    engine: Engine, bypass_case: dict[str, Any]
) -> None:
    shop_id = add_shop(engine)
    for number, sent in enumerate(bypass_case["events"]):
        topic, body = sent["topic"], json.dumps(sent["body"]).encode()
        event = NewEvent(
            shop_id=shop_id,
            provider="shopify",
            topic=topic,
            delivery_key=str(number),
            body=body,
            received_at=NOW,
            request_id=f"r{number}",
            key="",
        )
        with transaction(engine) as tx:
            record_events(tx, [event])
        kept = item("x", body, event_topic=topic)._replace(shop_id=shop_id)
        ingest(engine, EFFECTS[topic.partition("/")[0]], kept)

    assert rows(engine, "select available, shopify_available from inventory_levels") == [(10, 10)]
    assert rows(engine, PUSHES) == []
