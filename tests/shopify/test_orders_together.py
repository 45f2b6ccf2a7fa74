"""Orders: workers on the same orders, and large sets."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.ledger.work import WorkItem
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.orders.store import MANY_LINES
from services.shopify.products.handler import ingest_products
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.sample_payloads import (
    NOW,
    ORDER,
    SHOP,
    add_shop,
    count_levels,
    ingest,
    level,
    line,
    order,
    outcome_codes,
    product,
    refund,
    rows,
)  # fmt: skip

ORDERS = "select order_gid, name, total_cents, currency, financial_status, stage from orders order by 1"


def test_two_workers_on_one_order_leave_the_newest(engine: Engine) -> None:
    barrier = threading.Barrier(4)

    def work(place: int) -> None:
        for turn in range(5):
            barrier.wait(60)
            with transaction(engine) as tx:
                minute = turn * 4 + (place * 3) % 4
                sold = [line(quantity=1 + minute), line(ORDER + 2, f"SKU{place}")]
                ingest_orders(tx, [order(minute, name=f"#{minute}", lines=sold)], NOW)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, place) for place in range(4)]:
            done.result()

    assert [row[1] for row in rows(engine, ORDERS)] == ["#19"]
    assert rows(engine, "select quantity from order_lines where line_id = :id", id=ORDER + 1) == [(20,)]
    assert rows(engine, "select delta from stock_movements where sku = 'MUG'") == [(-20,)]


def test_two_workers_on_sets_that_share_orders_do_not_deadlock(engine: Engine) -> None:
    numbers = range(ORDER, ORDER + 400, 10)

    def work(place: int) -> None:
        for turn in range(4):
            order_of_set = numbers if (place + turn) % 2 else numbers[::-1]
            with transaction(engine) as tx:
                items = [order(turn, number=n, lines=[line(n + 1, f"SKU{n % 7}")]) for n in order_of_set]
                ingest_orders(tx, items, NOW)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work, place) for place in range(3)]:
            done.result()

    assert rows(engine, "select count(*), sum(delta) from stock_movements") == [(40, -40)]


MANY = range(MANY_LINES)


def many_orders() -> list[WorkItem]:
    """Return enough new orders of one line that their rows are inserted without conflict checks."""
    return [order(number=ORDER + 10 * n, lines=[line(ORDER + 10 * n + 1, quantity=2)]) for n in MANY]


@pytest.mark.parametrize("has_level", [True, False])
def test_a_large_set_of_new_orders_leaves_stock_once(engine: Engine, has_level: bool) -> None:
    add_shop(engine)
    if has_level:
        ingest(engine, ingest_products, product())
        ingest(engine, ingest_inventory_levels, level(1000, -5))
        count_levels(engine)

    ingest(engine, ingest_orders, *many_orders())
    ingest(engine, ingest_orders, *many_orders())

    assert rows(engine, "select count(*), sum(delta) from stock_movements") == [(len(MANY), -2 * len(MANY))]
    assert rows(engine, "select available from inventory_levels") == (
        [(1000 - 2 * len(MANY),)] if has_level else []
    )


def test_a_refund_that_came_before_its_order_counts_in_a_large_set_too(engine: Engine) -> None:
    ingest(engine, ingest_refunds, refund(amount="7.50"))

    ingest(engine, ingest_orders, *many_orders())

    assert rows(engine, "select order_gid, refunded_cents from orders where refunded_cents > 0") == [
        (f"gid://shopify/Order/{ORDER}", 750)
    ]


def test_rows_of_a_new_order_that_are_there_against_all_expectation_are_put_right(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(1000, -5))
    count_levels(engine)
    values = {"shop": SHOP, "gid": f"gid://shopify/Order/{ORDER}", "line": ORDER + 1}
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "insert into order_lines (shop_id, order_gid, line_id, sku, title, quantity, price_cents)"
            " values (%(shop)s, %(gid)s, %(line)s, 'OLD', 'Old', 9, 1)",
            values,
        )
        tx.exec_driver_sql(
            "insert into stock_movements (shop_id, source, sku, delta, at)"
            " values (%(shop)s, 'order-line:' || %(line)s, 'MUG', -9, '2026-11-20T20:00:00Z')",
            values,
        )

    effects = ingest(engine, ingest_orders, *many_orders())

    assert outcome_codes(effects) == ["done"] * len(MANY)
    assert rows(engine, "select distinct sku, quantity from order_lines") == [("MUG", 2)]
    assert rows(engine, "select sum(delta) from stock_movements") == [(-2 * len(MANY),)]
    assert rows(engine, "select available from inventory_levels") == [(1000 - 2 * len(MANY),)]
