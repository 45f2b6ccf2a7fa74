"""Payments, fulfillments, items, locations, customers: the newest state wins, a deletion is final."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.errors import Refused
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.logistics.fulfillments import ingest_fulfillments, ingest_locations
from services.shopify.orders.customers import ingest_customers
from services.shopify.orders.transactions import find_payment_ref, ingest_order_transactions
from services.shopify.products.inventory_items import ingest_inventory_items
from tests.shopify.sample_payloads import NOON, ORDER, Ingest, add_shop, at, ingest, item, outcome_codes, rows

BIG = 2**53 + 7


def summaries(effects: HandlerResult) -> list[str]:
    """Return the audit's summaries in order."""
    return [mutation.summary for entry in effects.audit for mutation in entry.mutations]


def payment(status: str = "success", **fields: Any) -> WorkItem:
    body = {
        "id": BIG, "order_id": ORDER, "kind": "sale", "status": status, "amount": "12.50", "currency": "CAD",
        "gateway": "shopify_payments", "created_at": at(0), "authorization": "ch_3QabcdefXYZ01",
    }  # fmt: skip
    return item("order_transaction_ingest", body | fields, event_topic="order_transactions/create")


def fulfillment(minutes: float = 0, status: str = "success", **fields: Any) -> WorkItem:
    body = {
        "id": BIG, "order_id": ORDER, "status": status, "created_at": at(0), "updated_at": at(minutes),
        "line_items": [{"quantity": 2}, {"quantity": 1}],
    }  # fmt: skip
    return item("fulfillment_ingest", body | fields, event_topic="fulfillments/update")


def stock_item(minutes: float = 0, **fields: Any) -> WorkItem:
    body = {"id": BIG, "sku": "MUG", "tracked": True, "cost": "4.20", "updated_at": at(minutes)}
    return item("inventory_item_ingest", body | fields, event_topic="inventory_items/update")


def location(minutes: float = 0, topic: str = "locations/update", **fields: Any) -> WorkItem:
    body = {
        "id": BIG,
        "name": "Harbour",
        "country_code": "CA",
        "province_code": "BC",
        "updated_at": at(minutes),
    }
    return item("location_ingest", body | fields, event_topic=topic)


def customer(minutes: float = 0, topic: str = "customers/update", **fields: Any) -> WorkItem:
    body = {"id": BIG, "first_name": "Zerlina", "last_name": "Quux", "updated_at": at(minutes)}
    return item("customer_ingest", body | fields, event_topic=topic)


def deletion(topic: str, minutes: float = 9) -> WorkItem:
    return item("x", {"id": BIG}, event_topic=topic)._replace(occurred_at=NOON + timedelta(minutes=minutes))


def test_payment_is_recorded_with_the_reference_of_its_charge(engine: Engine) -> None:
    effects = ingest(engine, ingest_order_transactions, payment(parent_id=5))

    assert outcome_codes(effects) == ["done"]
    assert rows(
        engine, "select order_gid, kind, status, amount_cents, parent_id, payment_ref from order_transactions"
    ) == [(f"gid://shopify/Order/{ORDER}", "sale", "success", 1250, 5, "ch_3QabcdefXYZ01")]
    assert summaries(effects)[0].startswith(f"order transaction {BIG}: recorded, kind sale, status success")


@pytest.mark.parametrize("end", ["success", "failure", "error"])
def test_final_payment_never_becomes_pending_again(engine: Engine, end: str) -> None:
    ingest(engine, ingest_order_transactions, payment(end))

    assert outcome_codes(ingest(engine, ingest_order_transactions, payment("pending"))) == ["stale"]
    assert rows(engine, "select status from order_transactions") == [(end,)]


@pytest.mark.parametrize(
    ("fields", "ref"),
    [
        ({"authorization": "ch_3QabcdefXYZ01", "payment_id": "#9999.1"}, "ch_3QabcdefXYZ01"),
        ({"authorization": "1001", "payment_id": "#9999.1"}, ""),
        ({"payment_id": "pi_3QabcdefXYZ01"}, "pi_3QabcdefXYZ01"),
        ({"receipt": {"id": "pi_3QabcdefXYZ01", "latest_charge": "py_3QabcdefXYZ01"}}, "py_3QabcdefXYZ01"),
        ({"receipt": {"id": "re_3QabcdefXYZ01", "charge": {"id": "ch_3QabcdefXYZ02"}}}, "ch_3QabcdefXYZ02"),
        ({"receipt": None, "authorization": 7}, ""),
        ({"authorization": "ch_; drop"}, ""),
    ],
)
def test_payment_ref_is_stripes_own_id_and_a_charge_before_an_intent(
    fields: dict[str, Any], ref: str
) -> None:
    assert find_payment_ref(fields) == ref


def test_fulfillment_status_never_moves_back(engine: Engine) -> None:
    ingest(engine, ingest_fulfillments, fulfillment(0, "pending"))
    effects = ingest(engine, ingest_fulfillments, fulfillment(5, shipment_status="delivered"), fulfillment(1))

    assert outcome_codes(effects) == ["done", "stale"]
    assert summaries(effects) == [
        f"fulfillment {BIG}: status pending -> success, shipment_status nothing -> delivered"
    ]
    assert rows(engine, "select status, quantity from fulfillments") == [("success", 3)]


@pytest.mark.parametrize(
    ("currency", "cost", "cents"), [("CAD", "4.20", 420), ("JPY", "420", 420), ("CAD", None, None)]
)
def test_cost_of_an_item_is_in_the_shops_currency(
    engine: Engine, currency: str, cost: str | None, cents: int | None
) -> None:
    add_shop(engine)
    with engine.begin() as tx:
        tx.exec_driver_sql("update shops set currency = %(currency)s", {"currency": currency})

    ingest(engine, ingest_inventory_items, stock_item(cost=cost))

    assert rows(engine, "select sku, is_tracked, cost_cents from inventory_items") == [("MUG", True, cents)]


def test_location_has_the_province_of_its_payload_and_closes_by_it_alone(engine: Engine) -> None:
    ingest(engine, ingest_locations, location())
    ingest(engine, ingest_locations, location(4, "locations/deactivate"))
    assert rows(engine, "select is_active from locations") == [(True,)]

    effects = ingest(engine, ingest_locations, location(5, "locations/deactivate", active=False))

    assert summaries(effects) == [f"location {BIG}: is_active yes -> no"]
    assert rows(engine, "select name, province, is_active from locations") == [("Harbour", "CA-BC", False)]


def test_audit_of_a_customer_says_which_fields_changed_and_no_value(engine: Engine) -> None:
    ingest(engine, ingest_customers, customer(phone="+1 604 555 0100"))
    effects = ingest(engine, ingest_customers, customer(5, last_name="Vex", phone="+1 604 555 0101"))

    assert summaries(effects) == [f"customer {BIG}: another name, another phone"]
    audited = str([entry.mutations for entry in effects.audit])
    assert "Vex" not in audited and "555 0101" not in audited
    assert rows(engine, "select name, phone from customers") == [("Zerlina Vex", "+1 604 555 0101")]


def test_redacted_customer_stays_redacted(engine: Engine) -> None:
    ingest(engine, ingest_customers, customer())
    with engine.begin() as tx:
        tx.exec_driver_sql("update customers set name = '', redacted_at = now()")

    assert outcome_codes(ingest(engine, ingest_customers, customer(9))) == ["redacted"]
    assert rows(engine, "select name from customers") == [("",)]


def test_customer_topics_that_describe_nobody_are_ignored(engine: Engine) -> None:
    merged = item(
        "customer_ingest", {"admin_graphql_api_customer_kept_id": "x"}, event_topic="customers/merge"
    )

    assert outcome_codes(ingest(engine, ingest_customers, merged)) == ["ignored"]
    assert rows(engine, "select customer_id from customers") == []


ENDINGS: list[tuple[Ingest, str, str, Callable[..., WorkItem]]] = [
    (ingest_locations, "locations/delete", "locations", location),
    (ingest_customers, "customers/delete", "customers", customer),
    (ingest_inventory_items, "inventory_items/delete", "inventory_items", stock_item),
]


@pytest.mark.parametrize(("effect", "topic", "table", "make"), ENDINGS, ids=[e[2] for e in ENDINGS])
def test_deletion_of_an_id_that_is_not_recorded_leaves_a_note_and_no_row(
    engine: Engine, effect: Ingest, topic: str, table: str, make: Callable[..., WorkItem]
) -> None:
    add_shop(engine)

    effects = ingest(engine, effect, deletion(topic))
    created = ingest(engine, effect, make(20))

    assert (outcome_codes(effects), outcome_codes(created)) == (["unknown_id"], ["done"])
    (summary,) = summaries(effects)
    assert summary.endswith(f"{BIG}: a deletion was received, but it is not recorded here; nothing changed")
    assert rows(engine, f"select deleted_at from {table}") == [(None,)]  # noqa: S608
    assert outcome_codes(ingest(engine, effect, deletion(topic, 8), make(21))) == ["done", "done"]


@pytest.mark.parametrize(("effect", "topic", "table", "make"), ENDINGS, ids=[e[2] for e in ENDINGS])
def test_deletion_counts_where_an_event_before_it_in_the_same_set_describes_the_object(
    engine: Engine, effect: Ingest, topic: str, table: str, make: Callable[..., WorkItem]
) -> None:
    add_shop(engine)

    assert outcome_codes(ingest(engine, effect, deletion(topic), make(1), deletion(topic, 9))) == [
        "unknown_id", "done", "done",
    ]  # fmt: skip
    assert rows(engine, f"select deleted_at from {table}") == [(NOON + timedelta(minutes=9),)]  # noqa: S608


@pytest.mark.parametrize(("effect", "topic", "table", "make"), ENDINGS, ids=[e[2] for e in ENDINGS])
def test_deletion_is_final_after_late_events(
    engine: Engine, effect: Ingest, topic: str, table: str, make: Callable[..., WorkItem]
) -> None:
    add_shop(engine)
    ingest(engine, effect, make(0))
    first, again = ingest(engine, effect, deletion(topic)), ingest(engine, effect, deletion(topic, 9))
    late = ingest(engine, effect, make(20))
    later_copy = ingest(engine, effect, deletion(topic, 30))

    assert [outcome_codes(e) for e in (first, again, late, later_copy)] == [
        ["done"],
        ["done"],
        ["done"],
        ["stale"],
    ]
    assert again.audit == later_copy.audit == []
    assert rows(engine, f"select deleted_at, updated_at from {table}") == [  # noqa: S608
        (NOON + timedelta(minutes=9), NOON + timedelta(minutes=20))
    ]


@pytest.mark.parametrize(
    ("effect", "event", "code", "message"),
    [
        (ingest_order_transactions, payment(amount=12.5), "order_transaction", "amount is 12.5"),
        (ingest_order_transactions, payment(order_id=None), "order_transaction", "order_id is None"),
        (ingest_fulfillments, fulfillment(updated_at="soon"), "fulfillment", "updated_at is 'soon'"),
        (ingest_inventory_items, stock_item(cost="4,20"), "inventory_item", "cost is '4,20'"),
        (ingest_locations, location(id="x"), "location", "id is 'x'"),
        (ingest_customers, customer(id=None), "customer", "id is None"),
    ],
)
def test_unreadable_event_is_refused_alone_and_names_the_field(
    engine: Engine, effect: Ingest, event: WorkItem, code: str, message: str
) -> None:
    add_shop(engine)
    (outcome,) = ingest(engine, effect, event).outcomes

    assert isinstance(outcome, Refused)
    assert outcome.code == f"shopify.unreadable_{code}"
    assert message in outcome.detail
