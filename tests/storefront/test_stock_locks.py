"""Who counts stock waits for whom: nothing is missed, and nobody waits without need."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.ledger.work import WorkItem
from services.storefront.orders import ingest_orders
from services.storefront.products import ingest_products
from services.storefront.stock import ingest_inventory_levels
from tests.storefront.bodies import NOW, ORDER, Ingest, ingest, level, line, order, product, rows

WAITERS = "select count(*) from pg_locks where locktype = 'advisory' and not granted"


def sale(number: int) -> WorkItem:
    return order(10, number=ORDER + 10 * number, lines=[line(ORDER + 10 * number + 1, quantity=3)])


def test_two_sets_of_orders_that_sell_what_nobody_counts_do_not_wait_for_each_other(engine: Engine) -> None:
    with transaction(engine) as first, transaction(engine) as second:
        second.exec_driver_sql("set local lock_timeout = '2s'")
        ingest_orders(first, [sale(1)], NOW)
        ingest_orders(second, [sale(2)], NOW)

    assert rows(engine, "select sum(delta) from stock_movements") == [(-6,)]


def sell(engine: Engine) -> None:
    ingest(engine, ingest_orders, sale(1))


def count(engine: Engine) -> None:
    ingest(engine, ingest_inventory_levels, level(100, -5))


@pytest.mark.parametrize(
    ("effect", "item", "then"),
    [(ingest_orders, lambda: sale(1), count), (ingest_inventory_levels, lambda: level(100, -5), sell)],
    ids=["the sale first", "the level first"],
)
def test_a_level_that_appears_while_its_sku_is_sold_counts_the_sale(
    engine: Engine, effect: Ingest, item: Callable[[], WorkItem], then: Callable[[Engine], None]
) -> None:
    ingest(engine, ingest_products, product())

    with ThreadPoolExecutor(1) as pool:
        with transaction(engine) as tx:
            effect(tx, [item()], NOW)
            other = pool.submit(then, engine)
            give_up = time.monotonic() + 20
            while not rows(engine, WAITERS)[0][0]:
                assert time.monotonic() < give_up, "the other did not wait"
        other.result(20)

    assert rows(engine, "select available from inventory_levels") == [(97,)]
