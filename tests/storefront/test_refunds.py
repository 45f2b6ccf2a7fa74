"""Refunds in the books' figures: lines, taxes and shipping, whichever telling comes first."""

from itertools import permutations
from typing import Any

from sqlalchemy import Engine

from services.core.db import transaction
from services.storefront.refunds import ingest_refunds
from tests.storefront.bodies import ORDER, add_shop, ingest, refund, rows

PARTS = """select r.amount_cents, r.currency, r.shipping_cents, r.shipping_tax_cents,
                  l.subtotal_cents, l.tax_cents
             from order_refunds r join order_refund_lines l using (shop_id, refund_id)"""


def shop_money(amount: str, currency: str = "CAD") -> dict[str, Any]:
    """A money bag whose buyer's side is another currency."""
    return {
        "shop_money": {"amount": amount, "currency_code": currency},
        "presentment_money": {"amount": "1.00", "currency_code": "EUR"},
    }


def gone(**fields: Any) -> list[dict[str, Any]]:
    """One line of a refund, by number 1."""
    return [{"id": 1, "line_item_id": ORDER + 1, "quantity": 1, "restock_type": "no_restock"} | fields]


def test_figures_of_lines_and_shipping_are_the_shops_own(engine: Engine) -> None:
    lines = gone(
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
    ingest(engine, ingest_refunds, refund(refund_line_items=gone(subtotal=89.99, total_tax=0)))

    assert rows(engine, PARTS)[0][4:] == (8999, 0)


def test_shipping_told_by_lines_counts_once_beside_the_adjustment(engine: Engine) -> None:
    given = [{"subtotal_amount_set": shop_money("5.00"), "tax_amount_set": shop_money("0.65")}]
    adjusted = [{"kind": "shipping_refund", "amount": "-5.00", "tax_amount": "-0.65"}]
    ingest(engine, ingest_refunds, refund(refund_shipping_lines=given))
    ingest(engine, ingest_refunds, refund(refund_shipping_lines=given, order_adjustments=adjusted))

    assert rows(engine, PARTS)[0][2:4] == (500, 65)


def test_currency_of_a_refund_without_money_is_its_lines(engine: Engine) -> None:
    add_shop(engine)
    lines = gone(subtotal_set=shop_money("500", "JPY"), total_tax_set=shop_money("50", "JPY"))
    ingest(engine, ingest_refunds, refund(transactions=[], refund_line_items=lines))

    assert rows(engine, PARTS) == [(0, "JPY", 0, 0, 500, 50)]


def test_tellings_of_one_refund_end_alike_in_any_order(engine: Engine) -> None:
    add_shop(engine)
    waiting = [{"kind": "refund", "status": "pending", "amount": "12.50", "currency": "CAD"}]
    pending = refund(transactions=waiting, refund_line_items=gone(subtotal="4.00", total_tax="0.20"))
    paid = refund(refund_line_items=gone(subtotal="5.00", total_tax="0.10"))
    shipped = refund(amount="3.00", order_adjustments=[{"kind": "shipping_refund", "amount": "-2.00"}])
    ends = set()
    for told in permutations([pending, paid, shipped]):
        for sets in (tuple((one,) for one in told), (told,)):
            with transaction(engine) as tx:
                for table in ("order_refunds", "order_refund_lines", "stock_movements"):
                    tx.exec_driver_sql(f"delete from {table}")  # noqa: S608
            for events in sets:
                ingest(engine, ingest_refunds, *events)
            ends.add(tuple(rows(engine, f"{PARTS} order by l.refund_line_id")))

    assert ends == {((1250, "CAD", 200, 0, 500, 20), (1250, "CAD", 200, 0, 0, 0))}
