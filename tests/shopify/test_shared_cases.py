"""The shared cases of orders and refunds leave the right facts; they are not part of the project."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine

from services.shopify.logistics.fulfillments import ingest_locations
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.orders.transactions import ingest_order_transactions
from tests.shopify.sample_payloads import Ingest, add_shop, ingest, item, outcome_codes, rows

EFFECTS: dict[str, Ingest] = {
    "orders": ingest_orders,
    "refunds": ingest_refunds,
    "order_transactions": ingest_order_transactions,
    "locations": ingest_locations,
}
TAXES = "select t ->> 'rate', (t ->> 'cents')::int from order_lines, jsonb_array_elements(taxes) t order by 1"
REFUND = """select status, amount_cents, currency, adjustment_cents, duties_cents, tip_cents,
                   unexplained_cents
              from order_refunds"""
CASES: dict[str, tuple[str, list[Any]]] = {
    "d-shipnoset": (
        "select shipping_cents, shipping_taxes -> 0 -> 'cents', shipping_taxes -> 1 -> 'cents' from orders",
        [(1000, 50, 70)],
    ),
    "d-taxnull": (TAXES, [("0.05", 500), ("0.07", 700)]),
    "decimals": ("select discount_cents from order_lines", [(3334,)]),
    "digest": (REFUND, [("success", 3000, "CAD", -3000, 0, 0, 0)]),
    "dup-ids": ("select quantity * price_cents - discount_cents from order_lines", [(20000,)]),
    "duties": (REFUND, [("success", 12000, "CAD", 0, 2000, 0, 0)]),
    "exchange": (REFUND, [("success", 2240, "CAD", 0, 0, 0, 0)]),
    "fxgesture": (REFUND, [("success", 1000, "CAD", -1000, 0, 0, 0)]),
    "fxrefund": ("select refunded_cents from orders", [(11200,)]),
    "imported": ("select to_char(placed_at at time zone 'UTC', 'YYYY-MM-DD') from orders", [("2026-07-15",)]),
    "liable": (
        "select (t ->> 'liable')::boolean from order_lines, jsonb_array_elements(taxes) t",
        [(True,), (True,)],
    ),
    "orderlevel": (TAXES, [("0.05", 500), ("0.07", 700)]),
    "partpaid": (REFUND, [("success", 4000, "CAD", 0, 0, 0, 0)]),
    "pendrefund": (REFUND, [("success", 5000, "CAD", -5000, 0, 0, 0)]),
    "pos": (
        "select o.province, l.province from orders o join locations l using (shop_id, location_id)",
        [("", "CA-BC")],
    ),
    "provname": ("select province from orders", [("CA-BC",)]),
    "rate4": (TAXES, [("0.05", 500), ("0.07", 700)]),
    "removed": (
        "select sku, quantity - refunded_quantity from order_lines order by sku", [("A", 1), ("B", 1)],
    ),
    "shiprem": ("select shipping_cents, shipping_taxes from orders", [(0, None)]),
    "test": ("select is_test, (select count(*) from stock_movements) from orders", [(True, 0)]),
    "tip": ("select tip_cents, (select count(*) from order_lines where is_tip) from orders", [(1500, 1)]),
    "tiprefund": (REFUND, [("success", 12700, "CAD", 0, 0, 1500, 0)]),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CASES))
def test_case_leaves_its_facts(engine: Engine, samples: Path, name: str) -> None:
    path = samples.parent / "cases" / "orders_and_refunds" / f"{name}.json"
    if not path.is_file():
        pytest.skip("the shared cases (../shared/cases) are missing")
    add_shop(engine)
    for event in orjson.loads(path.read_bytes())["events"]:
        topic = event["topic"]
        made = item("case", orjson.dumps(event["body"]), event_topic=topic)
        assert outcome_codes(ingest(engine, EFFECTS[topic.partition("/")[0]], made)) == ["done"], topic

    statement, facts = CASES[name]
    assert rows(engine, statement) == facts
