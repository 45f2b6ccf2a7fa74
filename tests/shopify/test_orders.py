"""Orders: the newest event wins, each line is deducted once, only a bad body is refused."""

from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.errors import Refused
from services.ledger.work import HandlerResult
from services.shopify.orders.handler import ingest_orders
from tests.shopify.sample_payloads import (
    NOON,
    ORDER,
    ingest,
    item,
    line,
    order,
    outcome_codes,
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


def test_stage_that_people_set_survives_an_update(engine: Engine, owner_engine: Engine) -> None:
    ingest(engine, ingest_orders, order(1))
    with transaction(owner_engine) as tx:
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
