"""Transactions: the newest event of a charge, refund or payment intent wins."""

from datetime import UTC, datetime
from itertools import count, permutations
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, text

from services.books.transactions import ingest_transactions
from services.core.db import transaction
from services.core.errors import Refused
from services.ledger.work import Done, Effects, WorkItem

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


def ingest(engine: Engine, *items: WorkItem) -> list[str]:
    with transaction(engine) as tx:
        effects: Effects = ingest_transactions(tx, items, NOW)
    return [o.verdict if isinstance(o, Done) else o.code for o in effects.outcomes]


def rows(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as tx:
        return [tuple(row) for row in tx.execute(text(ROWS))]


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
    for told in permutations(events):
        with transaction(engine) as tx:
            tx.exec_driver_sql("delete from transactions")
        for one in [*told, told[0]]:
            ingest(engine, one)

        assert rows(engine) == [("ch_1", "charge", "paid", 5000, 2000, "CAD", "pi_1")]


def test_older_event_is_stale_and_a_copy_is_done(engine: Engine) -> None:
    newest = charge("charge.refunded", 60, amount_refunded=1500)

    assert ingest(engine, charge(), newest, newest) == ["stale", "done", "done"]
    assert ingest(engine, newest, charge()) == ["done", "stale"]


def test_expanded_reference_is_its_id(engine: Engine) -> None:
    ingest(engine, refund(charge={"id": "ch_9", "object": "charge"}))

    assert rows(engine)[0][6] == "ch_9"


def test_dispute_is_kept_and_changes_no_transaction(engine: Engine) -> None:
    assert ingest(engine, charge("charge.dispute.created", 9, object="dispute", id="dp_1")) == ["kept"]
    assert rows(engine) == []


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (charge(amount="50.00"), "data.object.amount is '50.00': it should be a whole number of minor units"),
        (charge(amount=-1), "data.object.amount is -1"),
        (charge(created=None), "data.object.created is None: it should be seconds since 1970"),
        (charge(currency=""), "data.object.currency is ''"),
        (event("charge.succeeded", T0, None), "data.object is None"),
    ],
    ids=["text", "negative", "no time", "no currency", "thin"],
)
def test_body_that_lacks_what_we_need_is_refused_alone(engine: Engine, item: WorkItem, said: str) -> None:
    with transaction(engine) as tx:
        refused, done = ingest_transactions(tx, [item, refund()], NOW).outcomes

    assert isinstance(refused, Refused)
    assert refused.code == "stripe.unreadable_transaction"
    assert said in refused.detail
    assert isinstance(done, Done)
