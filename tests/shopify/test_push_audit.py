"""The audit of pushes: what was set, and what was read."""

from datetime import timedelta

from sqlalchemy import Engine

from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.push_shop import FakeStockApi, run, take
from tests.shopify.sample_payloads import (
    LOCATION,
    NOON,
    ingest,
    level,
    rows,
)

AUDITED = (
    "select e.staff_label, e.action, m.summary, m.before, m.after from audit_mutations m "
    "join audit_events e on e.id = m.event_id where e.action = 'inventory_push' order by e.seq"
)
LABEL = f"stock of MUG at location {LOCATION}"


def test_push_is_audited_with_what_the_shop_was_told(shop: Engine, api: FakeStockApi) -> None:
    run(shop, api, take(shop))

    told = ("inventory_push", "inventory_push", f"pushed to Shopify: {LABEL} is 7 (was 10)")
    assert rows(shop, AUDITED) == [(*told, {"shopify_available": 10}, {"shopify_available": 7})]


def test_push_is_audited_though_a_webhook_knew_better_by_then(shop: Engine, api: FakeStockApi) -> None:
    api.during = lambda: ingest(shop, ingest_inventory_levels, level(4, 50))

    run(shop, api, take(shop))

    assert [row[2:] for row in rows(shop, AUDITED)] == [
        (f"pushed to Shopify: {LABEL} is 7 (was 10)", None, None)
    ]


def test_stock_that_was_read_is_audited_as_what_shopify_counted(shop: Engine, api: FakeStockApi) -> None:
    api.available, api.seen_at = 42, NOON + timedelta(minutes=5)

    run(shop, api, take(shop))

    ((who, action, words, _, after),) = rows(shop, AUDITED)
    assert (who, action) == ("inventory_push", "inventory_push")
    assert words == f"{LABEL}: Shopify counted 42 (was 10)"
    assert after["shopify_available"] == 42


def test_stock_read_without_a_newer_time_is_audited_as_what_shopify_holds(
    shop: Engine, api: FakeStockApi
) -> None:
    api.available = 8

    run(shop, api, take(shop))

    words = f"Shopify holds 8, not 10: a later push sets {LABEL}"
    assert [row[2:] for row in rows(shop, AUDITED)] == [
        (words, {"shopify_available": 10}, {"shopify_available": 8})
    ]


def test_stock_in_step_is_audited_only_if_we_did_not_know(shop: Engine, api: FakeStockApi) -> None:
    api.available = 7

    run(shop, api, take(shop))

    assert [row[2] for row in rows(shop, AUDITED)] == [f"Shopify holds 7 already: {LABEL}"]
