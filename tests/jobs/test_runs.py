"""A run from its start to its end, through the ledger's own runner."""

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater
from services.jobs.complete_run import sync_run_status
from services.jobs.handler import JobHandler, JobResult, JobRun
from services.jobs.runs import StartOutcome, StartResult, start_run
from services.jobs.schedule import PeriodInvalid
from services.jobs.store import JobUnknown, get_job
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.shops.shops import get_shop
from tests.jobs.job_rows import add_jobs, add_shops, make_job, run_tick, runs

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
RUNS = "select period, status, stats, error, origin, started_by from job_runs order by id"
WORK = "select topic, status, result, error_code from work_queue where topic = 'reconcile' order by id"


@pytest.fixture
def shop(engine: Engine) -> Engine:
    add_shops(engine, NOW - timedelta(days=30), west="America/Los_Angeles")
    add_jobs(engine, NOW - timedelta(hours=13), make_job(volume="ours"))
    return engine


def start(engine: Engine, period: str | None = None, **options: Any) -> StartResult:
    values: dict[str, Any] = {"origin": "http", "by": "ada", "now": NOW} | options
    with transaction(engine) as tx:
        return start_run(tx, make_job(), get_shop(tx, "west"), period, **values)


def work(engine: Engine, does: Callable[[JobRun], JobResult]) -> None:
    """Process one batch of the nightly worker."""
    ExternalRunner(engine, "tests", random.Random(1)).run_batch(TOPICS["reconcile"], JobHandler(does))


def return_stats(**stats: int) -> Callable[[JobRun], JobResult]:
    return lambda _run: JobResult(stats=stats)


def fails(fault: Exception) -> Callable[[JobRun], JobResult]:
    def does(_run: JobRun) -> JobResult:
        raise fault

    return does


def test_a_run_knows_its_shop_its_period_and_its_zone_and_ends_with_figures(shop: Engine) -> None:
    seen: list[JobRun] = []
    start(shop)

    work(shop, lambda run: seen.append(run) or JobResult(stats={"ours": 3}, result="clean"))  # type: ignore[func-returns-value]

    (run,) = seen
    assert (run.shop_id, run.period, run.zone.key) == (1, "2026-11-20", "America/Los_Angeles")
    assert runs(shop, RUNS) == [("2026-11-20", "done", {"ours": 3}, None, "http", "ada")]
    assert runs(shop, WORK) == [("reconcile", "done", "clean", None)]
    query = "select staff_label, summary from audit_events e join audit_mutations on event_id = e.id"
    assert sorted(runs(shop, query), reverse=True) == [
        ("job daily-reconciliation", "daily-reconciliation for 2026-11-20 done; ours: 3"),
        ("ada", "daily-reconciliation for 2026-11-20 started manually"),
    ]


def test_second_trigger_of_a_finished_period_does_nothing_unless_forced(shop: Engine) -> None:
    first = start(shop)
    work(shop, return_stats(ours=1))

    assert start(shop)[:3] == (StartOutcome.ALREADY_DONE, first.run_id, "2026-11-20")
    forced = start(shop, force=True)
    work(shop, return_stats(ours=2))

    assert forced[:2] == (StartOutcome.STARTED, first.run_id)
    assert [row[1:3] for row in runs(shop, RUNS)] == [("done", {"ours": 2})]


def test_trigger_during_a_run_returns_that_run(shop: Engine) -> None:
    first = start(shop)
    again = start(shop, force=True)

    assert again[:2] == (StartOutcome.RUNNING, first.run_id)
    assert len(runs(shop, WORK)) == 1


def test_manual_trigger_and_schedule_make_one_run(shop: Engine) -> None:
    run_tick(shop, NOW - timedelta(hours=12))
    start(shop)
    run_tick(shop, NOW)
    assert [row[:2] for row in runs(shop, RUNS)] == [("2026-11-20", "pending")]


def test_concurrent_triggers_start_one_run(shop: Engine) -> None:
    found: list[StartOutcome] = []
    gate = threading.Barrier(8)

    def trigger() -> None:
        gate.wait(60)
        found.append(start(shop).found)

    threads = [threading.Thread(target=trigger) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(found) == [StartOutcome.RUNNING] * 7 + [StartOutcome.STARTED]


def test_a_run_that_waits_for_another_try_is_running_and_then_done(shop: Engine) -> None:
    start(shop)
    work(shop, fails(RetryLater("stripe.away", "no answer", wait=timedelta(hours=1))))
    assert [row[1] for row in runs(shop, RUNS)] == ["running"]

    with transaction(shop) as tx:
        tx.execute(text("update work_queue set next_retry_at = now()"))
    work(shop, return_stats(ours=1))
    assert [row[1] for row in runs(shop, RUNS)] == ["done"]


def test_run_with_dead_work_has_failed_with_its_error_and_can_be_started_again(shop: Engine) -> None:
    first = start(shop)
    work(shop, fails(Misconfigured("stripe.no_key", "the shop has no stripe-key")))
    with transaction(shop) as tx:
        sync_run_status(tx, NOW)
    assert [row[1:4] for row in runs(shop, RUNS)] == [
        ("failed", {}, "stripe.no_key: the shop has no stripe-key")
    ]

    again = start(shop)
    work(shop, return_stats(ours=1))

    assert again[:2] == (StartOutcome.STARTED, first.run_id)
    assert [row[1] for row in runs(shop, RUNS)] == ["done"]
    assert [row[1:3] for row in runs(shop, WORK)] == [
        ("discarded", "replaced by a new run"),
        ("done", "done"),
    ]


def test_a_failed_run_whose_work_is_requeued_runs_on(shop: Engine) -> None:
    start(shop)
    work(shop, fails(Misconfigured("stripe.no_key", "the shop has no stripe-key")))
    with transaction(shop) as tx:
        sync_run_status(tx, NOW)
        tx.execute(text("update work_queue set status = 'pending'"))

    work(shop, return_stats(ours=1))

    assert [row[1:4] for row in runs(shop, RUNS)] == [("done", {"ours": 1}, None)]


def test_a_run_whose_work_was_discarded_has_failed(shop: Engine) -> None:
    start(shop)
    with transaction(shop) as tx:
        tx.execute(
            text("update work_queue set status = 'discarded', result = 'not wanted', finished_at = now()")
        )
        sync_run_status(tx, NOW)
    assert [row[1:4] for row in runs(shop, RUNS)] == [("failed", {}, "not wanted")]


def test_old_work_of_a_restarted_run_does_nothing(shop: Engine) -> None:
    start(shop)
    work(shop, fails(Misconfigured("stripe.no_key", "the shop has no stripe-key")))
    with transaction(shop) as tx:
        sync_run_status(tx, NOW)
    start(shop)
    with transaction(shop) as tx:
        tx.execute(
            text("update work_queue set status = 'pending', finished_at = null where status = 'discarded'")
        )

    done: list[str] = []
    for _ in range(2):
        work(shop, lambda run: done.append(run.period) or JobResult())  # type: ignore[func-returns-value]

    assert done == ["2026-11-20"]


def test_findings_of_a_run_are_written_only_at_its_end(shop: Engine) -> None:
    start(shop)

    def record(tx: Any) -> Any:
        raise ValueError("cannot write")

    work(shop, lambda _run: JobResult(stats={"ours": 1}, record=record))

    assert [row[1:3] for row in runs(shop, RUNS)] == [("running", {})]
    assert runs(shop, WORK) == [("reconcile", "error", None, "bug.ValueError")]


def test_a_bad_period_or_job_is_named(shop: Engine) -> None:
    with pytest.raises(PeriodInvalid, match="not over yet"):
        start(shop, "2026-11-21")
    with (
        transaction(shop) as tx,
        pytest.raises(JobUnknown, match="no job 'nightly': it should be one of daily-reconciliation"),
    ):
        get_job(tx, "nightly")


def test_run_that_did_far_less_than_usual_is_a_warning(shop: Engine) -> None:
    for day in range(10, 16):
        start(shop, f"2026-11-{day}")
        work(shop, return_stats(ours=100))
    assert runs(shop, "select * from incidents") == []

    start(shop, "2026-11-16")
    work(shop, return_stats(ours=3))

    ((rule, period, severity, summary),) = runs(shop, "select rule, period, severity, summary from incidents")
    assert (rule, period, severity) == ("volume_too_small:daily-reconciliation", "2026-11-16", "P3")
    assert "has only ours: 3, but usually 100" in summary


def test_run_that_ended_too_soon_is_a_warning(shop: Engine) -> None:
    add_jobs(shop, NOW, make_job(min_run=timedelta(minutes=1)))
    start(shop)
    work(shop, return_stats(ours=1))
    ((rule, summary),) = runs(shop, "select rule, summary from incidents")
    assert rule == "run_too_short:daily-reconciliation"
    assert "but needs at least 60 s" in summary
