"""Pushes of levels whose stock moved at Shopify: they are read, and set again where they differ."""

from datetime import timedelta

from sqlalchemy import Engine

from services.core.db import transaction
from services.shopify.orders.handler import ingest_orders
from services.shopify.stock.handler import ingest_inventory_levels
from services.shopify.stock.push_call import MAX_MOVES
from services.shopify.stock.push_result import WEBHOOK_WAIT
from tests.shopify.push_shop import FIGURES, WAITING, FakeStockApi, result_code, run, take
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    NOON,
    NOW,
    ORDER,
    at,
    ingest,
    level,
    line,
    order,
    rows,
)


def test_stock_that_moved_to_our_figure_is_in_sync(shop: Engine, api: FakeStockApi) -> None:
    api.available, api.seen_at = 7, NOON + timedelta(minutes=5)

    outcome, new_work = run(shop, api, take(shop))

    assert result_code(outcome) == "in_sync"
    assert rows(shop, FIGURES) == [(7, 7)]
    assert new_work == []


def test_stock_that_moved_is_read_and_set_to_our_count_after_a_wait(shop: Engine, api: FakeStockApi) -> None:
    api.available, api.seen_at = 42, NOON + timedelta(minutes=5)

    outcome, new_work = run(shop, api, take(shop))

    assert result_code(outcome) == "superseded"
    assert [(new.payload, new.not_before) for new in new_work] == [
        ({"is_read": True, "hops": 1}, NOW + WEBHOOK_WAIT)
    ]
    assert api.available == 42
    assert rows(shop, "select available, observed_available, shopify_available from inventory_levels") == [
        (7, 42, 42)
    ]
    assert result_code(run(shop, api, take(shop))[0]) == "pushed"
    assert api.terms == [(7, 10), (7, 42)]


def test_late_webhook_of_a_sale_that_was_seen_in_the_stock_ends_the_difference(
    shop: Engine, api: FakeStockApi
) -> None:
    """Shopify sold two more at 12:05; their webhook arrives after the level was read."""
    api.available, api.seen_at = 5, NOON + timedelta(minutes=5)
    run(shop, api, take(shop))
    assert rows(shop, FIGURES) == [(7, 5)]

    late = order(number=ORDER + 50, lines=[line(ORDER + 51, quantity=2)], created_at=at(5), updated=5)
    ingest(shop, ingest_orders, late)

    assert rows(shop, FIGURES) == [(5, 5)]
    assert result_code(run(shop, api, take(shop))[0]) == "in_sync"
    assert api.terms == [(7, 10)]


def test_stock_read_older_than_a_webhook_is_learned_and_waits(shop: Engine, api: FakeStockApi) -> None:
    api.available, api.seen_at = 8, NOON - timedelta(hours=2)

    outcome, _ = run(shop, api, take(shop))

    assert result_code(outcome) == "superseded"
    assert rows(shop, FIGURES) == [(7, 8)]
    payload = {"hops": 1, "is_read": True}
    assert rows(shop, WAITING)[1:] == [(f"{ITEM}:{LOCATION}", payload, NOW + WEBHOOK_WAIT)]
    assert result_code(run(shop, api, take(shop))[0]) == "pushed"
    assert api.requests[1]["key"] != api.requests[0]["key"]


def test_level_of_a_shop_that_shopify_owns_is_not_pushed(shop: Engine, api: FakeStockApi) -> None:
    item = take(shop)
    with transaction(shop) as tx:
        tx.exec_driver_sql("update shop_config set stock_owner = 'shopify'")

    assert result_code(run(shop, api, item)[0]) == "not_ours"
    assert (
        result_code(run(shop, api, item._replace(payload={"quantity": 7, "batch": item.id}))[0]) == "not_ours"
    )
    assert api.requests == []


def test_level_that_was_not_counted_here_is_not_pushed(shop: Engine, api: FakeStockApi) -> None:
    item = take(shop)
    with transaction(shop) as tx:
        tx.exec_driver_sql("update inventory_levels set counted_at = null")

    assert result_code(run(shop, api, item)[0]) == "not_ours"
    assert api.requests == []


def test_level_observed_too_soon_after_a_sale_is_read_before_it_is_set(
    shop: Engine, api: FakeStockApi
) -> None:
    item = take(shop)
    ingest(shop, ingest_inventory_levels, level(9, 1.5))
    sale = order(number=ORDER + 50, lines=[line(ORDER + 51)], created_at=at(1), updated=1)
    ingest(shop, ingest_orders, sale)
    api.available = 9

    outcome, _ = run(shop, api, item)
    assert (result_code(outcome), api.requests) == ("superseded", [])

    assert [result_code(run(shop, api, take(shop))[0]) for _ in range(2)] == ["superseded", "pushed"]
    assert api.terms == [(6, 9)]


def test_level_that_shopify_lowered_itself_is_read_and_left_alone(shop: Engine, api: FakeStockApi) -> None:
    item = take(shop)
    sale = order(number=ORDER + 50, lines=[line(ORDER + 51)], created_at=at(1), updated=1)
    ingest(shop, ingest_orders, sale)
    api.available = 6

    assert result_code(run(shop, api, item)[0]) == "in_sync"
    assert api.requests == []
    assert rows(shop, FIGURES) == [(6, 6)]


def test_sale_whose_location_is_unknown_holds_back_the_levels_of_its_item(
    shop: Engine, api: FakeStockApi
) -> None:
    item = take(shop)
    ingest(shop, ingest_inventory_levels, level(5, -1, location=LOCATION + 1))

    assert rows(shop, "select available from inventory_levels order by location_id") == [(10,), (5,)]
    ingest(shop, ingest_inventory_levels, level(12, 2))
    assert result_code(run(shop, api, item)[0]) == "location_unknown"
    assert api.requests == []


def test_stock_that_moves_again_and_again_waits_for_a_person(shop: Engine, api: FakeStockApi) -> None:
    seen = []
    for turn in range(MAX_MOVES + 1):
        api.available = 20 + turn
        seen.append(result_code(run(shop, api, take(shop))[0]))

    assert seen == ["superseded"] * MAX_MOVES + ["shopify.stock_contended"]


def test_item_that_the_shop_no_longer_stocks_is_done(shop: Engine, api: FakeStockApi) -> None:
    api.available = None

    assert result_code(run(shop, api, take(shop))[0]) == "not_stocked"
