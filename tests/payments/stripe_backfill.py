"""Stripe's lists of a day, and a backfill of a shop from them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.settings import get_settings
from services.ledger.accept import NewEvent
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.sync_cursors import upsert_cursor
from services.ledger.topics import TOPICS
from services.payments.backfill import backfill_stripe
from services.payments.handler import ingest_transactions
from services.providers.stripe import stripe_object_key
from services.shops.secrets import record_secret
from tests.fakes.stripe import StripeApi
from tests.ledger_rows import NOW, accept
from tests.payments.test_any_order import ROWS
from tests.shopify.sample_payloads import add_shop

KEY = "rk_test_" + "a" * 24


HOUR, DAY = timedelta(hours=1), timedelta(days=1)


EVENTS = (
    "select topic, delivery_key, origin, duplicate_count from inbound_events order by topic, delivery_key"
)


def epoch(at: datetime) -> int:
    return int(at.timestamp())


def charge(number: int, at: datetime, **fields: Any) -> dict[str, Any]:
    usual = {
        "id": f"ch_{number:04d}",
        "object": "charge",
        "amount": 1000 + number,
        "amount_captured": 1000 + number,
        "amount_refunded": 0,
        "captured": True,
        "currency": "cad",
        "status": "succeeded",
        "created": epoch(at),
        "metadata": {"order_id": str(450789469 + number)},
    }
    return usual | fields


def event(name: str, at: datetime, source: dict[str, Any]) -> dict[str, Any]:
    event_id = f"evt_{name}_{source['id']}_{epoch(at)}"
    body = {"id": event_id, "object": "event", "type": name, "created": epoch(at)}
    return body | {"data": {"object": source}}


def day_of_events(count: int = 60) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the events of a day, and the charges in their final state at Stripe."""
    rng, events, charges = random.Random(count), [], []
    for number in range(count):
        at = NOW - DAY + timedelta(seconds=rng.randrange(80_000))
        paid = charge(number, at)
        events.append(event("charge.succeeded", at, paid))
        if number % 3 == 0:
            later = at + timedelta(seconds=rng.randrange(3000))
            part = rng.randrange(1, 900)
            paid = charge(number, at, amount_refunded=part)
            refund = {
                "id": f"re_{number}", "object": "refund", "amount": part, "currency": "cad",
                "status": "succeeded", "charge": paid["id"], "created": epoch(later),
            }  # fmt: skip
            events += [event("charge.refunded", later, paid), event("refund.created", later, refund)]
        if number % 5 == 0:
            dispute = {
                "id": f"dp_{number}", "object": "dispute", "amount": 9, "currency": "cad", "status": "lost",
                "charge": paid["id"], "created": epoch(at),
            }  # fmt: skip
            events.append(event("charge.dispute.closed", at + HOUR / 2, dispute))
        charges.append(paid)
    return events, charges


def deliver(engine: Engine, *events: dict[str, Any]) -> None:
    new = [
        NewEvent(
            shop_id=1,
            provider="stripe",
            topic=one["type"],
            delivery_key=one["id"],
            body=orjson.dumps(one),
            received_at=NOW,
            key=stripe_object_key(one),
        )
        for one in events
    ]
    accept(engine, *new)


def work(engine: Engine) -> list[tuple[Any, ...]]:
    """Process the queue; return the transactions."""
    runner = TransactionalRunner(engine, "tests", Random(1))
    while runner.run_batch(TOPICS["transaction_ingest"], ingest_transactions).more:
        pass
    with engine.connect() as tx:
        return [tuple(row) for row in tx.exec_driver_sql(ROWS)]


def clear_tables(engine: Engine) -> None:
    with transaction(engine) as tx:
        for table in ("work_queue", "inbound_events", "transactions", "sync_cursors"):
            tx.exec_driver_sql(f"delete from {table}")  # noqa: S608 - the names are above


def listed(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as tx:
        return [tuple(row) for row in tx.exec_driver_sql(EVENTS)]


def run_backfill(now: datetime = NOW, **options: Any) -> dict[str, int]:
    return backfill_stripe(1, now, "r", clock=lambda: now, **options)


def set_marks(engine: Engine, at: datetime) -> None:
    with transaction(engine) as tx:
        for stream in ("events", "charges"):
            upsert_cursor(tx, 1, "stripe", stream, at, at)


@contextmanager
def stripe_with_shop(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[StripeApi]:
    """A Stripe double in the settings, and a shop with its key."""
    with StripeApi(KEY) as started:
        started.lists = {
            kind: [] for kind in ("events", "charges", "refunds", "disputes", "payouts", "payment_intents")
        }
        monkeypatch.setenv("STRIPE_API_BASE", started.url)
        get_settings.cache_clear()
        add_shop(engine)
        with transaction(engine) as tx:
            record_secret(tx, 1, "stripe-key", KEY, NOW)
        yield started
    get_settings.cache_clear()
