"""``/health``, ``/metrics`` and pages read growing tables by a condition on an index, or by a partial one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from services.console.connection_lines import find_run_figures, list_company_lines
from services.console.scan_reading import read_scan
from services.console.shop_facts import read_shop_facts
from services.core.clock import utc_now
from services.core.db import transaction
from services.ingress.metrics import read_totals
from services.jobs.conditions import count_conditions, list_conditions
from services.ledger.backlog import list_topic_figures
from services.ledger.health import read_heartbeats
from services.retention.rules import EVENTS, RULES
from services.shops.shops import Shop

GROWING = {rule.table for rule in (EVENTS, *RULES)} | {"audit_events", "event_archives", "incidents"}

_SHOP = Shop(
    id=1, slug="a", name="A", timezone="UTC", currency="CAD", owner_email="", accountant_email="",
    shopify_domain="", stock_location_id="", stock_owner="shopify", created_at=utc_now(),
)  # fmt: skip

READS: dict[str, Callable[[Connection], object]] = {
    "heartbeats": read_heartbeats,
    "figures": lambda tx: list_topic_figures(tx, utc_now()),
    "counters": read_totals,
    "conditions": lambda tx: count_conditions(tx, utc_now()),
    "console": lambda tx: list_conditions(tx, utc_now()),
    "companies": lambda tx: list_company_lines(tx, utc_now()),
    "runs of shops": lambda tx: find_run_figures(tx, [1, 2], utc_now()),
    "shop": lambda tx: read_shop_facts(tx, _SHOP, utc_now()),
    "scan": lambda tx: read_scan(tx, utc_now()),
}


@pytest.mark.parametrize("name", READS)
def test_no_growing_table_is_read_as_a_whole(engine: Engine, name: str) -> None:
    statements: list[tuple[str, Any]] = []

    def collect(_conn: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        if statement.lstrip().lower().startswith(("select", "with")):
            statements.append((statement, values))

    with transaction(engine) as tx:
        event.listen(tx, "before_cursor_execute", collect)
        READS[name](tx)
        event.remove(tx, "before_cursor_execute", collect)
        partial = set(
            tx.scalars(text("select indexrelid::regclass::text from pg_index where indpred is not null"))
        )
        tx.execute(text("set local enable_seqscan = off"))
        plans = [
            tx.exec_driver_sql(f"explain (format json) {one}", values).scalar() for one, values in statements
        ]

    assert plans
    nodes = [node for plan in plans for node in walk(plan[0]["Plan"])]
    found = [(node["Relation Name"], node) for node in nodes if node.get("Relation Name") in GROWING]
    assert [
        (table, node["Node Type"], node.get("Index Name"))
        for table, node in found
        if "Index Cond" not in node and not indexes_of(node) & partial and "Recheck Cond" not in node
    ] == []


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from walk(child)


def indexes_of(node: dict[str, Any]) -> set[str]:
    return {one["Index Name"] for one in walk(node) if "Index Name" in one}
