"""Figures of the database: how long its statements take, and how large it is."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.alerts.figures import CLOCKS_APART, CollectFigures, Figure, Figures
from services.alerts.rules import FIGURE_RULES
from services.alerts.thresholds import load_thresholds
from services.core.counts import format_count
from services.core.latency import BOUNDS_MS, BUCKETS, estimate_percentile_ms
from services.ledger.statement_stats import WEB
from services.ledger.table_sizes import list_table_sizes
from services.ledger.work import FLEET

SHARE = 0.95
MOST_NAMED = 5
SLOW, LARGE = "database_slow", "database_large"

_STATEMENTS = """
select statement, number, sum(calls)::bigint as calls
  from statement_stats cross join lateral unnest(latency) with ordinality as histogram(calls, number)
 where minute > %(since)s and minute <= %(latest)s and process = any(%(process)s::text[])
 group by statement, number
"""
_SIZE = "select pg_database_size(current_database())"


class StatementLatency(NamedTuple):
    """A statement's durations in a window. ``slow_calls`` took longer than the rule's limit."""

    statement: str
    calls: int
    slow_calls: int
    p95_ms: float

    def __str__(self) -> str:
        slow = f"{self.slow_calls} of {format_count(self.calls, 'call')} slow"
        return f"{self.statement}: {self.p95_ms:.0f} ms, {slow}"


def measure_statements(tx: Connection, now: datetime) -> Figures:
    """Return the 95th percentile of all statements of ingress and console.

    Without a statement nobody knows whether the database is slow.
    """
    rule = FIGURE_RULES[SLOW]
    values = {"since": now - rule.window, "latest": now + CLOCKS_APART, "process": list(WEB)}
    found: dict[str, list[int]] = {}
    for row in tx.exec_driver_sql(_STATEMENTS, values):
        found.setdefault(row.statement, [0] * BUCKETS)[row.number - 1] = row.calls
    if not found:
        return {}
    total = [sum(counts) for counts in zip(*found.values(), strict=True)]
    slowest = find_slowest(found, load_thresholds(tx).find(rule, FLEET))
    detail = {
        "calls": sum(total),
        "slowest": "; ".join(map(str, slowest)) or "none",
        "statements": [one._asdict() for one in slowest],
    }
    return {SLOW: [Figure(estimate_percentile_ms(total, SHARE), detail=detail)]}


def find_slowest(histograms: dict[str, list[int]], limit_ms: float) -> Sequence[StatementLatency]:
    """Return the statements with the most calls above ``limit_ms``; of equals the slower one."""
    first_slow = bisect_left(BOUNDS_MS, limit_ms) + 1
    every = (
        StatementLatency(name, sum(counts), sum(counts[first_slow:]), estimate_percentile_ms(counts, SHARE))
        for name, counts in histograms.items()
    )
    slow = sorted((one for one in every if one.slow_calls), key=lambda one: (-one.slow_calls, -one.p95_ms))
    return slow[:MOST_NAMED]


def measure_size(tx: Connection, now: datetime) -> Figures:
    """Return the size of the database, with its largest tables and those that have grown."""
    tables = list_table_sizes(tx, now)
    grown = sorted((one for one in tables if one.bytes_grown > 0), key=lambda one: -one.bytes_grown)
    detail: dict[str, Any] = {
        "largest": ", ".join(f"{one.table_name} {one.byte_count / 1e9:.1f} GB" for one in tables[:3]),
        "grown": "growth is not known yet",
    }
    if grown and grown[0].since:
        detail["grown"] = f"grown since {grown[0].since:%Y-%m-%d}: " + ", ".join(
            f"{one.table_name} {one.bytes_grown / 1e9:+.1f} GB" for one in grown[:3]
        )
    return {LARGE: [Figure(tx.exec_driver_sql(_SIZE).scalar_one() / 1e9, detail=detail)]}


COLLECTORS: Mapping[str, CollectFigures] = {LARGE: measure_size, SLOW: measure_statements}
