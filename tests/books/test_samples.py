"""Stripe's own sample events of every planned type are read."""

from pathlib import Path

import orjson
from sqlalchemy import Engine

from services.books.transactions import ingest_transactions
from services.core.db import transaction
from services.ledger.plan import plan_topic
from services.ledger.work import Done
from tests.books.test_transactions import NOW, event


def test_samples_of_every_planned_type_are_read(engine: Engine, samples: Path) -> None:
    bodies = [
        orjson.loads(path.read_bytes()) for path in sorted((samples / "stripe").glob("events_*/*.json"))
    ]
    planned = [body for body in bodies if plan_topic("stripe", body["type"])]
    items = [event(body["type"], body["created"], body["data"]["object"]) for body in planned]

    with transaction(engine) as tx:
        outcomes = ingest_transactions(tx, items, NOW).outcomes

    assert len({body["type"] for body in planned}) >= 7
    assert {outcome.verdict for outcome in outcomes if isinstance(outcome, Done)} <= {"done", "stale"}
    assert all(isinstance(outcome, Done) for outcome in outcomes)
