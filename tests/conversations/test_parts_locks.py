"""Changes of page parts lock rows in one order: a receipt and a write at once never wait in a circle."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from services.conversations.parts import (
    begin_attempts,
    clear_attempts,
    forget_blocks,
    plan_parts,
    record_parts,
)
from services.conversations.tables import interactions
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.pg_arrays import upsert_rows

COUNT, ROUNDS = 40, 25


def make_row(number: int, body: str) -> dict[str, Any]:
    at = datetime(2026, 11, 20, tzinfo=UTC)
    return {
        "shop_id": 1, "provider_id": f"M{number}", "kind": "message", "direction": "incoming", "status": "",
        "participants": [], "body": body, "detail": {"type": "message.received", "object": {}, "context": {}},
        "occurred_at": at, "version_at": at, "event_id": None, "merchant_id": number % 3 + 1, "page_id": "",
        "page_state": "",
    }  # fmt: skip


def test_receipts_and_writes_at_once_end_without_a_deadlock(engine: Engine) -> None:
    rows = [make_row(number, "hello") for number in range(COUNT)]
    with transaction(engine) as tx:
        upsert_rows(tx, interactions, {name: [row[name] for row in rows] for name in rows[0]})
        plan_parts(tx, rows, utc_now())

    def receive(seed: int) -> None:
        rng = random.Random(seed)
        for n in range(ROUNDS):
            with transaction(engine) as tx:
                plan_parts(
                    tx, rng.sample([make_row(k, f"{seed} {n}") for k in range(COUNT)], COUNT), utc_now()
                )

    def write(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(ROUNDS):
            merchants = rng.sample((1, 2, 3), 3)
            with transaction(engine) as tx:
                found = begin_attempts(tx, dict.fromkeys(merchants, ""), utc_now())
            parts = [part for merchant in merchants for part in found[merchant]]
            rng.shuffle(parts)
            with transaction(engine) as tx:
                record_parts(tx, {part.key: (part.digest, ["b"]) for part in parts})
            with transaction(engine) as tx:
                rng.choice((clear_attempts, lambda tx, one: forget_blocks(tx, [one])))(tx, merchants[0])

    with ThreadPoolExecutor(4) as pool:
        for each in [
            pool.submit(receive, 1),
            pool.submit(receive, 2),
            pool.submit(write, 3),
            pool.submit(write, 4),
        ]:
            each.result()
