"""Locks of stock changes: no lost update and no unnecessary wait."""

import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.accept import record_work
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.ledger.work import NewWork, WorkItem
from services.providers.shopify_admin import ShopifyLevel, ShopLevelKey
from services.shopify.orders.handler import ingest_orders
from services.shopify.products.handler import ingest_products
from services.shopify.stock.count_store import record_counts
from services.shopify.stock.counts import LevelCount, plan_counts
from services.shopify.stock.handler import ingest_inventory_levels
from services.shopify.stock.pools import update_oversold_incidents
from services.shopify.stock.push import InventoryPushHandler
from services.shops.secrets import record_secret
from tests.lock_order import watch_locks
from tests.shopify.push_shop import FakeStockApi
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    NOON,
    NOW,
    ORDER,
    add_shop,
    ingest,
    level,
    line,
    order,
    product,
    rows,
)

WAITERS = "select count(*) from pg_locks where not granted"


def wait_until(holds: Callable[[], object], what: str) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up, what


def sale(number: int) -> WorkItem:
    return order(10, number=ORDER + 10 * number, lines=[line(ORDER + 10 * number + 1, quantity=3)])


def test_batches_of_orders_of_uncounted_items_do_not_wait_for_each_other(engine: Engine) -> None:
    with transaction(engine) as first, transaction(engine) as second:
        second.exec_driver_sql("set local lock_timeout = '2s'")
        ingest_orders(first, [sale(1)], NOW)
        ingest_orders(second, [sale(2)], NOW)

    assert rows(engine, "select sum(delta) from stock_movements") == [(-6,)]


def sell(engine: Engine) -> None:
    ingest(engine, ingest_orders, sale(1))


def count(engine: Engine) -> None:
    with transaction(engine) as tx:
        take_count(tx)


def take_count(tx: Connection) -> None:
    place = ShopLevelKey(ITEM, LOCATION)
    held = {place: ShopifyLevel(100, None, 100)}
    changes = plan_counts(tx, 1, [LevelCount(place, 100)], held)
    record_counts(tx, 1, changes, held, NOON - timedelta(minutes=5), NOW, by="t", request_id="r")


@pytest.mark.parametrize(
    ("first", "then"),
    [(lambda tx: ingest_orders(tx, [sale(1)], NOW), count), (take_count, sell)],
    ids=["the sale first", "the count first"],
)
def test_a_count_that_is_taken_while_its_item_is_sold_includes_the_sale(
    engine: Engine, first: Callable[[Connection], object], then: Callable[[Engine], None]
) -> None:
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(100, -6))
    with transaction(engine) as tx:
        tx.exec_driver_sql("update shop_config set stock_owner = 'shopfleet'")

    with ThreadPoolExecutor(1) as pool:
        with transaction(engine) as tx:
            first(tx)
            other = pool.submit(then, engine)
            wait_until(lambda: rows(engine, WAITERS)[0][0], "the other did not wait")
        other.result(60)

    assert rows(engine, "select available from inventory_levels") == [(97,)]


@pytest.fixture
def shops(engine: Engine) -> Engine:
    """Two shops with a counted level each."""
    add_shop(engine)
    add_shop(engine, "cove", "cove.myshopify.com")
    with transaction(engine) as tx:
        tx.exec_driver_sql("update shop_config set stock_owner = 'shopfleet'")
    for shop_id, number in ((1, 7), (2, 8)):
        with transaction(engine) as tx:
            record_secret(tx, shop_id, "shopify-token", "shpat_0123456789abcdef", utc_now())
            tx.execute(
                text(
                    "insert into inventory_levels (shop_id, inventory_item_id, location_id, sku, available, "
                    "observed_available, observed_at, shopify_available, changed_at, counted_available, "
                    "counted_at) values (:shop, :number, 1, 'SKU' || :number, 3, 10, '2026-01-01', 10, "
                    "now(), 3, '2026-01-01')"
                ),
                {"shop": shop_id, "number": number},
            )
    return engine


def list_due_pushes(engine: Engine, *shops: int) -> None:
    with transaction(engine) as tx:
        levels = tx.exec_driver_sql("select shop_id, inventory_item_id || ':1' as key from inventory_levels")
        pushes = [
            NewWork(shop_id=row.shop_id, topic="inventory_push", key=row.key)
            for row in levels
            if not shops or row.shop_id in shops
        ]
        record_work(tx, pushes, utc_now())


def push_levels(engine: Engine, held: Mapping[int, int]) -> None:
    """Push while each shop has its figure in ``held`` for every item."""
    apis = {
        shop_id: FakeStockApi(
            others={ShopLevelKey(number, 1): available for number in range(1, 501)},
            seen_at=utc_now(),
            throttle=None,
        )
        for shop_id, available in held.items()
    }
    effect = InventoryPushHandler(lambda access: apis[access.shop_id])
    ExternalRunner(engine, "tests", random.Random(1)).run_batch(TOPICS["inventory_push"], effect)


def sell_in_both_shops(engine: Engine) -> None:
    levels = "select shop_id, sku, inventory_item_id from inventory_levels where shop_id < 3 order by shop_id"
    sold = [
        order(number=ORDER + shop, lines=[line(ORDER + 10 * shop, sku) | {"variant_id": number + 500}])
        ._replace(shop_id=shop)
        for shop, sku, number in rows(engine, levels)
    ]  # fmt: skip
    with transaction(engine) as tx:
        record_work(tx, ingest_orders(tx, sold, NOW).new_work, NOW)


def push_while_orders_wait(engine: Engine, held: Mapping[int, int], lock: str) -> list[str]:
    """Push, and start orders after a statement with ``lock``, so that they wait. Return the errors."""
    sellers: list[Any] = []
    faults: list[str] = []

    def sell_once_locked(*given: Any) -> None:
        if lock in given[2] and not sellers:
            sellers.append(pool.submit(sell_in_both_shops, engine))
            wait_until(lambda: rows(engine, WAITERS)[0][0] or sellers[0].done(), "the orders did not wait")

    def keep_fault(context: Any) -> None:
        faults.append(str(context.original_exception))

    with ThreadPoolExecutor(1) as pool:
        event.listen(engine, "after_cursor_execute", sell_once_locked)
        event.listen(engine, "handle_error", keep_fault)
        try:
            push_levels(engine, held)
            sellers[0].result(60)
        finally:
            event.remove(engine, "after_cursor_execute", sell_once_locked)
            event.remove(engine, "handle_error", keep_fault)
    return faults


def test_pushes_of_several_shops_settle_during_a_batch_of_their_orders(shops: Engine) -> None:
    list_due_pushes(shops)

    assert push_while_orders_wait(shops, {1: 42, 2: 42}, "then pg_advisory_xact_lock_shared(1, bucket)") == []
    assert rows(shops, "select distinct result from work_queue where status = 'done'") == [("superseded",)]
    assert rows(shops, "select shopify_available from inventory_levels") == [(42,), (42,)]
    assert rows(shops, "select shop_id, delta from stock_movements order by 1") == [(1, -1), (2, -1)]


@pytest.fixture
def oversold(shops: Engine) -> Engine:
    """Shop 1 shares a pool with shop 3, whose item is below zero; shop 2 counts its stock."""
    add_shop(shops, "pier", "pier.myshopify.com")
    with transaction(shops) as tx:
        record_secret(tx, 3, "shopify-token", "shpat_0123456789abcdef", utc_now())
        tx.exec_driver_sql("update shop_config set stock_owner = 'pool:mugs' where shop_id <> 2")
        tx.exec_driver_sql("insert into stock_pools (name) values ('mugs')")
        tx.exec_driver_sql(
            "insert into stock_pool_items (pool, sku, available, changed_at) "
            "values ('mugs', 'MUG', -1, now())"
        )
        tx.exec_driver_sql(
            "insert into inventory_levels (shop_id, inventory_item_id, location_id, sku, available, "
            "observed_available, observed_at, changed_at) values (3, 9, 1, 'SKU9', 0, 0, '2026-01-01', now())"
        )
        tx.exec_driver_sql(
            "update inventory_levels set counted_at = null, counted_available = null, pool = 'mugs', "
            "pool_sku = 'MUG', available = 0, shopify_available = 0, doubts = 1 where shop_id <> 2"
        )
        tx.exec_driver_sql(
            "insert into variants (shop_id, inventory_item_id, variant_id, sku, title, updated_at) "
            "values (1, 7, 507, 'SKU7', '', now())"
        )
        update_oversold_incidents(tx, {("mugs", "MUG")}, NOW)
    return shops


def test_pushes_of_a_pool_and_a_counting_shop_settle_during_orders_of_an_oversold_item(
    oversold: Engine,
) -> None:
    """Both write the incident of the item and lock the level of shop 2 in the same order.

    Shop 2 accepts its push, shop 3 has a restock.
    """
    list_due_pushes(oversold, 2, 3)

    assert push_while_orders_wait(oversold, {2: 10, 3: 42}, "/* lock 4 levels */") == []
    assert rows(oversold, "select available from stock_pool_items") == [(41,)]
    assert rows(oversold, "select status from incidents where rule = 'stock_oversold'") == [("resolved",)]
    assert rows(oversold, "select shop_id, delta from stock_movements order by 1") == [(1, -1), (2, -1)]


def test_pushes_of_several_shops_lock_each_kind_once(shops: Engine) -> None:
    list_due_pushes(shops)
    with watch_locks(shops) as watch:
        push_levels(shops, {1: 42, 2: 42})

    assert ["objects", "stock", "levels", "chains"] in watch.order
