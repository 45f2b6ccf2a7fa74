"""Refunds in the figures of orders: lines, taxes and shipping, in any order of events."""

from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.ledger.work import WorkItem
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.orders.transactions import ingest_order_transactions
from tests.shopify.sample_payloads import ORDER, add_shop, at, ingest, item, line, order, refund, rows

PARTS = """select r.amount_cents, r.currency, r.shipping_cents, r.shipping_tax_cents,
                  l.subtotal_cents, l.tax_cents
             from order_refunds r join order_refund_lines l using (shop_id, refund_id)"""


def shop_money(amount: str, currency: str = "CAD") -> dict[str, Any]:
    """Return a money bag with another currency for the buyer."""
    return {
        "shop_money": {"amount": amount, "currency_code": currency},
        "presentment_money": {"amount": "1.00", "currency_code": "EUR"},
    }


def refund_lines(**fields: Any) -> list[dict[str, Any]]:
    """Return one refund line, of line 1."""
    return [{"id": 1, "line_item_id": ORDER + 1, "quantity": 1, "restock_type": "no_restock"} | fields]


def test_figures_of_lines_and_shipping_are_the_shops_own(engine: Engine) -> None:
    lines = refund_lines(
        subtotal=7.0, subtotal_set=shop_money("11.16"), total_tax=9, total_tax_set=shop_money("1.34")
    )
    shipping = {
        "kind": "shipping_refund", "amount": "-1.00", "amount_set": shop_money("-5.00"),
        "tax_amount": "-1.00", "tax_amount_set": shop_money("-0.65"),
    }  # fmt: skip
    other = {"kind": "refund_discrepancy", "amount": "-3.00", "amount_set": shop_money("-3.00")}
    ingest(engine, ingest_refunds, refund(refund_line_items=lines, order_adjustments=[shipping, other]))

    assert rows(engine, PARTS) == [(1250, "CAD", 500, 65, 1116, 134)]


def test_numbers_are_taken_exactly_where_there_is_no_money_bag(engine: Engine) -> None:
    ingest(engine, ingest_refunds, refund(refund_line_items=refund_lines(subtotal=89.99, total_tax=0)))

    assert rows(engine, PARTS)[0][4:] == (8999, 0)


def test_shipping_in_lines_and_in_an_adjustment_counts_once(engine: Engine) -> None:
    given = [{"subtotal_amount_set": shop_money("5.00"), "tax_amount_set": shop_money("0.65")}]
    adjusted = [{"kind": "shipping_refund", "amount": "-5.00", "tax_amount": "-0.65"}]
    ingest(engine, ingest_refunds, refund(refund_shipping_lines=given))
    ingest(engine, ingest_refunds, refund(refund_shipping_lines=given, order_adjustments=adjusted))

    assert rows(engine, PARTS)[0][2:4] == (500, 65)


def test_currency_of_a_refund_without_money_is_its_lines(engine: Engine) -> None:
    add_shop(engine)
    lines = refund_lines(subtotal_set=shop_money("500", "JPY"), total_tax_set=shop_money("50", "JPY"))
    ingest(engine, ingest_refunds, refund(transactions=[], refund_line_items=lines))

    assert rows(engine, PARTS) == [(0, "JPY", 0, 0, 500, 50)]


def test_events_of_one_refund_end_in_the_same_rows_in_any_order(engine: Engine) -> None:
    add_shop(engine)
    waiting = [{"kind": "refund", "status": "pending", "amount": "12.50", "currency": "CAD"}]
    pending = refund(transactions=waiting, refund_line_items=refund_lines(subtotal="4.00", total_tax="0.20"))
    paid = refund(refund_line_items=refund_lines(subtotal="5.00", total_tax="0.10"))
    shipped = refund(amount="3.00", order_adjustments=[{"kind": "shipping_refund", "amount": "-2.00"}])
    ends = set()
    for permuted in permutations([pending, paid, shipped]):
        for sets in (tuple((one,) for one in permuted), (permuted,)):
            with transaction(engine) as tx:
                for table in ("order_refunds", "order_refund_lines", "stock_movements"):
                    tx.exec_driver_sql(f"delete from {table}")  # noqa: S608
            for events in sets:
                ingest(engine, ingest_refunds, *events)
            ends.add(tuple(rows(engine, f"{PARTS} order by l.refund_line_id")))

    assert ends == {((1250, "CAD", 200, 0, 500, 20), (1250, "CAD", 200, 0, 0, 0))}


BOOKED = """select r.status, r.amount_cents, r.adjustment_cents, r.tip_cents, r.unexplained_cents,
                   o.refunded_cents from order_refunds r join orders o using (shop_id, order_gid)"""


def paid_back(status: str, amount: str = "12.50", **fields: Any) -> dict[str, Any]:
    """Return the payment of a refund."""
    return {
        "id": ORDER + 700, "order_id": ORDER, "kind": "refund", "status": status, "amount": amount,
        "currency": "CAD", "created_at": at(30),
    } | fields  # fmt: skip


def payment_event(status: str) -> WorkItem:
    """Return the same payment as a separate event."""
    return item("", paid_back(status), event_topic="order_transactions/create")


def gesture(amount: str, payment: dict[str, Any]) -> WorkItem:
    """Return a refund without lines, with Shopify's discrepancy for it."""
    given = {"kind": "refund_discrepancy", "amount": f"-{amount}", "amount_set": shop_money(f"-{amount}")}
    return refund(refund_line_items=[], order_adjustments=[given], transactions=[payment])


@pytest.mark.parametrize(
    ("until", "booked"),
    [
        ("pending", ("pending", 0, -1250, 0, 0, 0)),
        ("success", ("success", 1250, -1250, 0, 0, 1250)),
        ("failure", ("failed", 0, -1250, 0, 0, 0)),
    ],
)
def test_a_pending_refund_counts_once_its_payment_succeeded_whichever_comes_first(
    engine: Engine, until: str, booked: tuple[Any, ...]
) -> None:
    add_shop(engine)
    events = [
        (ingest_orders, order()),
        (ingest_refunds, gesture("12.50", paid_back("pending"))),
        (ingest_order_transactions, payment_event(until)),
    ]
    for permuted in permutations(events):
        with transaction(engine) as tx:
            for table in ("orders", "order_lines", "order_refunds", "order_transactions", "stock_movements"):
                tx.exec_driver_sql(f"delete from {table}")  # noqa: S608
        for effect, event in permuted:
            ingest(engine, effect, event)
        assert rows(engine, BOOKED) == [booked]


def test_what_a_payment_makes_of_its_refund_is_in_the_audit(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_orders, order())
    ingest(engine, ingest_refunds, gesture("12.50", paid_back("pending")))

    effects = ingest(engine, ingest_order_transactions, payment_event("success"))

    summaries = [mutation.summary for entry in effects.audit for mutation in entry.mutations]
    assert f"refund {ORDER + 500} of order {ORDER}: pending -> success, 0.00 -> 12.50 CAD" in summaries
    assert any(one.endswith("refunded 0.00 -> 12.50 CAD") for one in summaries)


def test_money_in_the_buyers_currency_is_worth_what_the_parts_are_worth(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_orders, order())
    in_parts = [{"id": 1, "line_item_id": ORDER + 1, "quantity": 1, "subtotal_set": shop_money("1.50")}]
    whole = refund(refund_line_items=in_parts, transactions=[paid_back("success", "1.00", currency="EUR")])
    ingest(engine, ingest_refunds, whole)

    assert rows(engine, BOOKED) == [("success", 150, 0, 0, 0, 150)]
    assert rows(engine, "select currency from order_refunds") == [("CAD",)]


def test_foreign_payments_that_pay_all_parts_are_together_worth_them(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_orders, order())
    parts = [
        {"id": n, "line_item_id": ORDER + 1, "quantity": 0, "subtotal_set": shop_money("3.33")}
        for n in (1, 2, 3)
    ]
    paid = [
        paid_back(status, amount, currency="EUR") | {"id": n}
        for n, (status, amount) in enumerate(
            (("failure", "3.00"), ("success", "1.00"), ("success", "2.00")), start=1
        )
    ]
    ingest(engine, ingest_refunds, refund(refund_line_items=parts, transactions=paid))

    cents = "select (t ->> 'cents')::int from order_refunds, jsonb_array_elements(transactions) t order by 1"
    assert rows(engine, cents) == [(333,), (666,), (999,)]
    assert rows(engine, BOOKED) == [("success", 999, 0, 0, 0, 999)]


def test_a_cent_between_a_foreign_payment_and_its_parts_is_unexplained_with_its_sign(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_orders, order())
    part = [{"id": 1, "line_item_id": ORDER + 1, "quantity": 1, "subtotal_set": shop_money("1.50")}]
    stated = paid_back("success", "1.00", currency="EUR") | {"amount_set": shop_money("1.49")}
    ingest(engine, ingest_refunds, refund(refund_line_items=part, transactions=[stated]))

    assert rows(engine, BOOKED) == [("success", 149, 0, 0, -1, 149)]


def test_amount_without_a_shop_currency_waits_for_an_event_that_states_it(engine: Engine) -> None:
    add_shop(engine)
    bare = {"refund_line_items": [], "total_duties_set": {"shop_money": {"currency_code": "CAD"}}}
    foreign = paid_back("success", "8.75", currency="EUR")
    ingest(engine, ingest_orders, order())
    ingest(engine, ingest_refunds, refund(**bare, transactions=[foreign]))
    assert rows(engine, BOOKED) == [("success", 0, 0, 0, 0, 0)]
    assert rows(engine, "select doubts from order_notices") == [
        (f"refunds[{ORDER + 500}].transactions[0].amount is '8.75' EUR: 0 is recorded, because its amount"
         " in CAD is not known",)
    ]  # fmt: skip

    stated = foreign | {"amount_set": shop_money("12.50")}
    ingest(engine, ingest_refunds, refund(**bare, transactions=[stated]))
    assert rows(engine, BOOKED) == [("success", 1250, 0, 0, 1250, 1250)]


@pytest.mark.parametrize("restock_type", [None, {}, ["return"], 1, "unknown"])
def test_a_line_with_an_unknown_type_of_restock_moves_no_stock(engine: Engine, restock_type: object) -> None:
    add_shop(engine)
    ingest(engine, ingest_orders, order())
    lines = refund_lines(restock_type=restock_type, location_id=77)
    ingest(engine, ingest_refunds, refund(refund_line_items=lines))

    assert rows(engine, "select quantity from order_refund_lines") == [(1,)]
    assert rows(engine, "select source from stock_movements where source like 'refund-line:%'") == []


@pytest.mark.parametrize(
    ("adjustment", "parts"),
    [
        ({"kind": "shipping_refund", "amount": "-5.00", "tax_amount": "-0.65"}, (500, 65, 0)),
        ({"amount": "-5.00"}, (0, 0, -500)),
        ({"amount": "5.00", "reason": "PENDING_REFUND_DISCREPANCY"}, (0, 0, 0)),
        ({"kind": "refund_discrepancy", "amount": "3.00"}, (0, 0, 300)),
    ],
)
def test_an_adjustment_is_shipping_by_its_kind_only(
    engine: Engine, adjustment: dict[str, Any], parts: tuple[int, ...]
) -> None:
    add_shop(engine)
    ingest(engine, ingest_refunds, refund(order_adjustments=[adjustment]))

    columns = "select shipping_cents, shipping_tax_cents, adjustment_cents from order_refunds"
    assert rows(engine, columns) == [parts]


def test_tip_is_refunded_before_a_remainder_is_unexplained(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_refunds, refund(amount="30.00", refund_line_items=refund_lines(subtotal="12.50")))
    ingest(engine, ingest_orders, order(total_price="22.50", total_tip_received="10.00"))

    assert rows(engine, BOOKED) == [("success", 3000, 0, 1000, 750, 3000)]


def test_a_deposit_of_an_order_whose_pieces_were_removed_is_explained(engine: Engine) -> None:
    add_shop(engine)
    removed = line(price="100.00") | {"current_quantity": 0}
    ingest(engine, ingest_orders, order(lines=[removed], total_price="100.00", cancelled_at=at(5)))
    ingest(engine, ingest_refunds, refund(amount="40.00", refund_line_items=[]))

    assert rows(engine, BOOKED) == [("success", 4000, 0, 0, 0, 4000)]
