"""Dead-man check: missed runs are found from rows, even without beat, and resolved when they run."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from beat_schedule import JOBS
from services.alerts.notify import record_alerts
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.jobs.conditions import count_conditions, record_overdue
from services.jobs.definition import Job
from services.jobs.handler import JobHandler, JobResult
from services.jobs.tick import OverdueMonitor, tick
from services.ledger.health import classify_health
from services.ledger.health_check import HealthCheck
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from tests.fleet.waiting import wait_for
from tests.jobs.job_rows import add_jobs, add_shops, make_job, periods, run_tick, runs, settle

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)  # an hour past midnight in Vancouver
MIDNIGHT = NOW - timedelta(hours=1)
OPEN = "select shop_id, rule, period, severity, status from incidents order by shop_id nulls first"
INCIDENT = (1, "cron_did_not_run:daily-reconciliation", "2026-11-20", "P2", "open")


@pytest.fixture
def shop(engine: Engine) -> Iterator[Engine]:
    """A shop whose job is due at midnight; the last tick was the evening before."""
    add_shops(engine, NOW - timedelta(days=30), west="America/Los_Angeles")
    add_jobs(engine, NOW - timedelta(days=1), make_job())
    run_tick(engine, MIDNIGHT - timedelta(hours=2))
    return engine


def check(engine: Engine, now: datetime) -> list[str]:
    with transaction(engine) as tx:
        record_overdue(tx, now)
        record_alerts(tx, now)
        return sorted(count_conditions(tx, now).get("jobs_overdue", {}))


def test_nothing_is_overdue_within_its_grace(shop: Engine) -> None:
    run_tick(shop, MIDNIGHT + timedelta(seconds=1))
    assert check(shop, MIDNIGHT + timedelta(minutes=30)) == []
    assert runs(shop, OPEN) == []


def test_a_run_without_an_end_after_its_grace_did_not_run(shop: Engine) -> None:
    run_tick(shop, MIDNIGHT + timedelta(seconds=1))
    assert check(shop, MIDNIGHT + timedelta(minutes=31)) == ["daily-reconciliation"]
    assert runs(shop, OPEN) == [INCIDENT]
    ((summary,),) = runs(shop, "select summary from incidents")
    assert "due at 2026-11-21 01:00 -07:00" in summary
    assert "check whether its queue is paused and its worker runs" in summary


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_no_start_within_30_minutes_is_found_for_every_job(engine: Engine, job: Job) -> None:
    add_shops(engine, NOW - timedelta(days=30), west="America/Los_Angeles")
    add_jobs(engine, NOW - timedelta(days=1), job)
    with transaction(engine) as tx:
        add = (
            "insert into job_runs (job, shop_id, period, due_at, status, origin)"
            " values (:job, 1, 'p', :due_at, 'pending', 'beat')"
        )
        tx.execute(text(add), {"job": job.name, "due_at": NOW})

    assert check(engine, NOW + timedelta(minutes=30)) == []
    assert check(engine, NOW + timedelta(minutes=30, seconds=1)) == [job.name]
    assert runs(engine, "select rule, severity from incidents") == [(f"cron_did_not_run:{job.name}", "P2")]
    ((summary,),) = runs(engine, "select summary from incidents")
    assert "has no start 30 min later" in summary
    started = NOW + timedelta(minutes=29)
    with transaction(engine) as tx:
        tx.execute(text("update job_runs set status = 'running', started_at = :at"), {"at": started})
    assert check(engine, NOW + job.grace) == []
    assert check(engine, NOW + job.grace + timedelta(seconds=1)) == [job.name]


def test_missed_run_is_found_while_beat_is_dead(shop: Engine) -> None:
    assert check(shop, MIDNIGHT + timedelta(minutes=31)) == ["daily-reconciliation"]
    assert runs(shop, OPEN) == [INCIDENT]
    ((summary,),) = runs(shop, "select summary from incidents")
    assert "check whether beat runs" in summary


def test_second_check_reports_nothing_new(shop: Engine) -> None:
    check(shop, NOW)
    before = runs(shop, "select updated_at from incidents")
    check(shop, NOW + timedelta(minutes=5))
    assert runs(shop, "select updated_at from incidents") == before


def test_operator_gets_one_mail_for_all_late_shops(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATOR_EMAIL", "ops@example.com")
    get_settings.cache_clear()
    add_shops(engine, NOW - timedelta(days=30), west="America/Los_Angeles", other="America/Los_Angeles")
    add_jobs(engine, NOW - timedelta(days=1), make_job())
    run_tick(engine, MIDNIGHT)

    check(engine, NOW)
    check(engine, NOW + timedelta(minutes=5))
    get_settings.cache_clear()

    ((recipient, subject, text_),) = runs(engine, "select recipient, subject, text from mail_outbox")
    assert (recipient, subject) == (
        "ops@example.com",
        "daily-reconciliation did not run (2026-11-20)",
    )
    assert "pending at 2 shops: other, west" in " ".join(text_.split())
    assert runs(engine, "select topic from work_queue where topic = 'mail_send'") == [("mail_send",)]


def test_the_incident_is_resolved_when_the_run_ends(shop: Engine) -> None:
    check(shop, NOW)
    run_tick(shop, NOW)

    runner = ExternalRunner(shop, "tests", random.Random(1))
    runner.run_batch(TOPICS["reconcile"], JobHandler(lambda _run: JobResult()))

    assert check(shop, NOW + timedelta(hours=2)) == []
    assert runs(shop, OPEN) == [(*INCIDENT[:4], "resolved")]


def test_health_names_the_job_that_did_not_run(shop: Engine) -> None:
    probe = HealthCheck(count_conditions, engine=lambda: shop, ping=lambda _: 0.1, keep_seconds=0.0)
    with transaction(shop) as tx:
        tx.execute(text("update job_schedule_state set next_due_at = now() - interval '31 minutes'"))

    health = probe.read()

    assert health.conditions == {"jobs_overdue": {"daily-reconciliation": 1}}
    assert "job:daily-reconciliation" in classify_health(health, utc_now()).failing


def test_monitor_reports_that_no_beat_runs(shop: Engine) -> None:
    with transaction(shop) as tx:
        tx.execute(text("update job_schedule_state set next_due_at = now() - interval '31 minutes'"))
    monitor = OverdueMonitor(shop, every_seconds=0.01)
    monitor.start()
    try:
        wait_for(lambda: len(runs(shop, OPEN)) == 1)
    finally:
        monitor.stop()


def test_a_job_that_is_switched_off_is_not_missed(shop: Engine) -> None:
    with transaction(shop) as tx:
        tx.execute(
            text(
                "insert into job_overrides (job, enabled, changed_at, changed_by) "
                "values ('daily-reconciliation', false, :at, 'ada')"
            ),
            {"at": MIDNIGHT - timedelta(hours=1)},
        )
    run_tick(shop, MIDNIGHT)
    assert check(shop, NOW) == []


def test_no_run_starts_while_two_clocks_disagree_and_it_is_reported(shop: Engine) -> None:
    with transaction(shop) as tx:
        tx.execute(
            text(
                "update job_schedule_state "
                "set scheduled_until = now() - interval '2 days', next_due_at = now()"
            )
        )

    assert tick(shop, utc_now() + timedelta(hours=3)) == []
    assert periods(shop) == []
    assert ("clocks_apart", "P1", "open") in runs(shop, "select rule, severity, status from incidents")

    assert tick(shop, utc_now()) != []
    assert runs(shop, "select status from incidents where rule = 'clocks_apart'") == [("resolved",)]


def test_a_part_that_fails_does_not_keep_the_others_from_being_done(shop: Engine) -> None:
    run_tick(shop, MIDNIGHT)
    with transaction(shop) as tx:
        tx.execute(text("update jobs set schedule = 'nonsense'"))  # planning will fail
        settle(tx, "daily-reconciliation", "dead")

    assert tick(shop, utc_now()) == []

    assert periods(shop, "failed") == ["2026-11-20"]
