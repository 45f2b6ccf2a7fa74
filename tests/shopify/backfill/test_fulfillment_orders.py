"""Fulfilment orders are backfilled from their own list, which also names their orders."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from services.core.db import transaction
from services.ledger.sync_cursors import find_cursor
from services.sandbox.payloads.templates import local_text
from services.shopify.backfill.run import backfill_shopify
from tests.shopify.backfill.fake_shop import DOMAIN, Shops, control, put_order, receive, work_off
from tests.shopify.backfill.sample_day import EVENING, Webhook

FIRST, SECOND = 2**53 + 1, 2**53 + 2
ORDER_GID = "gid://shopify/Order/5"
TOPIC = "fulfillment_orders/order_routing_complete"
NOON, HOUR = EVENING - timedelta(hours=6), timedelta(hours=1)


def put(shops: Shops, at: datetime, number: int = FIRST, **fields: Any) -> None:
    """Add a fulfilment order at Shopify that changed at ``at``."""
    body = {
        "id": number, "order_id": 5, "status": "open", "request_status": "unsubmitted",
        "assigned_location_id": 77, "updated_at": local_text(at),
    }  # fmt: skip
    control(shops.url, shop=DOMAIN, fulfillment_orders=[body | fields])


def receive_webhook(shops: Shops, topic: str, at: datetime, **fields: Any) -> None:
    """Receive a webhook of the fulfilment order."""
    body = {"fulfillment_order": {"id": f"gid://shopify/FulfillmentOrder/{FIRST}", **fields}}
    receive(shops.engine, shops.holed, [Webhook(f"fulfillment_orders/{topic}", body, at)], name=topic)


def backfill(shops: Shops, now: datetime = EVENING) -> dict[str, int]:
    stats = backfill_shopify(shops.holed, now, "backfill")
    work_off(shops.engine)
    return dict(stats.recorded)


def held(shops: Shops) -> list[Any]:
    query = (
        "select order_gid, status, location_id, is_on_hold, hold_reason from fulfillment_orders order by 1, 2"
    )
    with transaction(shops.engine) as tx:
        return [tuple(row) for row in tx.execute(text(query))]


def test_missing_fulfillment_order_is_recorded_once(shops: Shops) -> None:
    put(shops, NOON)
    put(shops, NOON, SECOND, status="closed", assigned_location_id=None)

    assert backfill(shops) == {TOPIC: 2}
    assert held(shops) == [(ORDER_GID, "closed", None, False, ""), (ORDER_GID, "open", 77, False, "")]
    assert backfill(shops, EVENING + HOUR) == {}


def test_recorded_fulfillment_order_gets_its_order_and_keeps_newer_fields(shops: Shops) -> None:
    put(shops, NOON)
    receive_webhook(shops, "progress_reported", NOON + HOUR, status="in_progress")

    assert backfill(shops) == {TOPIC: 1}
    assert held(shops) == [(ORDER_GID, "in_progress", 77, False, "")]


def test_a_hold_that_was_missed_and_then_its_release(shops: Shops) -> None:
    put(shops, NOON)
    backfill(shops)
    hold = {"id": 9, "reason": "awaiting_payment"}
    put(shops, EVENING + HOUR, status="on_hold", fulfillment_holds=[hold])

    assert backfill(shops, EVENING + 2 * HOUR) == {TOPIC: 1}
    assert held(shops) == [(ORDER_GID, "on_hold", 77, True, "awaiting_payment")]

    put(shops, EVENING + 3 * HOUR)
    assert backfill(shops, EVENING + 4 * HOUR) == {TOPIC: 1}
    assert held(shops) == [(ORDER_GID, "open", 77, False, "")]


def test_without_their_scope_they_are_skipped_and_all_other_lists_are_read(shops: Shops) -> None:
    put(shops, NOON)
    put_order(shops, NOON)
    control(shops.url, shop=DOMAIN, denied_fields=["fulfillmentOrders"])

    assert backfill(shops).get("orders/updated") == 1

    assert held(shops) == []
    with transaction(shops.engine) as tx:
        assert find_cursor(tx, shops.holed, "shopify", "fulfillment_orders") is None
    control(shops.url, shop=DOMAIN, denied_fields=[])
    assert backfill(shops, EVENING + HOUR) == {TOPIC: 1}
