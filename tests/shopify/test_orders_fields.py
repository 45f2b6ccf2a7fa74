"""Orders: accounting fields, lines and customers; only a wrong field is refused."""

from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.errors import Refused
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.orders.handler import ingest_orders
from tests.shopify.sample_payloads import (
    ORDER,
    at,
    ingest,
    line,
    order,
    outcome_codes,
    rows,
)  # fmt: skip


def audit_summaries(effects: HandlerResult) -> list[str]:
    """Return the audit summaries in order."""
    return [mutation.summary for entry in effects.audit for mutation in entry.mutations]


MONEY = """select subtotal_cents, tax_cents, shipping_cents, discount_cents, taxes_included, shipping_taxes,
                  customer_id, staff_label, province, location_id, fulfillment_status from orders"""
PARTS = """select line_id, discount_cents, is_taxable, is_gift_card, taxes, product_id, staff_label
             from order_lines"""


def test_order_has_its_accounting_fields_in_the_shops_currency(engine: Engine) -> None:
    gst, pst = (
        {"title": "GST", "rate": 0.05, "price": "0.60"},
        {"title": "PST", "rate": 0.07, "price": "0.84"},
    )
    full = line() | {
        "discount_allocations": [{"amount": "0.30"}, {"amount": "0.20"}], "total_discount": "0.30",
        "taxable": True, "tax_lines": [gst, pst], "product_id": 2**53 + 1,
        "properties": [{"name": "Colour", "value": "red"}, {"name": "Mechanic", "value": " Ana "}],
    }  # fmt: skip
    plain = line(ORDER + 2) | {
        "total_discount": "1.00", "taxable": False, "gift_card": True,
        "attributed_staffs": [{"id": "gid://shopify/StaffMember/902541635", "quantity": 1}],
    }  # fmt: skip
    sold = order(
        lines=[full, plain], subtotal_price="23.50", total_tax="1.44", total_discounts="1.50",
        total_shipping_price_set={"shop_money": {"amount": "5.00"}, "presentment_money": {"amount": "3.50"}},
        shipping_lines=[{"tax_lines": [gst]}, {"tax_lines": [gst]}], taxes_included=True,
        customer={"id": 2**53 + 5}, user_id=7, fulfillment_status="partial", location_id=2**53 + 9,
        note_attributes=[{"name": "Served By", "value": "Bo"}],
        billing_address={"country_code": "CA", "province_code": "BC"},
    )  # fmt: skip

    assert outcome_codes(ingest(engine, ingest_orders, sold)) == ["done"]
    assert rows(engine, MONEY) == [
        (2350, 144, 500, 150, True, [{"title": "GST", "rate": "0.05", "cents": 120}], 2**53 + 5, "Bo",
         "", 2**53 + 9, "partial")
    ]  # fmt: skip
    taxes = [{"title": "GST", "rate": "0.05", "cents": 60}, {"title": "PST", "rate": "0.07", "cents": 84}]
    assert rows(engine, f"{PARTS} order by 1") == [
        (ORDER + 1, 50, True, False, taxes, 2**53 + 1, "Ana"),
        (ORDER + 2, 100, False, True, None, None, "user:902541635"),
    ]


def test_order_with_few_fields_is_recorded(engine: Engine) -> None:
    ingest(engine, ingest_orders, order())

    assert rows(engine, MONEY) == [(None, None, None, None, False, None, None, "", "", None, "")]
    assert rows(engine, PARTS) == [(ORDER + 1, 0, True, False, None, None, "")]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"total_tax": "1,44"}, "total_tax is '1,44'"),
        (
            {"line_items": [line() | {"tax_lines": [{"price": "x"}]}]},
            "line_items[0].tax_lines[0].price is 'x'",
        ),
        ({"customer": {"id": "7"}}, "customer.id is '7'"),
        ({"customer": ["Bo"]}, "customer is a list of 1: it should be an object"),
        ({"shipping_address": "Main Street"}, "shipping_address is [hidden]: it should be an object"),
        ({"line_items": [7]}, "line_items is a list of 1: it should be a list of objects"),
    ],
)
def test_field_that_is_there_and_wrong_is_refused_by_name(
    engine: Engine, fields: dict[str, Any], message: str
) -> None:
    (outcome,) = ingest(engine, ingest_orders, order(**fields)).outcomes

    assert isinstance(outcome, Refused)
    assert message in outcome.detail


def test_line_that_an_edit_removed_is_gone_and_its_pieces_are_back(engine: Engine) -> None:
    ingest(engine, ingest_orders, order(1, lines=[line(), line(ORDER + 2, "CUP", 3)]))

    effects = ingest(engine, ingest_orders, order(2, lines=[line()]))

    assert audit_summaries(effects) == [f"order #{ORDER % 1000}: 1 line removed"]
    assert rows(engine, "select line_id from order_lines") == [(ORDER + 1,)]
    assert rows(engine, "select sku, delta from stock_movements") == [("MUG", -1)]


def test_two_states_of_one_second_end_alike_in_either_order(engine: Engine) -> None:
    one, other = order(lines=[line()], name="#a"), order(lines=[line(quantity=2)], name="#b")
    ends = []
    for sequence in ((one, other), (other, one)):
        with transaction(engine) as tx:
            tx.exec_driver_sql("delete from orders")
            tx.exec_driver_sql("delete from order_lines")
        for event in sequence:
            ingest(engine, ingest_orders, event)
        both = "select o.name, l.quantity from orders o join order_lines l using (order_gid)"
        ends.append(rows(engine, both))

    assert ends[0] == ends[1]


def test_customer_of_an_order_is_recorded_once_in_the_newest_state(engine: Engine) -> None:
    def sequence(minutes: float, name: str, changed: float | None) -> WorkItem:
        person = {"id": 9, "first_name": name, "email": "ana@example.com", "phone": None}
        return order(minutes, customer=person | {"updated_at": None if changed is None else at(changed)})

    ingest(engine, ingest_orders, sequence(5, "Ana", 5), sequence(9, "Anna", 2))

    effects = ingest(engine, ingest_orders, sequence(3, "Anne", 7))

    assert outcome_codes(effects) == ["stale"]
    assert audit_summaries(effects) == ["customer 9: another name"]
    assert rows(engine, "select customer_id, name, email, phone from customers") == [
        (9, "Anne", "ana@example.com", "")
    ]


def test_order_with_only_a_customer_id_keeps_the_recorded_name(engine: Engine) -> None:
    ingest(engine, ingest_orders, order(1, customer={"id": 9, "first_name": "Ana"}))

    effects = ingest(engine, ingest_orders, order(9, customer={"id": 9}))

    assert audit_summaries(effects) == [f"order #{ORDER % 1000}: received again, only updated_at changed"]
    assert rows(engine, "select c.name, o.customer_id from customers c, orders o") == [("Ana", 9)]


def test_redacted_customer_gets_no_name_again(engine: Engine) -> None:
    ingest(engine, ingest_orders, order(customer={"id": 9, "first_name": "Ana"}))
    with transaction(engine) as tx:
        tx.exec_driver_sql("update customers set name = '', redacted_at = now()")

    effects = ingest(engine, ingest_orders, order(9, customer={"id": 9, "first_name": "Ana"}))

    assert rows(engine, "select name from customers") == [("",)]
    assert all(m.table_name != "customers" for entry in effects.audit for m in entry.mutations)


def test_text_that_postgresql_cannot_store_or_must_escape_is_recorded(engine: Engine) -> None:
    odd = 'a "b" \\ {c,d} \x00 NULL é'
    ingest(engine, ingest_orders, order(name=odd, lines=[line(sku="NULL"), line(ORDER + 2, "")]))

    assert rows(engine, "select name from orders") == [(odd.replace("\x00", ""),)]
    assert rows(engine, "select sku from order_lines order by line_id") == [("NULL",), ("",)]
