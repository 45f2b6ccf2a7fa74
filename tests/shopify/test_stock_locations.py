"""The item and the location of a stock movement."""

import pytest
from sqlalchemy import Engine

from services.shopify.logistics.fulfillment_orders import ingest_fulfillment_orders
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.products.handler import ingest_products
from services.shopify.products.inventory_items import ingest_inventory_items
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    add_shop,
    clear_work_queue,
    count_levels,
    ingest,
    level,
    line,
    order,
    outcome_codes,
    product,
    refund,
    rows,
)
from tests.shopify.stock_shop import KEY, LEVELS, routed, stock_item


@pytest.fixture
def counted_shop(engine: Engine) -> Engine:
    """A shop that owns its figures, with ten mugs counted a minute before noon."""
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -1))
    count_levels(engine)
    clear_work_queue(engine)
    return engine


def test_level_known_before_its_variant_counts_orders_once_the_sku_is_known(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_inventory_levels, level(10, -1))
    count_levels(engine)
    ingest(engine, ingest_orders, order())
    assert rows(engine, LEVELS) == [(LOCATION, "", 10, 10)]
    clear_work_queue(engine)

    effects = ingest(engine, ingest_products, product())

    assert rows(engine, LEVELS) == [(LOCATION, "MUG", 9, 10)]
    assert [new.key for new in effects.new_work] == [KEY]


def test_variant_that_loses_its_sku_gives_back_what_was_counted(counted_shop: Engine) -> None:
    ingest(counted_shop, ingest_orders, order())
    ingest(counted_shop, ingest_products, product(None, 1))

    assert rows(counted_shop, LEVELS) == [(LOCATION, "", 10, 10)]
    assert outcome_codes(ingest(counted_shop, ingest_products, product("MUG", 0))) == ["stale"]


def test_sale_over_the_counter_counts_at_its_own_location(counted_shop: Engine) -> None:
    ingest(counted_shop, ingest_inventory_levels, level(5, -1, location=LOCATION + 1))
    count_levels(counted_shop)

    ingest(counted_shop, ingest_orders, order(location_id=LOCATION + 1))

    assert [row[2] for row in rows(counted_shop, LEVELS)] == [10, 4]


def test_sale_without_a_location_counts_where_its_item_alone_is_stocked_else_nowhere(
    counted_shop: Engine,
) -> None:
    ingest(counted_shop, ingest_orders, order())
    assert [row[2] for row in rows(counted_shop, LEVELS)] == [9]

    ingest(counted_shop, ingest_inventory_levels, level(5, -1, location=LOCATION + 1))

    assert [row[2] for row in rows(counted_shop, LEVELS)] == [10, 5]


def test_online_sale_counts_where_its_fulfilment_order_is_assigned(counted_shop: Engine) -> None:
    ingest(counted_shop, ingest_inventory_levels, level(5, -1, location=LOCATION + 1))
    count_levels(counted_shop)
    ingest(counted_shop, ingest_orders, order())
    assert [row[2] for row in rows(counted_shop, LEVELS)] == [10, 5]
    clear_work_queue(counted_shop)

    effects = ingest(counted_shop, ingest_fulfillment_orders, routed(LOCATION + 1))

    assert [row[2] for row in rows(counted_shop, LEVELS)] == [10, 4]
    assert [new.key for new in effects.new_work] == [f"{ITEM}:{LOCATION + 1}"]
    assert f"stock of MUG at location {LOCATION + 1} 5 -> 4" in effects.audit[0].mutations[-1].summary


def test_sale_that_fulfilment_orders_divide_over_locations_counts_nowhere(counted_shop: Engine) -> None:
    ingest(counted_shop, ingest_inventory_levels, level(5, -1, location=LOCATION + 1))
    count_levels(counted_shop)
    ingest(counted_shop, ingest_orders, order())

    ingest(counted_shop, ingest_fulfillment_orders, routed(LOCATION + 1), routed(LOCATION, 2))

    assert [row[2] for row in rows(counted_shop, LEVELS)] == [10, 5]


def test_restock_counts_at_the_location_of_its_refund(counted_shop: Engine) -> None:
    ingest(counted_shop, ingest_inventory_levels, level(5, -1, location=LOCATION + 1))
    count_levels(counted_shop)
    ingest(counted_shop, ingest_orders, order(location_id=LOCATION + 1, lines=[line(quantity=3)]))

    ingest(counted_shop, ingest_refunds, refund())

    assert [row[2] for row in rows(counted_shop, LEVELS)] == [11, 2]


def test_line_counts_for_the_item_of_its_variant_where_several_have_its_sku(counted_shop: Engine) -> None:
    twin = product(number=ITEM + 1, variant=6)
    ingest(counted_shop, ingest_products, twin)
    ingest(counted_shop, ingest_inventory_levels, level(20, -1, number=ITEM + 1))
    count_levels(counted_shop)

    ingest(counted_shop, ingest_orders, order(lines=[line(quantity=3) | {"variant_id": 6}]))

    by_item = "select inventory_item_id, available from inventory_levels order by 1"
    assert rows(counted_shop, by_item) == [(ITEM, 10), (ITEM + 1, 17)]


def test_line_without_a_variant_counts_for_no_item_where_several_have_its_sku(counted_shop: Engine) -> None:
    ingest(counted_shop, ingest_products, product(number=ITEM + 1, variant=6))
    ingest(counted_shop, ingest_inventory_levels, level(20, -1, number=ITEM + 1))
    count_levels(counted_shop)

    ingest(counted_shop, ingest_orders, order(lines=[line(quantity=3)]))

    assert [row[2] for row in rows(counted_shop, LEVELS)] == [10, 20]


def test_level_has_the_sku_that_only_its_inventory_item_states(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_inventory_items, stock_item("CUP", -5))
    ingest(engine, ingest_inventory_levels, level(10, -1))
    assert rows(engine, LEVELS) == [(LOCATION, "CUP", 10, 10)]

    ingest(engine, ingest_inventory_items, stock_item("PLATE", 5))

    assert rows(engine, LEVELS) == [(LOCATION, "PLATE", 10, 10)]


def test_level_that_takes_another_sku_leaves_what_moved_to_the_other_item_of_the_sku(
    counted_shop: Engine,
) -> None:
    ingest(counted_shop, ingest_products, product(number=ITEM + 1, variant=6))
    ingest(counted_shop, ingest_inventory_levels, level(5, -1, number=ITEM + 1, location=LOCATION + 1))
    count_levels(counted_shop)
    ingest(counted_shop, ingest_orders, order(lines=[line(quantity=3)]))
    assert rows(counted_shop, LEVELS) == [(LOCATION, "MUG", 10, 10), (LOCATION + 1, "MUG", 5, 5)]

    ingest(counted_shop, ingest_products, product("CUP", 1))

    assert rows(counted_shop, LEVELS) == [(LOCATION, "CUP", 10, 10), (LOCATION + 1, "MUG", 2, 5)]
