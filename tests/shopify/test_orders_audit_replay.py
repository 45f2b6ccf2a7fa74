"""The audit alone leads to every row, in connected steps."""

from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from services.audit.append import append_all
from services.core.db import transaction
from services.ledger.work import WorkItem
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.sample_payloads import (
    LOCATION,
    NOW,
    Ingest,
    add_shop,
    count_levels,
    ingest,
    level,
    rows,
)
from tests.shopify.test_stock_orders import STORY

KEYS = {
    "orders": "order_gid",
    "order_refunds": "refund_id::text",
    "inventory_levels": "inventory_item_id || ':' || location_id",
    "variants": "inventory_item_id::text",
}


def replay(engine: Engine) -> dict[tuple[str, str], dict[str, Any]]:
    """Rebuild each row from the audit; each step must start where the previous one ended."""
    state: dict[tuple[str, str], dict[str, Any]] = {}
    steps = rows(
        engine,
        "select m.table_name, m.row_id, m.before, m.after from audit_mutations m "
        "join audit_events e on e.id = m.event_id order by e.seq, m.place",
    )
    for table, row_id, before, after in steps:
        row = state.setdefault((table, row_id), {})
        assert (before is None) == (not row), (table, row_id)
        for name, value in (before or {}).items():
            assert name == "lines" or row.get(name, value) == value, (table, row_id, name)
        row.update(after)
    return state


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.permutations(range(len(STORY))), st.lists(st.integers(1, 4), min_size=11, max_size=11))
def test_audit_alone_leads_to_every_row_in_connected_steps(
    engine: Engine, owner_engine: Engine, order_of_events: Sequence[int], sizes: Sequence[int]
) -> None:
    tables = "orders, order_lines, order_refunds, order_refund_lines, inventory_levels, stock_movements"
    with owner_engine.begin() as tx:
        tx.exec_driver_sql(f"truncate {tables}, fulfillment_orders, variants cascade")
        tx.exec_driver_sql("truncate audit_events, work_queue, shops cascade")
    add_shop(engine)
    ingest(engine, ingest_inventory_levels, level(20, -30), level(8, -30, location=LOCATION + 1))
    count_levels(engine)
    for effect, items in in_sets([(STORY[n][0], STORY[n][1]()) for n in order_of_events], sizes):
        with transaction(engine) as tx:
            append_all(tx, effect(tx, items, NOW).audit, NOW)

    state = replay(engine)
    for table, key in KEYS.items():
        stored = rows(engine, f"select {key}, to_jsonb(t) from {table} t")  # noqa: S608 - our own names
        assert {row_id for row_id, _ in stored} == {row_id for name, row_id in state if name == table}
        for row_id, row in stored:
            audited = state[table, row_id]
            for name in set(audited) & set(row) - {"observed_at", "updated_at"}:
                assert audited[name] == row[name], (table, row_id, name)


def in_sets(
    events: Sequence[tuple[Ingest, WorkItem]], sizes: Sequence[int]
) -> list[tuple[Ingest, list[WorkItem]]]:
    """Group consecutive events of one topic, up to the sizes."""
    sets: list[tuple[Ingest, list[WorkItem]]] = []
    for effect, event in events:
        if sets and sets[-1][0] is effect and len(sets[-1][1]) < sizes[len(sets) % len(sizes)]:
            sets[-1][1].append(event)
        else:
            sets.append((effect, [event]))
    return sets
