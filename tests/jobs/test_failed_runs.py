"""A failed run counts until a later run succeeds, its period is done, or a person discards it."""

from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, text

from services.alerts.incidents import find_incidents
from services.alerts.work_rules import record_dead_work
from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.complete_run import sync_run_status
from services.jobs.conditions import _COUNT, count_conditions, list_conditions
from services.jobs.definition import Covers
from services.jobs.runs import start_run
from services.ledger.pause import PauseScope, record_pause
from tests.health.fleet_rows import add_job, add_run, add_work
from tests.jobs.job_rows import add_jobs, make_job, run_tick, settle

CLOSE = "monthly-close"


def failed(tx: Connection) -> dict[str, int]:
    return dict(count_conditions(tx, utc_now()).get("runs_failed", {}))


@pytest.fixture
def close(tx: Connection) -> Connection:
    add_job(tx, CLOSE)
    add_run(tx, CLOSE, "2026-10", "failed", error="stripe.key_refused: 401", started_by="ada")
    return tx


def test_a_failed_run_is_counted_for_its_job(close: Connection) -> None:
    assert failed(close) == {CLOSE: 1}


@pytest.mark.parametrize(
    ("period", "status", "counted"),
    [
        ("2026-11", "done", {}),
        ("2026-09", "done", {CLOSE: 1}),
        ("2026-11", "skipped", {CLOSE: 1}),
        ("2026-11", "running", {CLOSE: 1}),
        ("2026-11", "failed", {CLOSE: 1}),
        ("2026-09", "failed", {CLOSE: 1}),
    ],
)
def test_only_a_successful_run_of_a_later_period_ends_the_failure(
    close: Connection, period: str, status: str, counted: dict[str, int]
) -> None:
    add_run(close, CLOSE, period, status)

    assert failed(close) == counted


def test_successful_run_of_another_shop_or_job_does_not_end_the_failure(close: Connection) -> None:
    add_job(close, "audit-verify")
    add_run(close, "audit-verify", "2026-11", "done")
    add_run(close, CLOSE, "2026-11", "done", shop_id=7)

    assert failed(close) == {CLOSE: 1}


def test_dead_work_of_a_run_has_one_incident(close: Connection) -> None:
    job = make_job(name=CLOSE, per_shop=False, zone="UTC", covers=Covers.MONTH)
    start_run(close, job, None, "2026-10", origin="cli", by="ada", now=utc_now())
    for status in ("dead", "pending", "dead"):
        change = "update work_queue set finished_at = now(), died_at = now(), status = :status"
        close.execute(text(change), {"status": status})
        sync_run_status(close, utc_now())
        record_dead_work(close, utc_now())

        assert [line.rule for line in find_incidents(close)] == [f"job_failed:{CLOSE}"]


def test_each_shop_counts_once(tx: Connection) -> None:
    add_job(tx, "daily-reconciliation", per_shop=True)
    for shop_id in (1, 2, 3):
        for period in ("2026-11-19", "2026-11-20"):
            add_run(tx, "daily-reconciliation", period, "failed", shop_id=shop_id)
    add_run(tx, "daily-reconciliation", "2026-11-21", "done", shop_id=3)

    assert failed(tx) == {"daily-reconciliation": 2}


def test_successful_rerun_ends_the_failure_until_it_fails_again(close: Connection) -> None:
    job = make_job(name=CLOSE, per_shop=False, zone="UTC", covers=Covers.MONTH)

    start_run(close, job, None, "2026-10", origin="cli", by="ada", now=utc_now())

    assert failed(close) == {}
    settle(close, CLOSE, "dead")
    sync_run_status(close, utc_now())
    assert failed(close) == {CLOSE: 1}


@pytest.mark.parametrize(("status", "counted"), [("dead", {CLOSE: 1}), ("discarded", {})])
def test_discarding_its_work_ends_the_failure(
    close: Connection, status: str, counted: dict[str, int]
) -> None:
    add_work(close, "month_close", status=status)
    close.execute(text("update job_runs set work_id = (select max(id) from work_queue)"))

    assert failed(close) == counted


@pytest.mark.parametrize(
    "change",
    [
        "update jobs set retired_at = now()",
        "update job_runs set ended_at = now() - interval '36 days'",
    ],
)
def test_a_retired_job_and_a_run_older_than_35_days_are_not_counted(close: Connection, change: str) -> None:
    close.execute(text(change))

    assert failed(close) == {}


def test_the_line_names_period_person_and_error(close: Connection) -> None:
    (line,) = list_conditions(close, utc_now())

    assert (line.kind, line.label, line.name, line.shop) == ("runs_failed", CLOSE, f"{CLOSE} 2026-10", None)
    assert (line.by, line.why) == ("ada", "stripe.key_refused: 401")


def test_dead_work_makes_its_run_fail(engine: Engine) -> None:
    now = utc_now()
    add_jobs(engine, now - timedelta(days=2), make_job(per_shop=False, zone="fleet"))
    run_tick(engine, now)
    with transaction(engine) as tx:
        assert failed(tx) == {}
        settle(tx, "daily-reconciliation", "dead")
        sync_run_status(tx, now)

        assert failed(tx) == {"daily-reconciliation": 1}


def test_lines_of_one_kind_do_not_hide_those_of_another(tx: Connection) -> None:
    add_job(tx, "daily-reconciliation", per_shop=True)
    for shop_id in range(1, 61):
        add_run(tx, "daily-reconciliation", "2026-11-20", "failed", shop_id=shop_id)
    record_pause(tx, PauseScope(topic="inventory_push"), "hold", now=utc_now(), by="ada", reason="stock")

    lines = list_conditions(tx, utc_now())

    assert [line.kind for line in lines] == ["pauses"] + ["runs_failed"] * 50
    assert failed(tx) == {"daily-reconciliation": 60}


def test_counting_finds_failed_runs_and_incidents_by_index(engine: Engine) -> None:
    with engine.begin() as tx:
        tx.execute(text("set local enable_seqscan = off"))
        plan = "\n".join(tx.exec_driver_sql(f"explain {_COUNT}", {"now": utc_now()}).scalars())

    for index in ("ix_job_runs_failed", "ix_job_runs_open", "ix_incidents_open"):
        assert index in plan, plan
    assert "(job = r.job) AND (shop_id = r.shop_id)" in plan, plan
