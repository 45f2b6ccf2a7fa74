"""A dropped index makes statements slow: the rule names them, and the database's ping shows nothing."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, text

from services.alerts.database_figures import SLOW, measure_statements
from services.alerts.evaluate import evaluate_rules
from services.audit.append import Mutation, append_change
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.statement_timing import take_samples
from services.jobs.conditions import count_conditions
from services.ledger.health_check import HealthCheck
from services.ledger.statement_stats import StatementStats
from tests.cli.commands import run

LIMIT_MS = 200

_FILL = (
    "alter table audit_events disable trigger audit_events_follow",
    """
insert into audit_events (shop_id, seq, at, staff_label, action, request_id, mutations, prev_hash, hash)
select s, n, now(), 'ada', 'shop.set', '', '[]', repeat('0', 64), repeat('0', 64)
  from generate_series(1, 200) s, generate_series(1, 300) n
""",
    "alter table audit_events enable trigger audit_events_follow",
)
DROP = "alter table audit_events drop constraint uq_audit_events_seq"
ADD = "alter table audit_events add constraint uq_audit_events_seq unique nulls not distinct (shop_id, seq)"


@pytest.fixture
def long_chains(engine: Engine, owner_engine: Engine) -> Iterator[None]:
    """An audit of 200 shops, whose index of chains is gone. ``engine`` emptied the tables before."""
    with owner_engine.begin() as tx:
        for statement in (*_FILL, DROP):
            tx.execute(text(statement))
    yield
    with owner_engine.begin() as tx:
        tx.execute(text(ADD))


def evaluate(tx: Connection, now: datetime) -> list[str]:
    changes = evaluate_rules(tx, measure_statements(tx, utc_now()), now)
    return [f"{one.key.rule} {one.change}" for one in changes if one.key.rule == SLOW]


@pytest.mark.usefixtures("long_chains")
def test_the_slow_statement_of_a_dropped_index_is_named_and_the_ping_is_quiet(engine: Engine) -> None:
    stats, now = StatementStats("console"), utc_now()
    list(take_samples())  # those of the fixtures
    changes = {shop_id: [Mutation("shops", str(shop_id), "renamed", None, None)] for shop_id in range(1, 201)}
    with transaction(engine) as tx:
        append_change(tx, "shops.rename", changes, by="ada", now=now)
    stats.flush(engine)

    with transaction(engine) as tx:
        assert evaluate(tx, now) == []
        assert evaluate(tx, now + timedelta(minutes=4)) == []
        assert evaluate(tx, now + timedelta(minutes=8)) == []
        assert evaluate(tx, now + timedelta(minutes=10)) == [f"{SLOW} opened"]
        incident = tx.execute(text("select * from incidents")).one()
        found = sorted(incident.detail["statements"], key=lambda one: str(one["statement"]))
    result = run("incidents", "explain", str(incident.id), "--json")
    plans = {one["statement"]: one for one in json.loads(result.output)["statements"]}
    assert [one["statement"].rpartition(" ")[0] for one in found] == [
        "copy audit_events",  # its trigger reads the row before each
        "select audit_events",
    ]
    slow = found[-1]
    assert slow["slow_calls"] == slow["calls"] == 1
    assert slow["statement"] in incident.summary
    assert incident.detail["value"] > LIMIT_MS
    assert "Seq Scan on audit_events" in plans[slow["statement"]]["plan"]
    assert plans[found[0]["statement"]]["plan"] == "no plan: PostgreSQL has none for copy"
    shown = run("incidents", "explain", str(incident.id)).output
    assert "Seq Scan on audit_events" in shown and "1 of 1 call slow" in shown
    probe = HealthCheck(count_conditions, ping=lambda _: 0.2, keep_seconds=0)
    pings_ms = [ping for _ in range(9) if (ping := probe.read().database_latency_ms) is not None]
    assert min(pings_ms) < LIMIT_MS
