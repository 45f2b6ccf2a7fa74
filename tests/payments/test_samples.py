"""Stripe's sample events and objects of every planned type are parsed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.ledger.topics import plan_topic
from services.ledger.work import Done
from services.payments.balance import parse_balance_entry
from services.payments.handler import ingest_transactions
from services.payments.payload import KINDS, parse_transaction
from tests.payments.test_transactions import NOW, event

OBJECTS = {
    "charge": ("captured", "expired", "failed", "pending", "refunded", "succeeded", "updated"),
    "charge.dispute": ("created", "updated", "closed", "funds_withdrawn", "funds_reinstated"),
    "charge.refund": ("updated",),
    "refund": ("created", "updated", "failed"),
    "payment_intent": (
        "amount_capturable_updated", "canceled", "created", "partially_funded", "payment_failed",
        "processing", "requires_action", "succeeded",
    ),
    "payout": ("created", "updated", "paid", "failed", "canceled", "reconciliation_completed"),
}  # fmt: skip
"""Every type of event about money in or out. Source: Stripe API reference, "Types of events"."""

TYPES = [f"{name}.{what}" for name, several in OBJECTS.items() for what in several]


def events(samples: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((samples / "stripe").glob("events_*/*.json")):
        yield orjson.loads(path.read_bytes())


def test_samples_of_every_planned_type_are_read(engine: Engine, samples: Path) -> None:
    planned = [body for body in events(samples) if plan_topic("stripe", body["type"])]
    items = [event(body["type"], body["created"], body["data"]["object"]) for body in planned]

    with transaction(engine) as tx:
        outcomes = ingest_transactions(tx, items, NOW).outcomes
        kinds = {row[0] for row in tx.exec_driver_sql("select distinct kind from transactions")}

    assert len({body["type"] for body in planned}) >= 14
    assert {outcome.result for outcome in outcomes if isinstance(outcome, Done)} <= {"done", "stale"}
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    assert kinds == KINDS


@pytest.mark.parametrize("name", TYPES)
def test_every_type_with_stripes_own_object_becomes_a_row(engine: Engine, samples: Path, name: str) -> None:
    fixture = {"charge.dispute": "dispute", "charge.refund": "refund"}
    prefix = name.rpartition(".")[0]
    path = samples / "stripe" / "fixtures" / f"{fixture.get(prefix, prefix)}.json"
    source = orjson.loads(path.read_bytes())
    topic = plan_topic("stripe", name)

    with transaction(engine) as tx:
        (outcome,) = ingest_transactions(tx, [event(name, 1_795_200_000, source)], NOW).outcomes
        rows = tx.exec_driver_sql("select provider_id, kind from transactions").all()

    assert topic is not None
    assert (topic.name, outcome) == ("transaction_ingest", Done())
    assert [tuple(row) for row in rows] == [(source["id"], source["object"])]


def test_objects_of_other_kinds_are_ignored(samples: Path) -> None:
    for path in sorted((samples / "stripe" / "fixtures").glob("*.json")):
        source = orjson.loads(path.read_bytes())
        read = parse_transaction(source, shop_id=1, version_at=NOW)
        assert (read is not None) == (source["object"] in KINDS), path.name


def test_stripes_own_balance_transaction_is_read(samples: Path) -> None:
    source = orjson.loads((samples / "stripe" / "fixtures" / "balance_transaction.json").read_bytes())

    entry = parse_balance_entry(source, "po_1")

    assert (entry.kind, entry.amount_cents, entry.fee_cents, entry.net_cents) == ("charge", 100, 0, 100)
    assert (entry.currency, entry.source_id, entry.payout_id) == ("USD", source["source"], "po_1")
