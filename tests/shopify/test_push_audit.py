"""Audit of pushes: figures set and figures read."""

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


def test_push_is_audited_with_the_figure_that_was_set(shop: Engine, api: FakeStockApi) -> None:
    run(shop, api, take(shop))

    audited = ("inventory_push", "inventory_push", f"pushed to Shopify: {LABEL} is 7 (was 10)")
    assert rows(shop, AUDITED) == [(*audited, {"shopify_available": 10}, {"shopify_available": 7})]


def test_push_is_audited_even_after_a_newer_webhook(shop: Engine, api: FakeStockApi) -> None:
    api.during = lambda: ingest(shop, ingest_inventory_levels, level(4, 50))

    run(shop, api, take(shop))

    assert [row[2:] for row in rows(shop, AUDITED)] == [
        (f"pushed to Shopify: {LABEL} is 7 (was 10)", None, None)
    ]


def test_stock_that_was_read_is_audited_as_what_shopify_counted(shop: Engine, api: FakeStockApi) -> None:
    api.available, api.seen_at = 42, NOON + timedelta(minutes=5)

    run(shop, api, take(shop))

    ((who, action, summary, _, after),) = rows(shop, AUDITED)
    assert (who, action) == ("inventory_push", "inventory_push")
    assert summary == f"{LABEL}: Shopify counted 42 (was 10)"
    assert after["shopify_available"] == 42


def test_stock_read_without_a_newer_time_is_audited_as_what_shopify_holds(
    shop: Engine, api: FakeStockApi
) -> None:
    api.available = 8

    run(shop, api, take(shop))

    summary = f"Shopify holds 8, not 10: a later push sets {LABEL}"
    assert [row[2:] for row in rows(shop, AUDITED)] == [
        (summary, {"shopify_available": 10}, {"shopify_available": 8})
    ]


def test_equal_stock_is_audited_only_if_it_was_unknown(shop: Engine, api: FakeStockApi) -> None:
    api.available = 7

    run(shop, api, take(shop))

    assert [row[2] for row in rows(shop, AUDITED)] == [f"Shopify holds 7 already: {LABEL}"]
