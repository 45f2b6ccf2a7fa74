"""Changes of counted levels add up to all movements since the count."""

import random

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.shopify.logistics.fulfillment_orders import ingest_fulfillment_orders
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.products.handler import ingest_products
from services.shopify.stock.handler import ingest_inventory_levels
from services.shopify.stock.levels import LevelKey
from services.shopify.stock.movement_levels import recount_levels
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    NOW,
    add_shop,
    at,
    count_levels,
    ingest,
    level,
    line,
    order,
    product,
    refund,
    rows,
)
from tests.shopify.stock_shop import routed

COUNTED = "select shop_id, inventory_item_id, location_id from inventory_levels where counted_at is not null"


@pytest.mark.parametrize("seed", range(6))
def test_counted_levels_are_what_a_recount_of_all_movements_gives(engine: Engine, seed: int) -> None:
    """With variants or only SKUs; at the counter, routed, without a location, before the count."""
    rng = random.Random(seed)
    add_shop(engine)
    skus_of_items = {ITEM: ("MUG", 5), ITEM + 1: ("MUG", 6), ITEM + 2: ("CUP", 7)}
    for number, (sku, variant) in skus_of_items.items():
        ingest(engine, ingest_products, product(sku, number=number, variant=variant))
    places = [(number, LOCATION + extra) for number in skus_of_items for extra in (0, 1)] + [
        (ITEM + 3, LOCATION)
    ]
    for number, location in places:
        ingest(engine, ingest_inventory_levels, level(50, -30, location=location, number=number))
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "update inventory_levels set sku = 'TEA' where inventory_item_id = %(n)s", {"n": ITEM + 3}
        )
    count_levels(engine)

    for place in range(12):
        orders = []
        for turn in range(rng.randint(1, 3)):
            number = 10_000 + 100 * place + 10 * turn
            variant, sku = rng.choice(
                ((5, "MUG"), (6, "MUG"), (7, "CUP"), (None, "MUG"), (None, "CUP"), (99, "TEA"))
            )
            sold = line(number + 1, sku, rng.randint(1, 3)) | {"variant_id": variant}
            location, created = rng.choice((None, LOCATION, LOCATION + 1)), at(rng.choice((place, -60)))
            orders.append(order(place, number=number, lines=[sold], location_id=location, created_at=created))
        ingest(engine, ingest_orders, *orders)
        if rng.random() < 0.4:
            ingest(engine, ingest_refunds, refund(number=number, refund_id=number + 5))
        if rng.random() < 0.4:
            ingest(engine, ingest_fulfillment_orders, routed(LOCATION + 1, number=number, order_id=number))

    keys = [LevelKey(*row) for row in rows(engine, COUNTED)]
    assert any(row[0] != 50 for row in rows(engine, "select available from inventory_levels"))
    with transaction(engine) as tx:
        assert recount_levels(tx, keys, NOW) == []
