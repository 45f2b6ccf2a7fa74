"""Edits, cancellations and refunds of orders, in any order of arrival."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from services.ledger.work import WorkItem
from services.shopify.logistics.fulfillment_orders import ingest_fulfillment_orders
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.products.handler import ingest_products
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    ORDER,
    SHOP,
    Ingest,
    add_shop,
    clear_work_queue,
    count_levels,
    empty,
    ingest,
    level,
    line,
    order,
    outcome_codes,
    product,
    refund,
    rows,
)
from tests.shopify.stock_shop import LEVELS, routed


@pytest.fixture
def counted_shop(engine: Engine) -> Engine:
    """A shop that owns its figures, with ten mugs counted a minute before noon."""
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -1))
    count_levels(engine)
    clear_work_queue(engine)
    return engine


def test_edited_quantity_replaces_what_the_line_took(counted_shop: Engine) -> None:
    ingest(counted_shop, ingest_orders, order(1, lines=[line(quantity=1)]))
    ingest(counted_shop, ingest_orders, order(2, lines=[line(quantity=4)]))

    assert [row[2] for row in rows(counted_shop, LEVELS)] == [6]


def test_cancelling_moves_no_stock_and_its_refund_brings_it_back(counted_shop: Engine) -> None:
    ingest(counted_shop, ingest_orders, order(1))
    ingest(
        counted_shop, ingest_orders, order(2, cancelled_at="2026-11-20T20:02:00Z", financial_status="voided")
    )
    assert [row[2] for row in rows(counted_shop, LEVELS)] == [9]

    ingest(counted_shop, ingest_refunds, refund(restock="cancel"))

    assert [row[2] for row in rows(counted_shop, LEVELS)] == [10]


# Nine events of one order, half an hour after the levels were counted.
STORY: tuple[tuple[Ingest, Callable[[], WorkItem]], ...] = (
    (ingest_products, lambda: product("CUP", -90)),
    (ingest_products, lambda: product("MUG", -60)),
    (ingest_inventory_levels, lambda: level(19, 5)),
    (ingest_orders, lambda: order(0, financial_status="pending", location_id=LOCATION)),
    (ingest_orders, lambda: order(0, location_id=LOCATION)),
    (
        ingest_orders,
        lambda: order(
            20, lines=[line(quantity=2), line(ORDER + 2, "CUP")], total_price="37.5", location_id=LOCATION
        ),
    ),
    (
        ingest_orders,
        lambda: order(10, number=ORDER + 50, lines=[line(ORDER + 51, quantity=3)], created_at=_T10),
    ),
    (ingest_fulfillment_orders, lambda: routed(LOCATION)),
    (ingest_refunds, lambda: refund(30, amount="5.00", restock="no_restock")),
    (ingest_refunds, lambda: refund(40, refund_id=ORDER + 600, amount="7.50")),
)
_T10 = "2026-11-20T12:10:00-08:00"

STATE = (
    LEVELS,
    "select location_id, observed_available, observed_at from inventory_levels order by 1, inventory_item_id",
    "select order_gid, total_cents, refunded_cents, financial_status, updated_at from orders order by 1",
    "select line_id, sku, quantity, refunded_quantity, price_cents from order_lines order by 1",
    "select refund_id, order_gid, amount_cents from order_refunds order by 1",
    "select source, sku, delta, at from stock_movements order by 1, 2, 3, 4",
    "select inventory_item_id, sku, updated_at from variants",
)


def _ingest_all(engine: Engine, sequence: list[tuple[Ingest, WorkItem]]) -> list[list[tuple[object, ...]]]:
    tables = "orders order_lines order_refunds order_refund_lines inventory_levels stock_movements variants"
    empty(engine, *tables.split(), "fulfillment_orders", "work_queue")
    ingest(engine, ingest_inventory_levels, level(20, -30), level(8, -30, location=LOCATION + 1))
    count_levels(engine)
    for effect, event in sequence:
        ingest(engine, effect, event)
    return [rows(engine, query) for query in STATE]


def test_any_order_and_repetition_of_a_day_ends_in_the_same_state(engine: Engine) -> None:
    add_shop(engine)
    events = [(effect, make()) for effect, make in STORY]
    expected = _ingest_all(engine, events)

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(st.lists(st.sampled_from(range(len(STORY))), max_size=6), st.randoms(use_true_random=False))
    def check(again: list[int], rng: Random) -> None:
        sequence = events + [events[place] for place in again]
        rng.shuffle(sequence)
        state = _ingest_all(engine, sequence)

        assert state == expected
        # 20 counted, two sold over the counter, three online without a location, one returned.
        assert [row[:3] for row in state[0]] == [(LOCATION, "MUG", 19), (LOCATION + 1, "MUG", 8)]
        differs = [row for row in state[0] if row[2] != row[3]]
        waiting = rows(
            engine, "select key from work_queue where topic = 'inventory_push' and status = 'pending'"
        )
        assert {f"{ITEM}:{row[0]}" for row in differs} <= {row[0] for row in waiting}

    check()


def test_refund_before_its_order_is_counted_when_the_order_comes(engine: Engine) -> None:
    add_shop(engine)
    assert outcome_codes(ingest(engine, ingest_refunds, refund(), refund())) == ["done", "done"]

    ingest(engine, ingest_orders, order())

    assert rows(engine, "select refunded_cents from orders") == [(1250,)]
    assert rows(engine, "select refunded_quantity from order_lines") == [(1,)]


def test_refund_without_money_and_without_currency_is_counted_in_the_shops_own(engine: Engine) -> None:
    assert add_shop(engine) == SHOP
    ingest(engine, ingest_orders, order())
    ingest(engine, ingest_refunds, refund(transactions=[]))

    assert rows(engine, "select amount_cents, currency from order_refunds") == [(0, "CAD")]


def test_refund_that_names_no_currency_for_its_money_is_refused(engine: Engine) -> None:
    paid = [{"kind": "refund", "status": "success", "amount": "1.00", "currency": None}]

    effects = ingest(engine, ingest_refunds, refund(transactions=paid), refund())

    assert outcome_codes(effects) == ["shopify.unreadable_refund", "done"]


def test_refund_received_again_after_its_payment_counts_the_money(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_orders, order())
    pending = [{"kind": "refund", "status": "pending", "amount": "12.50", "currency": "CAD"}]
    ingest(engine, ingest_refunds, refund(transactions=pending))
    assert rows(engine, "select refunded_cents from orders") == [(0,)]

    ingest(engine, ingest_refunds, refund())
    ingest(engine, ingest_refunds, refund(transactions=pending))

    assert rows(engine, "select refunded_cents from orders") == [(1250,)]
