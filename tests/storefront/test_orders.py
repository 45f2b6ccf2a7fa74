"""Orders: the newest event wins, each line leaves stock once, one bad body refuses alone."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.errors import Refused
from services.storefront.orders import ingest_orders
from tests.storefront.bodies import NOW, ORDER, ingest, item, line, order, rows, verdicts

ORDERS = "select order_gid, name, total_cents, currency, financial_status, stage from orders order by 1"


def test_order_becomes_a_row_with_its_lines_and_ids_beyond_a_float_are_exact(engine: Engine) -> None:
    effects = ingest(engine, ingest_orders, order(lines=[line(), line(ORDER + 2, None, 3, "0.05")]))

    assert verdicts(effects) == ["done"]
    assert rows(engine, ORDERS) == [
        (f"gid://shopify/Order/{ORDER}", f"#{ORDER % 1000}", 1250, "CAD", "paid", "Filling")
    ]
    assert rows(engine, "select line_id, sku, quantity, price_cents from order_lines order by 1") == [
        (ORDER + 1, "MUG", 1, 1250),
        (ORDER + 2, "", 3, 5),
    ]
    assert rows(engine, "select source, sku, delta from stock_movements") == [
        (f"order-line:{ORDER + 1}", "MUG", -1)
    ]


def test_older_event_is_stale_and_changes_nothing(engine: Engine) -> None:
    ingest(engine, ingest_orders, order(10, financial_status="refunded"))

    effects = ingest(engine, ingest_orders, order(5, lines=[line(), line(ORDER + 9)]))

    assert verdicts(effects) == ["stale"]
    assert [row[4] for row in rows(engine, ORDERS)] == ["refunded"]
    assert rows(engine, "select count(*) from order_lines") == [(1,)]


def test_several_events_of_one_order_in_a_set_leave_the_newest(engine: Engine) -> None:
    effects = ingest(engine, ingest_orders, order(1), order(9, name="#new"), order(9, name="#new"), order(5))

    assert verdicts(effects) == ["stale", "done", "done", "stale"]
    assert [row[1] for row in rows(engine, ORDERS)] == ["#new"]


def test_same_event_again_is_done_and_deducts_once(engine: Engine) -> None:
    first = order(lines=[line(quantity=4)])
    ingest(engine, ingest_orders, first)

    effects = ingest(engine, ingest_orders, first, first)

    assert verdicts(effects) == ["done", "done"]
    assert rows(engine, "select sum(delta) from stock_movements") == [(-4,)]


def test_stage_that_people_set_survives_an_update(engine: Engine) -> None:
    ingest(engine, ingest_orders, order(1))
    with transaction(engine) as tx:
        tx.exec_driver_sql("update orders set stage = 'Packing'")

    ingest(engine, ingest_orders, order(2))

    assert [row[5] for row in rows(engine, ORDERS)] == ["Packing"]


@pytest.mark.parametrize(
    ("currency", "amount", "minor"), [("JPY", "1999", 1999), ("JPY", "1999.00", 1999), ("KWD", "1.5", 1500)]
)
def test_money_is_in_the_minor_units_of_its_currency(
    engine: Engine, currency: str, amount: str, minor: int
) -> None:
    ingest(engine, ingest_orders, order(currency=currency, total_price=amount, lines=[line(price="7")]))

    assert [row[2:4] for row in rows(engine, ORDERS)] == [(minor, currency)]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"currency": None}, "currency is None: it should be text"),
        ({"total_price": "12,50"}, "total_price is '12,50'"),
        ({"total_price": "12.505"}, "more than the 2 decimals of CAD"),
        ({"total_price": 12.5}, "total_price is 12.5"),
        (
            {"updated_at": "2026-11-20T10:00:00"},
            "updated_at is '2026-11-20T10:00:00': it should be a time with",
        ),
        ({"created_at": None}, "created_at is None"),
        ({"line_items": None}, "line_items is None: it should be a list"),
        ({"line_items": [line(), line()]}, "lines with an id each of its own"),
        ({"line_items": [line(), line(2**63)]}, "line_items[1].id is"),
        ({"line_items": [line(quantity=-1)]}, "line_items[0].quantity is -1: it should be zero or more"),
        ({"admin_graphql_api_id": None, "id": None}, "id is None"),
    ],
)
def test_order_that_lacks_what_we_need_is_refused_alone_and_says_what_would_be_right(
    engine: Engine, fields: dict[str, Any], said: str
) -> None:
    effects = ingest(engine, ingest_orders, order(), order(number=ORDER + 50, **fields), order(3))

    assert verdicts(effects) == ["stale", "shopify.unreadable_order", "done"]
    refused = effects.outcomes[1]
    assert isinstance(refused, Refused)
    assert said in refused.detail


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"id": "\xff"}'])
def test_body_that_is_no_object_is_refused(engine: Engine, body: bytes) -> None:
    effects = ingest(engine, ingest_orders, item("order_ingest", body, event_topic="orders/create"))

    assert verdicts(effects) == ["shopify.unreadable_order"]


def test_deleted_order_is_kept(engine: Engine) -> None:
    ingest(engine, ingest_orders, order())

    gone = item("order_ingest", {"id": ORDER}, event_topic="orders/delete")
    effects = ingest(engine, ingest_orders, gone)

    assert verdicts(effects) == ["kept"]
    assert len(rows(engine, ORDERS)) == 1


def test_text_that_postgresql_cannot_hold_or_must_escape_does_no_harm(engine: Engine) -> None:
    odd = 'a "b" \\ {c,d} \x00 NULL é'
    ingest(engine, ingest_orders, order(name=odd, lines=[line(sku="NULL"), line(ORDER + 2, "")]))

    assert rows(engine, "select name from orders") == [(odd.replace("\x00", ""),)]
    assert rows(engine, "select sku from order_lines order by line_id") == [("NULL",), ("",)]


def test_two_workers_on_one_order_leave_the_newest(engine: Engine) -> None:
    barrier = threading.Barrier(4)

    def work(place: int) -> None:
        for turn in range(5):
            barrier.wait(10)
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
