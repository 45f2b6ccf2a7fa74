"""Transactions: the newest event of a charge, refund, payment intent, dispute or payout wins."""

from datetime import UTC, datetime
from itertools import count, permutations
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.core.errors import Refused
from services.ledger.work import Done, HandlerResult, WorkItem
from services.payments.handler import ingest_transactions

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
T0 = 1_795_200_000
_ids = count(1)

ROWS = (
    "select provider_id, kind, status, amount_cents, refunded_cents, currency, parent_id "
    "from transactions order by 1"
)


def event(kind: str, created: int, source: dict[str, Any] | None) -> WorkItem:
    number = next(_ids)
    body = {"id": f"evt_{number}", "object": "event", "type": kind, "created": created}
    return WorkItem(
        id=number,
        shop_id=1,
        topic="transaction_ingest",
        key="",
        payload={},
        retry_count=0,
        event_id=number,
        event_topic=kind,
        body=orjson.dumps(body | {"data": {"object": source}}),
    )


def charge(kind: str = "charge.succeeded", after: int = 0, **fields: Any) -> WorkItem:
    source = {
        "id": "ch_1",
        "object": "charge",
        "amount": 5000,
        "amount_refunded": 0,
        "currency": "cad",
        "status": "succeeded",
        "paid": True,
        "payment_intent": "pi_1",
        "created": T0,
    }
    return event(kind, T0 + after, source | fields)


def refund(status: str = "succeeded", after: int = 0, **fields: Any) -> WorkItem:
    source = {
        "id": "re_1",
        "object": "refund",
        "amount": 1500,
        "currency": "cad",
        "status": status,
        "charge": "ch_1",
        "created": T0 + 60,
    }
    return event("refund.created", T0 + 60 + after, source | fields)


def dispute(status: str, after: int = 0, **fields: Any) -> WorkItem:
    source = {
        "id": "dp_1",
        "object": "dispute",
        "amount": 5000,
        "currency": "cad",
        "status": status,
        "reason": "fraudulent",
        "charge": "ch_1",
        "created": T0 + 90,
    }
    return event("charge.dispute.updated", T0 + 90 + after, source | fields)


def payout(status: str, kind: str = "payout.updated", after: int = 0, **fields: Any) -> WorkItem:
    source = {
        "id": "po_1",
        "object": "payout",
        "amount": 9000,
        "currency": "cad",
        "status": status,
        "arrival_date": T0 + 172_800,
        "created": T0 + 100,
    }
    return event(kind, T0 + 100 + after, source | fields)


def ingest(engine: Engine, *items: WorkItem) -> list[str]:
    with transaction(engine) as tx:
        effects: HandlerResult = ingest_transactions(tx, items, NOW)
    return [o.result if isinstance(o, Done) else o.code for o in effects.outcomes]


def rows(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as tx:
        return [tuple(row) for row in tx.execute(text(ROWS))]


def transaction_rows(engine: Engine, *columns: str) -> list[tuple[Any, ...]]:
    with engine.connect() as tx:
        found = tx.exec_driver_sql("select * from transactions order by provider_id").mappings()
        return [tuple(row[name] for name in columns) for row in found]


def test_charge_refund_and_payment_intent_become_rows(engine: Engine) -> None:
    intent = {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 5000,
        "currency": "cad",
        "status": "succeeded",
        "created": T0,
        "latest_charge": "ch_1",
    }
    seen = ingest(engine, charge(), refund(), event("payment_intent.succeeded", T0, intent))

    assert seen == ["done"] * 3
    assert rows(engine) == [
        ("ch_1", "charge", "paid", 5000, 0, "CAD", "pi_1"),
        ("pi_1", "payment_intent", "succeeded", 5000, 0, "CAD", None),
        ("re_1", "refund", "succeeded", 1500, 0, "CAD", "ch_1"),
    ]


def test_any_order_of_a_charges_events_ends_in_the_same_row(engine: Engine) -> None:
    events = [
        charge("charge.pending", 0, status="pending", paid=False),
        charge("charge.succeeded", 0),
        charge("charge.refunded", 60, amount_refunded=1500),
        charge("charge.refunded", 60, amount_refunded=2000),
    ]
    for transaction_rows in permutations(events):
        with transaction(engine) as tx:
            tx.exec_driver_sql("delete from transactions")
        for one in [*transaction_rows, transaction_rows[0]]:
            ingest(engine, one)

        assert rows(engine) == [("ch_1", "charge", "paid", 5000, 2000, "CAD", "pi_1")]


def test_older_event_is_stale_and_a_copy_is_done(engine: Engine) -> None:
    newest = charge("charge.refunded", 60, amount_refunded=1500)

    assert ingest(engine, charge(), newest, newest) == ["stale", "done", "done"]
    assert ingest(engine, newest, charge()) == ["done", "stale"]


def test_expanded_reference_is_its_id(engine: Engine) -> None:
    ingest(engine, refund(charge={"id": "ch_9", "object": "charge"}))

    assert rows(engine)[0][6] == "ch_9"


def test_object_that_is_no_transaction_is_kept_and_changes_none(engine: Engine) -> None:
    assert ingest(engine, charge("charge.updated", 9, object="review", id="prv_1")) == ["ignored"]
    assert rows(engine) == []


def test_dispute_and_payout_become_rows_with_their_reason_and_day(engine: Engine) -> None:
    seen = ingest(engine, dispute("needs_response"), payout("failed", failure_code="account_closed"))

    assert seen == ["done", "done"]
    assert rows(engine) == [
        ("dp_1", "dispute", "needs_response", 5000, 0, "CAD", "ch_1"),
        ("po_1", "payout", "failed", 9000, 0, "CAD", None),
    ]
    assert transaction_rows(engine, "reason", "arrives_on") == [
        ("fraudulent", None),
        ("account_closed", datetime.fromtimestamp(T0 + 172_800, UTC).date()),
    ]


def test_payout_that_takes_money_from_the_bank_is_negative(engine: Engine) -> None:
    ingest(engine, payout("paid", amount=-700))

    assert rows(engine) == [("po_1", "payout", "paid", -700, 0, "CAD", None)]


@pytest.mark.parametrize("later", [0, 5], ids=["within a second", "later"])
def test_payout_that_the_bank_sent_back_stays_failed(engine: Engine, later: int) -> None:
    paid, failed = payout("paid"), payout("failed", after=later)

    assert ingest(engine, failed) == ["done"]
    assert ingest(engine, paid) == ["stale"]
    assert rows(engine)[0][2] == "failed"


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({"captured": False, "amount_captured": 0}, ("uncaptured", 5000, 0)),
        ({"captured": False, "refunded": True, "amount_refunded": 5000}, ("expired", 5000, 0)),
        ({"captured": True, "amount_captured": 5000}, ("paid", 5000, 0)),
        ({"captured": True, "amount_captured": 3000, "amount_refunded": 2000}, ("paid", 3000, 0)),
        ({"captured": True, "amount_captured": 3000, "amount_refunded": 2500}, ("paid", 3000, 500)),
        ({"captured": True, "amount_captured": 3000, "amount_refunded": 0}, ("paid", 3000, 0)),
        ({"captured": True, "amount_captured": 3000, "amount_refunded": 700}, ("paid", 3000, 700)),
        ({"status": "failed", "captured": False, "amount_captured": 0}, ("failed", 5000, 0)),
        ({"status": "pending", "captured": True, "amount_captured": 5000}, ("pending", 5000, 0)),
    ],
    ids=[
        "held",
        "let go",
        "taken",
        "taken in part",
        "then refunded",
        "no remainder",
        "not counted in",
        "failed",
        "waits",
    ],
)
def test_charge_counts_what_was_captured(
    engine: Engine, fields: dict[str, Any], row: tuple[str, int, int]
) -> None:
    ingest(engine, charge(**fields))

    assert [(one[2], one[3], one[4]) for one in rows(engine)] == [row]


@pytest.mark.parametrize(
    ("currency", "amount"), [("jpy", 4500), ("kwd", 4500), ("krw", 1), ("cad", 0), ("usd", 2**53 + 1)]
)
def test_amount_is_stripes_minor_units_for_any_decimals(engine: Engine, currency: str, amount: int) -> None:
    ingest(engine, charge(amount=amount, currency=currency))

    assert rows(engine)[0][3:6] == (amount, 0, currency.upper())


def test_fee_of_an_expanded_charge_stays_after_a_later_event_without_it(engine: Engine) -> None:
    with_fee = charge(balance_transaction={"id": "txn_1", "fee": 175, "currency": "cad"})
    newer = charge("charge.updated", 60, balance_transaction="txn_1")
    for order in ([with_fee, newer], [newer, with_fee], [with_fee], [newer]):
        with transaction(engine) as tx:
            tx.exec_driver_sql("delete from transactions")
        for one in order:
            ingest(engine, one)
        assert transaction_rows(engine, "fee_cents") == [(None if order == [newer] else 175,)]
    with transaction(engine) as tx:
        tx.exec_driver_sql("delete from transactions")
    ingest(engine, with_fee, newer)
    assert transaction_rows(engine, "fee_cents") == [(175,)]


def test_fee_in_another_currency_than_the_charge_is_not_the_charges(engine: Engine) -> None:
    ingest(engine, charge(currency="usd", balance_transaction={"id": "t", "fee": 175, "currency": "cad"}))

    assert transaction_rows(engine, "fee_cents") == [(None,)]


def test_reconciled_payout_asks_for_its_entries_once_an_event(engine: Engine) -> None:
    items = [payout("paid"), payout("paid", "payout.reconciliation_completed", after=9), charge()]
    with transaction(engine) as tx:
        new_work = ingest_transactions(tx, items, NOW).new_work

    assert [(new.topic, new.payload, new.event_id) for new in new_work] == [
        ("event_fetch", {"payout": "po_1"}, items[1].event_id)
    ]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (charge(amount="50.00"), "data.object.amount is '50.00': it should be a whole number of minor units"),
        (charge(amount=-1), "data.object.amount is -1: it should be a whole number of minor units, zero"),
        (charge(amount=True), "data.object.amount is True"),
        (refund(amount=-5), "data.object.amount is -5"),
        (charge(created=None), "data.object.created is None: it should be seconds since 1970"),
        (charge(currency=""), "data.object.currency is ''"),
        (event("charge.succeeded", T0, None), "data.object is None"),
    ],
    ids=["text", "negative", "bool", "negative refund", "no time", "no currency", "thin"],
)
def test_body_without_a_required_field_is_refused_alone(engine: Engine, item: WorkItem, message: str) -> None:
    with transaction(engine) as tx:
        refused, done = ingest_transactions(tx, [item, refund()], NOW).outcomes

    assert isinstance(refused, Refused)
    assert refused.code == "stripe.unreadable_transaction"
    assert message in refused.detail
    assert isinstance(done, Done)
