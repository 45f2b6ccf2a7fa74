"""Quo's sample payloads of both envelopes are parsed."""

from pathlib import Path

from sqlalchemy import Engine

from services.conversations.handler import ingest_interactions
from services.core.db import transaction
from services.ledger.work import Done
from tests.conversations.test_interactions import NOW, item


def test_samples_of_both_envelopes_are_read(engine: Engine, samples: Path) -> None:
    folders = ("legacy_v4", "quo_2026-03-30", "quo_2026-03-30_built_from_field_table")
    paths = [path for folder in folders for path in sorted((samples / "openphone" / folder).glob("*.json"))]
    items = [item(path.read_bytes()) for path in paths]

    with transaction(engine) as tx:
        outcomes = ingest_interactions(tx, items, NOW).outcomes

    assert len(outcomes) == len(paths) > 10
    assert all(isinstance(outcome, Done) for outcome in outcomes)
