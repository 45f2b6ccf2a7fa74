"""Figures of jobs: runs past the limit of their topic, and events that healing recorded."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from sqlalchemy import Connection, Engine, text

from services.alerts.evaluate import describe
from services.alerts.rules import FIGURE_RULES
from services.core.db import transaction
from services.jobs.figures import collect_figures
from services.ledger.topics import TOPICS
from tests.jobs.job_rows import add_jobs, add_shops, make_job

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
LIMIT = timedelta(seconds=TOPICS["reconcile"].soft_time_limit_seconds)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def jobs(engine: Engine) -> None:
    add_shops(engine, NOW, west="America/Los_Angeles", east="America/Toronto")
    add_jobs(engine, NOW, make_job(), make_job(name="gap-healing", topic="gap_heal"))


def add_run(tx: Connection, period: str, job: str = "daily-reconciliation", **columns: object) -> None:
    row = {"shop_id": 1, "due_at": NOW, "started_at": None, "ended_at": None, "status": "running"} | columns
    row["stats"] = orjson.dumps(row.get("stats", {})).decode()
    tx.execute(
        text(
            "insert into job_runs (job, shop_id, period, due_at, started_at, ended_at, status, stats, origin)"
            " values (:job, :shop_id, :period, :due_at, :started_at, :ended_at, :status,"
            " cast(:stats as jsonb), 'beat')"
        ),
        {"job": job, "period": period, **row},
    )


def collect(tx: Connection, rule: str) -> list[tuple[float, int, str]]:
    found = collect_figures(tx, NOW)[rule]
    for one in found:
        assert describe(FIGURE_RULES[rule], 0, one)
    return sorted((round(one.value, 3), one.shop_id, one.subject) for one in found)


def test_a_run_is_too_long_by_its_time_beyond_the_limit_of_its_topic(engine: Engine) -> None:
    with transaction(engine) as tx:
        add_run(tx, "2026-11-18", started_at=NOW - LIMIT - 3 * MINUTE)
        add_run(tx, "2026-11-19", started_at=NOW - LIMIT - 2 * MINUTE)
        add_run(tx, "2026-11-19", started_at=NOW - LIMIT + MINUTE, shop_id=2)
        add_run(tx, "2026-11-20", started_at=NOW - 9 * LIMIT, ended_at=NOW, status="done", shop_id=2)
        add_run(tx, "2026-11-21", status="pending", shop_id=2)

        found = collect(tx, "run_too_long")
        assert found == [(-1.0, 2, "daily-reconciliation"), (3.0, 1, "daily-reconciliation")]
    rule = FIGURE_RULES["run_too_long"]
    assert [rule.is_beyond(value, rule.threshold) for value, _, _ in found] == [False, True]


def test_the_newest_run_of_healing_says_what_it_recorded(engine: Engine) -> None:
    with transaction(engine) as tx:
        healed = {"job": "gap-healing", "status": "done"}
        add_run(tx, "1", **healed, due_at=NOW - 60 * MINUTE, stats={"entered": 7})
        assert collect(tx, "gap_healed") == [(7.0, 1, "")]
        add_run(tx, "2", **healed, due_at=NOW, stats={"entered": 0})
        add_run(tx, "3", job="gap-healing", due_at=NOW + MINUTE)
        add_run(tx, "2", **healed, shop_id=2, due_at=NOW, stats={})

        found = collect(tx, "gap_healed")
        assert found == [(0.0, 1, "")]
    rule = FIGURE_RULES["gap_healed"]
    assert [rule.is_beyond(value, rule.threshold) for value in (0.0, 1.0)] == [False, True]
