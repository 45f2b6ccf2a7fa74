"""Audit of Stripe events: a text for each change, without the payer."""

import orjson
from sqlalchemy import Engine

from services.core.db import transaction
from services.ledger.work import WorkItem
from services.payments.handler import ingest_transactions
from tests.payments.test_transactions import NOW, charge, dispute, payout, refund


def summaries(engine: Engine, *items: WorkItem) -> list[str]:
    with transaction(engine) as tx:
        audit = ingest_transactions(tx, items, NOW).audit
    return [mutation.summary for entry in audit for mutation in entry.mutations]


def test_each_change_of_a_charge_is_audited(engine: Engine) -> None:
    assert summaries(engine, charge("charge.pending", status="pending")) == [
        "charge ch_1 recorded: pending, 50.00 CAD"
    ]
    assert summaries(engine, charge(after=5)) == ["charge ch_1: pending -> paid, 50.00 CAD"]
    assert summaries(engine, charge("charge.refunded", 60, amount_refunded=1500)) == [
        "charge ch_1: refunded 0.00 -> 15.00 CAD"
    ]
    assert summaries(engine, charge("charge.updated", 90, amount_refunded=1500)) == [
        "charge ch_1: received again, only version_at changed"
    ]


def test_only_what_changed_is_in_before_and_after(engine: Engine) -> None:
    summaries(engine, charge(status="pending"))
    item = charge(after=5)

    with transaction(engine) as tx:
        (entry,) = ingest_transactions(tx, [item], NOW).audit

    (mutation,) = entry.mutations
    assert (mutation.table_name, mutation.row_id) == ("transactions", "ch_1")
    assert set(mutation.before or ()) == set(mutation.after or ()) == {"status", "version_at"}
    assert (entry.action, entry.work_id) == ("charge.succeeded", item.id)


def test_stale_copied_and_kept_events_are_not_audited(engine: Engine) -> None:
    newest = charge("charge.refunded", 60, amount_refunded=1500)
    review = charge("charge.updated", 9, object="review", id="prv_1")

    assert len(summaries(engine, charge(), newest, newest, review)) == 1
    assert summaries(engine, newest, charge()) == []


def test_amount_of_an_invalid_currency_is_in_minor_units(engine: Engine) -> None:
    assert summaries(engine, refund(currency="odd1")) == [
        "refund re_1 recorded: succeeded, 1,500 minor units of ODD1"
    ]


def test_dispute_payout_fee_and_order_are_audited(engine: Engine) -> None:
    paid_for = charge(
        metadata={"order_id": "450789469"}, balance_transaction={"fee": 175, "currency": "cad", "id": "t"}
    )
    assert summaries(engine, paid_for, dispute("needs_response"), payout("paid", amount=-900)) == [
        "charge ch_1 recorded: paid, 50.00 CAD, fee 1.75 CAD, for order gid://shopify/Order/450789469",
        "dispute dp_1 recorded: needs_response, 50.00 CAD, fraudulent",
        "payout po_1 recorded: paid, -9.00 CAD, arrives 2026-11-22",
    ]
    assert summaries(engine, payout("failed", after=1, amount=-900, failure_code="debit_not_authorized")) == [
        "payout po_1: paid -> failed, -9.00 CAD, debit_not_authorized"
    ]


def test_fee_of_a_stale_event_is_audited(engine: Engine) -> None:
    summaries(engine, charge("charge.updated", 60))

    assert summaries(engine, charge(balance_transaction={"fee": 175, "currency": "cad", "id": "t"})) == [
        "charge ch_1: fee 1.75 CAD"
    ]


def test_no_entry_contains_the_payer(engine: Engine) -> None:
    private = {
        "receipt_email": "z@quux.example",
        "billing_details": {"name": "Zerlina Quux"},
        "metadata": {"order": "a cake for Zerlina Quux"},
        "failure_code": "Zerlina Quux",
    }
    with transaction(engine) as tx:
        first = ingest_transactions(tx, [charge(status="pending", description="Zerlina", **private)], NOW)
        second = ingest_transactions(tx, [charge(after=5, **private)], NOW)

    changes = [m._asdict() for e in (*first.audit, *second.audit) for m in e.mutations]
    assert len(changes) == 2
    assert not [word for word in ("Zerlina", "quux") if word in orjson.dumps(changes, default=str).decode()]
