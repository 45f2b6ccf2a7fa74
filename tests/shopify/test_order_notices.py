"""Returns, disputes, notices and tender transactions: partial and late."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.errors import Refused
from services.ledger.topics import plan_topic
from services.ledger.work import WorkItem
from services.shopify.logistics.fulfillment_orders import ingest_fulfillment_orders
from services.shopify.logistics.fulfillments import ingest_fulfillment_events
from services.shopify.logistics.partial_entities import (
    ingest_inventory_shipments,
    ingest_inventory_transfers,
    ingest_returns,
    ingest_reverse_fulfillment_orders,
)
from services.shopify.orders.notices import ingest_order_notices
from services.shopify.orders.transactions import ingest_shopify_disputes, ingest_tender_transactions
from services.shopify.products.inventory_items import ingest_variant_stock
from tests.shopify import logistics_payloads as body
from tests.shopify.logistics_payloads import BIG, delivery, gid
from tests.shopify.sample_payloads import NOON, ORDER, Ingest, add_shop, at, ingest, outcome_codes, rows

ORDER_GID = f"gid://shopify/Order/{ORDER}"


def test_variant_is_in_stock_by_the_delivery_and_not_by_its_own_time(engine: Engine) -> None:
    ingest(engine, ingest_variant_stock, body.variant(5, "out_of_stock"))

    assert outcome_codes(ingest(engine, ingest_variant_stock, body.variant(1))) == ["stale"]
    assert rows(engine, "select variant_id, is_in_stock from variant_stock") == [(BIG, False)]


def test_risk_is_the_highest_of_the_last_levels_of_the_providers(engine: Engine) -> None:
    ingest(engine, ingest_order_notices, body.risk(1, "high"), body.risk(2, "low"))
    assert rows(engine, "select risk_level from order_notices") == [("low",)]

    ingest(engine, ingest_order_notices, body.risk(1, "medium", provider_id=7))
    assert rows(engine, "select order_gid, risk_level from order_notices") == [(ORDER_GID, "medium")]


def test_notices_of_an_order_are_recorded_before_the_order(engine: Engine) -> None:
    protect = {"order_id": ORDER, "status": "active", "eligibility": {"status": "eligible"}}

    effects = ingest(
        engine,
        ingest_order_notices,
        body.risk(),
        delivery("orders/shopify_protect_eligibility_changed", protect),
    )

    assert outcome_codes(effects) == ["done"] * 2
    ((found,),) = rows(engine, "select to_jsonb(t) from order_notices t")
    assert (found["risk_level"], found["protect_status"], found["protect_eligibility"]) == (
        "medium", "active", "eligible",
    )  # fmt: skip
    assert "zerlina" not in str(found).lower()


def test_return_keeps_the_fields_that_later_events_leave_out(engine: Engine) -> None:
    for event in (
        body.order_return(5, "close", order_id=ORDER, status="closed"),
        body.order_return(),
        body.order_return(-5, "request", order={"id": ORDER}, status="requested", total_return_line_items=1,
                          return_line_items=[{"quantity": 3}]),
        delivery("reverse_deliveries/attach_deliverable", {"id": 1, "return": {"id": BIG}}, 3),
    ):  # fmt: skip
        ingest(engine, ingest_returns, event)

    query = "select order_gid, name, status, line_count, quantity, shipping_attached_at from order_returns"
    assert rows(engine, query) == [(ORDER_GID, "#1001-R1", "closed", 2, 3, NOON + timedelta(minutes=3))]


def test_declined_return_has_shopifys_reason_and_not_the_note(engine: Engine) -> None:
    declined = {"reason": "return_period_ended", "note": "As Zerlina was told"}

    ingest(engine, ingest_returns, body.order_return(topic="decline", status="declined", decline=declined))

    ((found,),) = rows(engine, "select to_jsonb(t) from order_returns t")
    assert found["decline_reason"] == "return_period_ended"
    assert "Zerlina" not in str(found)


def test_update_of_a_return_is_found_by_its_global_id_and_has_a_time(engine: Engine) -> None:
    ingest(engine, ingest_returns, body.order_return())
    changes = {"admin_graphql_api_id": gid("Return"), "return_line_items": {"removals": [{"delta": 2}]}}

    assert outcome_codes(ingest(engine, ingest_returns, delivery("returns/update", changes, 9))) == ["done"]
    assert rows(engine, "select status, updated_at from order_returns") == [
        ("open", NOON + timedelta(minutes=9))
    ]


def test_processing_without_a_return_is_ignored(engine: Engine) -> None:
    add_shop(engine)

    assert outcome_codes(ingest(engine, ingest_returns, delivery("returns/process", {}))) == ["ignored"]
    assert rows(engine, "select 1 from order_returns") == []


def test_dispositions_of_returned_goods_are_counted_once_each(engine: Engine) -> None:
    first, second = body.disposition(), body.disposition(5, "missing", 2)
    for event in (second, first, body.disposition(), body.disposition(9, "restocked", 3)):
        ingest(engine, ingest_reverse_fulfillment_orders, event)

    query = "select restocked_quantity, missing_quantity, disposed_quantity from reverse_fulfillment_orders"
    assert rows(engine, query) == [(4, 2, 6)]


def test_dispute_of_shopify_payments_progresses_and_is_no_transaction(engine: Engine) -> None:
    ingest(engine, ingest_shopify_disputes, body.dispute(5, "lost", finalized_on=at(5)))

    assert outcome_codes(ingest(engine, ingest_shopify_disputes, body.dispute())) == ["stale"]
    assert rows(engine, "select order_gid, kind, status, amount_cents, currency from shopify_disputes") == [
        (ORDER_GID, "chargeback", "lost", 1150, "CAD")
    ]
    assert rows(engine, "select 1 from transactions") == []


def test_tender_transaction_is_recorded_without_the_card(engine: Engine) -> None:
    ingest(engine, ingest_tender_transactions, body.tender())
    ingest(engine, ingest_tender_transactions, body.tender(id=BIG + 1, amount="-19.95", processed_at=None))

    query = (
        "select amount_cents, currency, payment_method, remote_reference from tender_transactions order by 1"
    )
    assert rows(engine, query) == [
        (-1995, "CAD", "credit_card", "1001"), (41995, "CAD", "credit_card", "1001"),
    ]  # fmt: skip
    assert "4242" not in str(rows(engine, "select to_jsonb(t) from tender_transactions t"))


UNREADABLE: list[tuple[Ingest, WorkItem, str, str]] = [
    (ingest_fulfillment_orders, delivery("fulfillment_orders/split", {}),
     "fulfillment_order", "fulfillment_order is None"),
    (ingest_fulfillment_orders, delivery("fulfillment_orders/split", {"fulfillment_order": {"id": "gid://x/y"}}),
     "fulfillment_order", "id is 'gid://x/y'"),
    (ingest_fulfillment_events, body.scan(happened_at=None),
     "fulfillment_event", "happened_at is None"),
    (ingest_inventory_transfers, body.transfer(items_added=[{"line_item_id": 1}]),
     "inventory_transfer", "quantity is None"),
    (ingest_inventory_transfers, body.transfer(items_added=[{"line_item_id": "9" * 6000, "quantity": 1}]),
     "inventory_transfer", "line_item_id is "),
    (ingest_inventory_shipments, delivery("inventory_shipments/create", {"status": "DRAFT"}),
     "inventory_shipment", "id is None"),
    (ingest_order_notices, body.risk(order_id=None), "order_notice", "order_id is None"),
    (ingest_returns, delivery("returns/close", {"status": "closed"}), "return", "id is None"),
    (ingest_reverse_fulfillment_orders, body.disposition(kind=""),
     "reverse_fulfillment_order", "dispositions[0].type is ''"),
    (ingest_shopify_disputes, body.dispute(amount=11.5), "dispute", "amount is 11.5"),
    (ingest_tender_transactions, body.tender(id="x"), "tender_transaction", "id is 'x'"),
    (ingest_variant_stock, body.variant(id=None), "variant_stock", "id is None"),
]  # fmt: skip


@pytest.mark.parametrize(("effect", "event", "code", "message"), UNREADABLE, ids=[u[2] for u in UNREADABLE])
def test_body_that_cannot_be_read_is_refused_alone_and_names_the_field(
    engine: Engine, effect: Ingest, event: WorkItem, code: str, message: str
) -> None:
    add_shop(engine)
    (outcome,) = ingest(engine, effect, event).outcomes

    assert isinstance(outcome, Refused)
    assert outcome.code == f"shopify.unreadable_{code}"
    assert message in outcome.detail


@pytest.mark.parametrize(
    ("topic", "work"),
    [
        ("fulfillment_orders/moved", "fulfillment_order_ingest"),
        ("fulfillments/update", "fulfillment_ingest"),
        ("reverse_fulfillment_orders/dispose", "reverse_fulfillment_order_ingest"),
        ("draft_orders/create", None),
        ("product_publications/create", None),
    ],
)
def test_topic_has_the_work_of_its_own(topic: str, work: str | None) -> None:
    plan: Any = plan_topic("shopify", topic)

    assert (plan and plan.name) == work
