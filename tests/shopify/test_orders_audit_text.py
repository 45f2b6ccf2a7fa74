"""Audit summaries of orders: the changes of each event, without customer texts."""

from typing import Any

import orjson
import pytest
from sqlalchemy import Engine

from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.products.handler import ingest_products
from tests.shopify.audit_texts import GID, NAME, changes, summaries
from tests.shopify.sample_payloads import (
    ORDER,
    at,
    ingest,
    item,
    line,
    order,
    product,
    refund,
    rows,
)


def test_new_order_is_described_with_its_total_status_and_lines(engine: Engine) -> None:
    new = order(lines=[line(), line(ORDER + 2, None), line(ORDER + 3, None)], total_price="45.00")

    (entry,) = (effects := ingest(engine, ingest_orders, new)).audit

    assert summaries(effects) == [(f"{NAME} recorded: 45.00 CAD, paid, 3 lines",)]
    assert (entry.action, entry.request_id, entry.work_id) == ("orders/updated", new.request_id, new.id)
    assert (entry.mutations[0].table_name, entry.mutations[0].row_id) == ("orders", GID)
    assert changes(effects) == (
        None,
        {"currency": "CAD", "financial_status": "paid", "line_count": 3, "total_cents": 4500},
    )


def test_changed_order_is_described_by_its_changes_only(engine: Engine) -> None:
    ingest(engine, ingest_orders, order(total_price="45.00"))

    effects = ingest(
        engine, ingest_orders, order(5, total_price="40.00", financial_status="refunded", cancelled_at=at(5))
    )

    assert summaries(effects) == [(f"{NAME}: paid -> refunded, 45.00 -> 40.00 CAD, cancelled",)]
    before, after = changes(effects)
    assert set(before) == set(after) == {"financial_status", "total_cents", "cancelled_at", "updated_at"}
    assert (before["total_cents"], after["total_cents"], before["cancelled_at"]) == (4500, 4000, None)


SUMMARIES = [
    ({"name": "#77"}, "renamed to #77"),
    ({"financial_status": "voided"}, "paid -> voided"),
    ({"total_price": "9.00"}, "12.50 -> 9.00 CAD"),
    ({"currency": "USD", "total_price": "9.00"}, "12.50 CAD -> 9.00 USD"),
    ({"cancelled_at": at(5)}, "cancelled"),
    ({"processed_at": at(-60)}, "time of the sale changed"),
    ({"fulfillment_status": "partial"}, "unfulfilled -> partial"),
    ({"subtotal_price": "12.00"}, "subtotal changed"),
    ({"total_tax": "0.50"}, "tax changed"),
    ({"total_shipping_price_set": {"shop_money": {"amount": "5.00"}}}, "shipping changed"),
    ({"total_discounts": "1.00"}, "discount changed"),
    ({"customer": {"id": 9}}, "customer changed"),
    ({"lines": [line(), line(ORDER + 2), line(ORDER + 3)]}, "2 lines added"),
    ({"lines": []}, "1 line removed"),
    ({"note_attributes": [{"name": "Staff", "value": "Ana"}]}, "received again, details changed"),
    ({}, "received again, only updated_at changed"),
]


@pytest.mark.parametrize(("fields", "text"), SUMMARIES, ids=[text for _, text in SUMMARIES])
def test_summary_of_a_changed_order(engine: Engine, fields: dict[str, Any], text: str) -> None:
    ingest(engine, ingest_orders, order())

    assert summaries(ingest(engine, ingest_orders, order(5, **fields))) == [(f"{NAME}: {text}",)]


def test_summaries_of_a_refund_from_its_first_event_to_its_settlement(engine: Engine) -> None:
    ingest(engine, ingest_orders, order())
    label = f"refund {ORDER + 500} of order {ORDER}"
    pending = [{"id": 7, "kind": "refund", "status": "pending", "amount": "12.50", "currency": "CAD"}]
    done = [pending[0] | {"status": "success"}]
    more = {"subtotal": "2.50", "quantity": 1, "line_item_id": ORDER + 1, "restock_type": "no_restock"}

    assert summaries(ingest(engine, ingest_refunds, refund(transactions=pending))) == [
        (f"{label} recorded: 0.00 CAD, 1 line, pending",)
    ]
    assert summaries(ingest(engine, ingest_refunds, refund(transactions=done)))[0][0] == (
        f"{label}: pending -> success, 0.00 -> 12.50 CAD"
    )
    assert summaries(
        ingest(engine, ingest_refunds, refund(transactions=done, refund_line_items=[more | {"id": 77}]))
    )[0][0].startswith(f"{label}: 1 line added")


def test_order_received_again_changes_only_its_time(engine: Engine) -> None:
    ingest(engine, ingest_orders, order())

    effects = ingest(engine, ingest_orders, order(5))

    assert summaries(effects) == [(f"{NAME}: received again, only updated_at changed",)]
    assert set(changes(effects)[1]) == {"updated_at"}


def test_added_and_changed_lines_are_audited_with_their_figures(engine: Engine) -> None:
    ingest(engine, ingest_orders, order(lines=[line(), line(ORDER + 2, "CUP")]))

    edited = [line(quantity=4), line(ORDER + 2, "CUP"), line(ORDER + 3, "JUG")]
    effects = ingest(engine, ingest_orders, order(5, lines=edited))

    assert summaries(effects) == [(f"{NAME}: 1 line added, 1 line changed",)]
    before, after = changes(effects)
    assert before["lines"] == {
        str(ORDER + 1): {"sku": "MUG", "quantity": 1, "price_cents": 1250},
        str(ORDER + 3): None,
    }
    assert after["lines"][str(ORDER + 1)]["quantity"] == 4
    assert rows(engine, "select quantity from order_lines order by line_id") == [(4,), (1,), (1,)]


def test_stale_copied_refused_and_skipped_events_are_not_audited(engine: Engine) -> None:
    first = order(5)
    effects = ingest(engine, ingest_orders, order(1), first, first)
    assert [entry.work_id for entry in effects.audit] == [first.id]

    follows = item("order_ingest", {"order_edit": {"order_id": ORDER}}, event_topic="orders/edited")
    assert ingest(engine, ingest_orders, first, order(2), order(9, currency=None), follows).audit == []


def test_name_and_address_of_a_customer_are_in_no_entry(mugs: Engine) -> None:
    person = {
        "first_name": "Zerlina",
        "last_name": "Quux",
        "email": "z@quux.example",
        "phone": "+16045550199",
    }
    sold = line(quantity=2) | {"title": "A mug for Zerlina", "properties": [{"value": "For Zerlina Quux"}]}
    private = {
        "email": person["email"],
        "note": "Ring twice, Zerlina Quux",
        "customer": person,
        "shipping_address": person | {"address1": "9 Quux Street"},
        "lines": [sold],
    }
    lines = private.pop("lines")
    money = [
        {"kind": "refund", "status": "success", "amount": "1.00", "currency": "CAD", "message": "to Zerlina"}
    ]
    effects = [
        ingest(mugs, ingest_orders, order(lines=lines, **private)),
        ingest(mugs, ingest_orders, order(5, lines=[sold | {"quantity": 3}], **private)),
        ingest(mugs, ingest_refunds, refund(note="Sorry, Zerlina", transactions=money)),
        ingest(mugs, ingest_products, product("CUP", 9)),
    ]

    entries = [entry for one in effects for entry in one.audit]
    assert len(entries) == 4
    text = orjson.dumps([m._asdict() for e in entries for m in e.mutations], default=str).decode()
    assert not [word for word in ("Zerlina", "Quux", "quux", "+1604", "A mug") if word in text]
