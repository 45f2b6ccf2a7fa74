"""Late, repeated and shuffled Shopify events, in batches of any size, end in the same rows."""

import os
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from services.core.db import transaction
from services.ledger.work import Done
from services.schema.models import metadata
from tests.shopify.event_strategies import Event
from tests.shopify.histories import BASES, EVENTS, base_of, histories
from tests.shopify.sample_payloads import Ingest, add_shop, ingest, rows

TABLES = tuple(
    metadata.tables[name]
    for name in (
        "orders",
        "order_lines",
        "order_refunds",
        "order_refund_lines",
        "order_transactions",
        "fulfillments",
        "customers",
        "products",
        "variants",
        "inventory_items",
        "locations",
        "storefronts",
        "inventory_levels",
        "stock_movements",
        "fulfillment_orders",
        "fulfillment_events",
        "inventory_transfers",
        "inventory_shipments",
        "variant_stock",
        "order_notices",
        "order_returns",
        "reverse_fulfillment_orders",
        "shopify_disputes",
        "tender_transactions",
    )
)
NOT_STATE = frozenset({"event_id", "changed_at"})
"""Columns outside the shop's state: the winner of equal deliveries, and the time of the write."""

EXPLORE = int(os.environ.get("EXPLORE_HISTORIES", "0"))
"""Number of new random histories; 0: a fixed small set, for CI."""


_EMPTY = f"""
with {
    ", ".join(
        f"in_{name} as (delete from {name})"
        for name in [
            *(table.name for table in TABLES),
            "work_queue",
            "incidents",
            "connections",
        ]
    )
} select
"""  # noqa: S608 - names of our tables
_READ = " union all ".join(
    f"select '{table.name}', (to_jsonb(of_table) - array{sorted(NOT_STATE)})::text from {table.name} of_table"  # noqa: S608
    for table in TABLES
)
"""One statement each: a test reads and empties the tables 70 times."""


def handle(engine: Engine, sets: Sequence[Sequence[Event]]) -> list[Any]:
    """Process ``sets`` for an empty shop, as a worker does; return the rows without ``NOT_STATE``."""
    with transaction(engine) as tx:
        tx.exec_driver_sql(_EMPTY)
    for events in sets:
        of_topic: dict[Ingest, list[Event]] = {}
        for event in events:
            of_topic.setdefault(event.effect, []).append(event)
        for effect, same in of_topic.items():
            effects = ingest(engine, effect, *(event.deliver() for event in same))
            assert all(isinstance(outcome, Done) for outcome in effects.outcomes), effects.outcomes
    return sorted(rows(engine, _READ))


@pytest.mark.parametrize("about", [*EVENTS, "all"])
@settings(
    max_examples=EXPLORE or 15,
    deadline=None,
    derandomize=not EXPLORE,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data(), rng=st.randoms(use_true_random=False))
def test_any_order_repetition_and_size_of_sets_ends_in_the_same_rows(
    engine: Engine, about: str, data: st.DataObject, rng: Random
) -> None:
    if not rows(engine, "select id from shops"):
        add_shop(engine)
    history = data.draw(histories(about))
    known = [base_of(event) for event in history if event.topic in BASES]
    expected = handle(engine, [known, *([event] for event in history)])

    shuffled = history + rng.choices(history, k=rng.randint(0, 3))
    rng.shuffle(shuffled)
    cuts = sorted({0, len(shuffled), *(rng.randint(0, len(shuffled)) for _ in range(rng.randint(0, 6)))})
    sets = [shuffled[begin:end] for begin, end in pairwise(cuts)]
    for number, events in enumerate(sets):
        for event in events:
            note(f"set {number}: {event.topic} sent at minute {event.minute}: {event.body}")

    assert handle(engine, [known, *sets]) == expected
