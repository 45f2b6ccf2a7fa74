"""Returns are backfilled with changed orders: Shopify has no other list of them."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from services.core.db import transaction
from services.sandbox.payloads.templates import local_text
from services.shopify.backfill.run import backfill_shopify
from tests.shopify.backfill.fake_shop import DOMAIN, Shops, control, put_order, receive, work_off
from tests.shopify.backfill.sample_day import EVENING, Webhook

NOON, HOUR = EVENING - timedelta(hours=6), timedelta(hours=1)
RETURN = 2**53 + 1


def put(shops: Shops, order_id: int, at: datetime, status: str, number: int = RETURN, **fields: Any) -> None:
    """Add a return at Shopify that changed at ``at``."""
    body = {
        "id": number, "order_id": order_id, "status": status, "name": f"#1-R{number % 10}", "quantity": 1,
        "updated_at": local_text(at),
    }  # fmt: skip
    control(shops.url, shop=DOMAIN, returns=[body | fields])


def backfill(shops: Shops, now: datetime = EVENING) -> dict[str, int]:
    stats = backfill_shopify(shops.holed, now, "backfill")
    work_off(shops.engine)
    return {topic: count for topic, count in stats.recorded.items() if topic.startswith("returns/")}


def held(shops: Shops) -> list[Any]:
    query = "select order_gid, name, status, decline_reason from order_returns order by return_id"
    with transaction(shops.engine) as tx:
        return [tuple(row) for row in tx.execute(text(query))]


def test_missing_return_is_recorded_once_with_its_order(shops: Shops) -> None:
    order = put_order(shops, NOON)
    declined = {"reason": "final_sale", "note": "As Zerlina was told"}
    put(shops, order["id"], NOON + HOUR, "open")
    put(shops, order["id"], NOON + HOUR, "declined", RETURN + 1, decline=declined)

    assert backfill(shops) == {"returns/approve": 1, "returns/decline": 1}
    gid = order["admin_graphql_api_id"]
    assert held(shops) == [
        (gid, f"#1-R{RETURN % 10}", "open", ""),
        (gid, f"#1-R{(RETURN + 1) % 10}", "declined", "final_sale"),
    ]
    assert backfill(shops, EVENING + HOUR) == {}


def test_missed_close_is_recorded_and_a_later_webhook_is_not_undone(shops: Shops) -> None:
    order = put_order(shops, NOON)
    put(shops, order["id"], NOON + HOUR, "open")
    backfill(shops)
    put(shops, order["id"], EVENING + HOUR, "closed")
    assert backfill(shops, EVENING + 2 * HOUR) == {"returns/close": 1}

    body = {"id": RETURN, "admin_graphql_api_id": f"gid://shopify/Return/{RETURN}",
            "order_id": order["id"], "status": "open"}  # fmt: skip
    receive(shops.engine, shops.holed, [Webhook("returns/reopen", body, EVENING + 3 * HOUR)])
    assert backfill(shops, EVENING + 3 * HOUR) == {}
    assert [row[2] for row in held(shops)] == ["open"]


def test_more_returns_than_one_page_shows_are_all_read(shops: Shops) -> None:
    order = put_order(shops, NOON)
    for place in range(8):
        put(shops, order["id"], NOON, "requested", RETURN + place)

    assert backfill(shops) == {"returns/request": 8}
