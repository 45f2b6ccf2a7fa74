"""Ids that Shopify should use once: two objects with one id are both recorded, and no batch is stopped."""

from typing import Any

import pytest
from sqlalchemy import Engine

from services.ledger.work import WorkItem
from services.shopify.logistics.fulfillment_orders import ingest_fulfillment_orders
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.orders.transactions import ingest_order_transactions
from services.shopify.products.handler import ingest_products
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    ORDER,
    Ingest,
    add_shop,
    at,
    count_levels,
    ingest,
    item,
    level,
    line,
    order,
    outcome_codes,
    product,
    refund,
    rows,
)  # fmt: skip
from tests.shopify.stock_shop import routed

OTHER = ORDER + 50
SHARED = "line_items[0].id is also that of another order's line: both are recorded"


def deliver(engine: Engine, effect: Ingest, events: list[WorkItem], *, in_one_set: bool) -> list[str]:
    """Work ``events`` in one transaction, or each in its own; return the outcome_codes."""
    sets = [events] if in_one_set else [[event] for event in events]
    return [code for each in sets for code in outcome_codes(ingest(engine, effect, *each))]


@pytest.mark.parametrize("in_one_set", [True, False])
def test_two_orders_with_a_line_of_one_id_both_sell_it(engine: Engine, in_one_set: bool) -> None:
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -30))
    count_levels(engine)
    two = [order(), order(number=OTHER, lines=[line(ORDER + 1, quantity=3)])]

    assert deliver(engine, ingest_orders, two, in_one_set=in_one_set) == ["done", "done"]

    lines = "select order_gid, line_id - :order, quantity from order_lines order by order_gid"
    gids = [f"gid://shopify/Order/{number}" for number in (ORDER, OTHER)]
    assert rows(engine, lines, order=ORDER) == [(gids[0], 1, 1), (gids[1], 1, 3)]
    assert rows(engine, "select order_gid, doubts from order_notices") == [(gids[1], SHARED)]
    assert rows(engine, "select available from inventory_levels") == [(6,)]


def test_an_edit_of_the_one_order_leaves_the_pieces_of_the_other_sold(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -30))
    count_levels(engine)
    ingest(engine, ingest_orders, order())
    ingest(engine, ingest_orders, order(number=OTHER, lines=[line(ORDER + 1, quantity=3)]))

    ingest(engine, ingest_orders, order(5, number=OTHER, lines=[line(OTHER + 2, quantity=2)]))

    assert rows(engine, "select available from inventory_levels") == [(7,)]
    assert rows(engine, "select delta from stock_movements order by 1") == [(-2,), (-1,)]


def given_back(refund_id: int, number: int, *, line_id: int = 900, **fields: Any) -> WorkItem:
    """Return a refund of one piece whose line has the id ``line_id``."""
    refund_line = {
        "id": line_id, "line_item_id": number + 1, "quantity": 1, "restock_type": "return",
        "location_id": LOCATION, "subtotal": "12.50", "line_item": {"sku": "MUG"},
    }  # fmt: skip
    return refund(refund_id=refund_id, number=number, refund_line_items=[refund_line], **fields)


@pytest.mark.parametrize("in_one_set", [True, False])
@pytest.mark.parametrize("refund_ids", [(700, 700), (700, 701)])
def test_refunds_of_two_orders_that_share_an_id_both_count(
    engine: Engine, in_one_set: bool, refund_ids: tuple[int, int]
) -> None:
    add_shop(engine)
    ingest(engine, ingest_orders, order(), order(number=OTHER, lines=[line(OTHER + 1)]))
    pair = [given_back(refund_ids[0], ORDER), given_back(refund_ids[1], OTHER)]

    assert deliver(engine, ingest_refunds, pair, in_one_set=in_one_set) == ["done", "done"]

    assert rows(engine, "select refunded_cents from orders") == [(1250,), (1250,)]
    assert rows(engine, "select refunded_quantity from order_lines") == [(1,), (1,)]
    assert rows(engine, "select count(*) from order_refund_lines") == [(2,)]


@pytest.mark.parametrize("in_one_set", [True, False])
def test_two_refunds_of_one_order_with_a_line_of_one_id_both_count(engine: Engine, in_one_set: bool) -> None:
    add_shop(engine)
    ingest(engine, ingest_orders, order(lines=[line(quantity=2)]))
    pair = [given_back(700, ORDER), given_back(701, ORDER)]

    assert deliver(engine, ingest_refunds, pair, in_one_set=in_one_set) == ["done", "done"]

    assert rows(engine, "select refunded_cents, refunded_quantity from orders join order_lines using "
                "(shop_id, order_gid)") == [(2500, 2)]  # fmt: skip


def test_lines_and_payments_of_one_id_in_a_refund_are_both_recorded_and_noted(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_orders, order(lines=[line(quantity=2, price="10.00")]))
    refund_line = {"id": 900, "line_item_id": ORDER + 1, "quantity": 1, "subtotal": "10.00"}
    paid = {"id": 7, "kind": "refund", "status": "success", "amount": "10.00", "currency": "CAD"}
    odd = refund(refund_line_items=[refund_line, refund_line], transactions=[paid, paid])

    assert outcome_codes(ingest(engine, ingest_refunds, odd)) == ["done"]

    assert rows(engine, "select quantity, subtotal_cents from order_refund_lines") == [(2, 2000)]
    assert rows(engine, "select amount_cents, unexplained_cents from order_refunds") == [(2000, 0)]
    place = f"refunds[{ORDER + 500}]"
    assert rows(engine, "select doubts from order_notices") == [
        (
            f"{place}.refund_line_items[1].id is also that of another line: they are recorded as one\n"
            f"{place}.transactions[1].id is also that of another payment: both are recorded",
        )
    ]


@pytest.mark.parametrize("in_one_set", [True, False])
def test_a_transaction_id_of_two_orders_is_recorded_once_and_noted_of_both(
    engine: Engine, in_one_set: bool
) -> None:
    add_shop(engine)
    pair = [
        item("", {"id": 7, "order_id": number, "kind": "sale", "status": "success", "amount": amount,
                  "currency": "CAD", "created_at": at(0)}, event_topic="order_transactions/create")
        for number, amount in ((ORDER, "10.00"), (OTHER, "20.00"))
    ]  # fmt: skip

    assert set(deliver(engine, ingest_order_transactions, pair, in_one_set=in_one_set)) <= {"done", "stale"}

    assert rows(engine, "select amount_cents from order_transactions") == [(2000,)]
    noted = "transactions[7].id is also that of another order's: one is recorded"
    assert rows(engine, "select order_gid, doubts from order_notices order by 1") == [
        (f"gid://shopify/Order/{number}", noted) for number in (ORDER, OTHER)
    ]


def test_only_the_unreadable_one_of_two_orders_with_a_shared_line_is_refused(engine: Engine) -> None:
    add_shop(engine)
    odd = order(number=OTHER, lines=[line(ORDER + 1)], created_at="2026")

    assert outcome_codes(ingest(engine, ingest_orders, order(), odd)) == ["done", "shopify.unreadable_order"]


def test_the_location_of_an_order_moves_its_own_line_where_another_has_the_lines_id(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_products, product(), product("CUP", number=ITEM + 1, variant=6))
    for place in (LOCATION, LOCATION + 1):
        ingest(engine, ingest_inventory_levels, level(9, -30, location=place, number=ITEM + 1))
    count_levels(engine)
    cups = line(ORDER + 1, "CUP", quantity=3) | {"variant_id": 6}
    ingest(engine, ingest_orders, order(), order(number=OTHER, lines=[cups]))

    ingest(engine, ingest_fulfillment_orders, routed(LOCATION + 1, order_id=OTHER))

    assert rows(engine, "select available from inventory_levels order by location_id") == [(9,), (6,)]
