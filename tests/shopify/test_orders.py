"""Orders: the newest event wins, each line is deducted once, only a bad body is refused."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.errors import Refused
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.orders.store import MANY_LINES
from services.shopify.products.handler import ingest_products
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.sample_payloads import (
    NOON,
    NOW,
    ORDER,
    SHOP,
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


def audit_summaries(effects: HandlerResult) -> list[str]:
    """Return the audit summaries in order."""
    return [mutation.summary for entry in effects.audit for mutation in entry.mutations]


ORDERS = "select order_gid, name, total_cents, currency, financial_status, stage from orders order by 1"


def test_order_becomes_a_row_with_its_lines_and_ids_beyond_a_float_are_exact(engine: Engine) -> None:
    effects = ingest(engine, ingest_orders, order(lines=[line(), line(ORDER + 2, None, 3, "0.05")]))

    assert outcome_codes(effects) == ["done"]
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

    assert outcome_codes(effects) == ["stale"]
    assert [row[4] for row in rows(engine, ORDERS)] == ["refunded"]
    assert rows(engine, "select count(*) from order_lines") == [(1,)]


def test_several_events_of_one_order_in_a_set_leave_the_newest(engine: Engine) -> None:
    effects = ingest(engine, ingest_orders, order(1), order(9, name="#new"), order(9, name="#new"), order(5))

    assert outcome_codes(effects) == ["stale", "done", "done", "stale"]
    assert [row[1] for row in rows(engine, ORDERS)] == ["#new"]


def test_same_event_again_is_done_and_deducts_once(engine: Engine) -> None:
    first = order(lines=[line(quantity=4)])
    ingest(engine, ingest_orders, first)

    effects = ingest(engine, ingest_orders, first, first)

    assert outcome_codes(effects) == ["done", "done"]
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
    ("fields", "message"),
    [
        ({"currency": None}, "currency is None: it should be text"),
        ({"total_price": "12,50"}, "total_price is '12,50'"),
        ({"total_price": True}, "total_price is True"),
        (
            {"updated_at": "2026-11-20T10:00:00"},
            "updated_at is '2026-11-20T10:00:00': it should be a time with",
        ),
        ({"updated_at": "9998-06-01T00:00:00Z"}, "updated_at is '9998-06-01T00:00:00Z': it should be"),
        ({"created_at": "9999-12-31T23:59:59-08:00"}, "created_at is '9999-12-31T23:59:59-08:00': it"),
        ({"created_at": None}, "created_at is None"),
        ({"line_items": None}, "line_items is None: it should be a list"),
        ({"line_items": [line(), line(2**63)]}, "line_items[1].id is"),
        ({"line_items": [line(quantity=-1)]}, "line_items[0].quantity is -1: it should be zero or more"),
        ({"admin_graphql_api_id": None, "id": None}, "id is None"),
    ],
)
def test_order_without_a_required_field_is_refused_alone_with_the_right_form(
    engine: Engine, fields: dict[str, Any], message: str
) -> None:
    effects = ingest(engine, ingest_orders, order(), order(number=ORDER + 50, **fields), order(3))

    assert outcome_codes(effects) == ["stale", "shopify.unreadable_order", "done"]
    refused = effects.outcomes[1]
    assert isinstance(refused, Refused)
    assert message in refused.detail


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"id": "\xff"}', b'{"line_items": [], "name": ' + b"[" * 5000 + b"]" * 5000 + b"}"],
)
def test_body_that_is_no_object_is_refused(engine: Engine, body: bytes) -> None:
    effects = ingest(engine, ingest_orders, item("order_ingest", body, event_topic="orders/create"))

    assert outcome_codes(effects) == ["shopify.unreadable_order"]


def test_deleted_order_keeps_its_row_and_is_deleted_for_good(engine: Engine) -> None:
    ingest(engine, ingest_orders, order())

    deletion = item("order_ingest", {"id": ORDER}, event_topic="orders/delete")
    effects = ingest(engine, ingest_orders, deletion._replace(occurred_at=NOON))
    ingest(engine, ingest_orders, order(5, total_price="9.00"))

    assert outcome_codes(effects) == ["done"]
    assert audit_summaries(effects) == [
        f"order #{ORDER % 1000}: deleted at Shopify, no longer counted as revenue"
    ]
    assert rows(engine, "select deleted_at, total_cents from orders") == [(NOON, 900)]


def test_deletion_of_an_order_that_is_not_recorded_leaves_a_note_and_no_row(engine: Engine) -> None:
    deletion = item("order_ingest", {"id": ORDER}, event_topic="orders/delete")._replace(occurred_at=NOON)
    effects = ingest(engine, ingest_orders, deletion)
    assert outcome_codes(effects) == ["unknown_id"]
    (summary,) = audit_summaries(effects)
    assert summary.endswith(
        f"/{ORDER}: a deletion was received, but it is not recorded here; nothing changed"
    )
    assert rows(engine, "select count(*) from orders") == [(0,)]

    effects = ingest(engine, ingest_orders, order())

    assert outcome_codes(effects) == ["done"]
    assert rows(engine, "select deleted_at, total_cents, currency from orders") == [(None, 1250, "CAD")]


def test_deletion_counts_where_its_order_comes_before_it_in_the_same_set(engine: Engine) -> None:
    deletion = item("order_ingest", {"id": ORDER}, event_topic="orders/delete")._replace(occurred_at=NOON)
    effects = ingest(engine, ingest_orders, deletion, order(), deletion._replace(id=deletion.id + 10**6))

    assert outcome_codes(effects) == ["unknown_id", "done", "done"]
    assert rows(engine, "select deleted_at from orders") == [(NOON,)]


def test_edit_is_followed_by_the_order_itself(engine: Engine) -> None:
    edit = item("order_ingest", {"order_edit": {"order_id": ORDER}}, event_topic="orders/edited")

    assert outcome_codes(ingest(engine, ingest_orders, edit)) == ["skipped_followup"]
    assert rows(engine, ORDERS) == []


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
