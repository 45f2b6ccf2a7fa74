"""Every row of a job is read back by column name, with distinct values."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, Engine, text

from services.alerts.notify import record_alerts
from services.core.db import transaction
from services.jobs.complete_run import complete_run, sync_run_status
from services.jobs.conditions import list_conditions, record_overdue
from services.jobs.definition import FLEET_ZONE, CatchUp, Covers, Job
from services.jobs.handler import JobHandler, JobResult, JobRun
from services.jobs.history import find_history, find_last_runs, list_runs
from services.jobs.runs import NewRun, StartOutcome, record_runs, start_run
from services.jobs.scheduler import start_due_runs
from services.jobs.store import change_job, find_jobs, list_schedules, record_jobs
from services.ledger.claim import claim_leased
from services.ledger.topics import TOPICS
from services.ledger.work import PreparedCall
from services.shops.shops import get_shop
from tests.fakes.settings import settings_of
from tests.jobs.job_rows import add_shops, settle

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
YESTERDAY = NOW - timedelta(days=1)
JOB = Job(
    name="nightly",
    topic="reconcile",
    title="the day is compared",
    schedule="0 5 * * *",
    zone="shop",
    per_shop=True,
    covers=Covers.DAY,
    grace=timedelta(minutes=30),
    catch_up=CatchUp.ALL,
    min_run=timedelta(seconds=7),
    volume="theirs",
    evidence="job_runs",
)
FLEET_JOB = Job(name="weekly", topic="audit_verify", title="w", schedule="0 1 * * 1", zone=FLEET_ZONE)


@pytest.fixture
def harbour(engine: Engine) -> Engine:
    """A shop in Tokyo with both jobs."""
    add_shops(engine, YESTERDAY - timedelta(days=9), spare="UTC", harbour="Asia/Tokyo")
    with transaction(engine) as tx:
        record_jobs(tx, [JOB, FLEET_JOB], YESTERDAY)
    return engine


def read(tx: Connection, query: str) -> dict[str, Any]:
    """Return the only row of ``query``, by column name."""
    return dict(tx.execute(text(query)).mappings().one())


def start(tx: Connection, now: datetime = NOW) -> int:
    """Start the run of 19 November at the harbour; return its id."""
    shop = get_shop(tx, "harbour")
    started = start_run(
        tx, JOB, shop, "2026-11-19", origin="console", by="ana", now=now, request_id="request-1"
    )
    assert (started.found, started.period, started.ref and started.ref.topic) == (
        StartOutcome.STARTED,
        "2026-11-19",
        "reconcile",
    )
    return started.run_id


def test_jobs_and_their_schedules_by_name(harbour: Engine) -> None:
    with transaction(harbour) as tx:
        assert find_jobs(tx) == {"nightly": JOB, "weekly": FLEET_JOB}
        shop = get_shop(tx, "harbour")
        change_job(tx, JOB, shop, {"schedule": "0 7 * * *"}, by="ana", reason="late shift", now=NOW)
    with transaction(harbour) as tx:
        change_job(tx, JOB, None, {"enabled": False}, by="ben", reason="holiday", now=NOW)
        stored = read(tx, "select * from job_overrides where shop_id is not null")
        start_due_runs(tx, NOW)
        schedules = {(one.job.name, one.slug): one for one in list_schedules(tx)}

    wanted = {
        "job": "nightly",
        "shop_id": shop.id,
        "schedule": "0 7 * * *",
        "enabled": None,
        "changed_at": NOW,
    }
    assert {**stored, **wanted, "reason": "late shift", "changed_by": "ana"} == stored
    own, whole = schedules["nightly", "harbour"], schedules["weekly", ""]
    assert (own.shop_id, own.schedule, own.zone, own.enabled, own.is_own, own.next_due_at) == (
        shop.id, "0 7 * * *", "Asia/Tokyo", False, True, None,
    )  # fmt: skip
    assert (whole.shop_id, whole.schedule, whole.zone, whole.enabled, whole.is_own) == (
        None, "0 1 * * 1", "America/Vancouver", True, False,
    )  # fmt: skip
    assert whole.next_due_at == datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def test_run_is_stored_listed_and_handed_to_its_job_by_name(harbour: Engine) -> None:
    with transaction(harbour) as tx:
        run_id = start(tx)
        stored = read(tx, "select * from job_runs")
        work_id = read(tx, "select id from work_queue")["id"]
        shop_id = get_shop(tx, "harbour").id
        (line,) = find_history(tx, job=None, shop_id=None, limit=9)
        assert list_runs(tx, [run_id]) == [line]
        items = claim_leased(tx, TOPICS["reconcile"], NOW, "token").items
        seen: list[JobRun] = []
        (call,) = JobHandler(lambda run: seen.append(run) or JobResult()).prepare(tx, items, NOW)  # type: ignore[func-returns-value]
        assert isinstance(call, PreparedCall)
        call.act()
        assert [found.id for found in find_last_runs(tx)["nightly"]] == [run_id]

    wanted = {
        "job": "nightly", "shop_id": shop_id, "period": "2026-11-19", "due_at": NOW, "started_at": None,
        "ended_at": None, "status": "pending", "origin": "console", "started_by": "ana",
        "request_id": "request-1", "work_id": work_id,
    }  # fmt: skip
    assert {**stored, **wanted} == stored
    assert {name: line._asdict()[name] for name in wanted} == wanted
    zone = ZoneInfo("Asia/Tokyo")
    assert seen == [
        JobRun(id=run_id, job="nightly", shop_id=shop_id, period="2026-11-19", covers=Covers.DAY, zone=zone,
            request_id="request-1", work_id=work_id)
    ]  # fmt: skip


def test_ended_run_sends_its_own_stats_to_analytics(harbour: Engine) -> None:
    with settings_of(POSTHOG_KEY="key"), transaction(harbour) as tx:
        run_id = start(tx)
        tx.execute(text("update job_runs set started_at = :at"), {"at": NOW - timedelta(seconds=3)})
        completed = complete_run(tx, run_id, {"theirs": 4}, NOW)
        short = read(tx, "select rule, period, detail from incidents")
        shop_id = get_shop(tx, "harbour").id

    assert completed.new_work[0].payload["properties"] == {
        "job": "nightly", "shop_id": shop_id, "period": "2026-11-19", "status": "done",
        "duration_seconds": 3.0, "origin": "console", "stats": {"theirs": 4},
    }  # fmt: skip
    assert (completed.new_work[0].request_id, completed.audit[0].request_id) == ("request-1", "request-1")
    assert (short["rule"], short["period"]) == ("run_too_short:nightly", "2026-11-19")
    assert short["detail"] == {"run": run_id, "seconds": 3.0, "stats": {"theirs": 4}}


def test_failed_run_is_an_incident_a_condition_and_a_mail(harbour: Engine) -> None:
    with settings_of(OPERATOR_EMAIL="ops@example.com"), transaction(harbour) as tx:
        run_id = start(tx, YESTERDAY)
        settle(tx, "nightly", "dead")
        tx.execute(text("update work_queue set finished_at = :at"), {"at": YESTERDAY})
        sync_run_status(tx, NOW)
        found = read(tx, "select * from incidents")
        (line,) = (one for one in list_conditions(tx, NOW) if one.kind == "runs_failed")
        assert len(record_alerts(tx, NOW + timedelta(hours=1))) == 1
        mail = read(tx, "select period, text from mail_outbox")

    assert (found["rule"], found["period"], found["severity"]) == ("job_failed:nightly", "2026-11-19", "P2")
    assert found["detail"] == {"run": run_id, "code": "x"}
    assert found["summary"] == "nightly for 2026-11-19 failed: x: y"
    assert line[1:] == ("nightly", "nightly 2026-11-19", "harbour", YESTERDAY, None, "ana", "x: y")
    assert mail["period"].startswith("job_failed:nightly 2026-11-19") and "harbour" in mail["text"]


def test_overdue_runs_by_name(harbour: Engine) -> None:
    with transaction(harbour) as tx:
        start(tx, YESTERDAY)
        start_due_runs(tx, YESTERDAY)
        shop_id = get_shop(tx, "harbour").id
        record_overdue(tx, NOW)
        rows = tx.execute(
            text("select rule, period, detail from incidents where shop_id = :shop_id"), {"shop_id": shop_id}
        )
        late = {row.detail["status"]: row for row in rows}

    started, unplanned = late["pending"], late["not planned"]
    assert (started.rule, started.period) == ("cron_did_not_run:nightly", "2026-11-19")
    assert (unplanned.rule, unplanned.period) == ("cron_did_not_run:nightly", "2026-11-20")
    for found, due_at in ((started, YESTERDAY), (unplanned, datetime(2026, 11, 20, 20, 0, tzinfo=UTC))):
        assert (datetime.fromisoformat(found.detail["due_at"]), found.detail["started_at"]) == (due_at, None)
        assert found.detail["grace_seconds"] == 1800


def test_monitor_and_clock_rows_by_name(harbour: Engine) -> None:
    with settings_of(SENTRY_DSN="http://public@127.0.0.1:9/1"), transaction(harbour) as tx:
        shop_id = get_shop(tx, "harbour").id
        record_runs(tx, [NewRun("nightly", shop_id, "2026-11-20", NOW)], {"nightly": JOB}, NOW)
        opened = read(tx, "select * from monitor_checkins")
        began = read(tx, "select payload from work_queue where topic = 'sentry_checkin'")["payload"]
        tx.execute(
            text("update job_runs set status = 'done', started_at = :a, ended_at = :b"),
            {"a": NOW, "b": NOW + timedelta(seconds=90)},
        )
        sync_run_status(tx, NOW + timedelta(minutes=5))
        closed_at = read(tx, "select closed_at from monitor_checkins")["closed_at"]
        payloads = tx.scalars(
            text("select payload from work_queue where topic = 'sentry_checkin' order by id")
        )
        ended = list(payloads)[-1]
        start_due_runs(tx, NOW)
        clock = read(tx, f"select * from job_schedule_state where shop_id = {shop_id}")  # noqa: S608

    config = {
        "schedule": {"type": "crontab", "value": "0 5 * * *"}, "timezone": "Asia/Tokyo",
        "checkin_margin": 30, "max_runtime": 30,
    }  # fmt: skip
    monitor = {"job": "nightly", "monitor": "nightly-asia-tokyo", "period": "2026-11-20", "opened_at": NOW}
    assert {**opened, **monitor, "config": config, "closed_at": None} == opened
    assert (began["monitor_slug"], began["monitor_config"]) == ("nightly-asia-tokyo", config)
    assert (ended["status"], ended["duration"], closed_at) == ("ok", 90.0, NOW + timedelta(minutes=5))
    assert clock["next_due_at"] == datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
    assert (clock["job"], clock["scheduled_until"]) == ("nightly", datetime(2026, 11, 20, 20, 0, tzinfo=UTC))
    assert (clock["schedule"], clock["zone"], clock["enabled"]) == ("0 5 * * *", "Asia/Tokyo", True)
