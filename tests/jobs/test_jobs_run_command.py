"""``fleet jobs run`` with a real ledger; some runs are real processes."""

import json
import os
import pty
import re
import signal
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.runs import trigger_job
from services.ledger.lease import lease_items
from services.ledger.sweep import free_expired
from services.ledger.topics import TOPICS
from services.shops.secrets import record_secret
from tests.fakes.settings import settings_of
from tests.fakes.web import Web
from tests.jobs.job_commands import (
    FLEET,
    NIGHTLY,
    PERIOD,
    RUNS,
    fleet,
    fleet_process,
)
from tests.jobs.job_rows import run_tick, runs
from tests.jobs.work import finish_runs
from tests.observability.sentry_sink import SentrySink


def test_run_says_what_it_would_do_and_does_nothing(engine: Engine, shops: None) -> None:
    result = fleet("run", "daily-reconciliation", "--period", PERIOD, "--dry-run")

    assert result.exit_code == 0
    assert result.output.count("it would start") == 2
    assert runs(engine, RUNS) == []
    assert runs(engine, "select * from work_queue") == []


def test_a_dry_run_of_retention_shows_what_is_old_by_table(engine: Engine) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "insert into job_runs (job, period, due_at, ended_at, status, origin) values"
            " ('audit-verify', 'old', '2020-01-02', '2020-01-02', 'done', 'beat')"
        )

    result = fleet("run", "retention", "--dry-run")

    assert result.exit_code == 0, result.output
    assert "it would start" in result.output
    line = next(line for line in result.output.splitlines() if "weekly and monthly" in line)
    assert re.search(r"deleted +1 +0\.\d +2020-01-0[12]", line)
    assert runs(engine, "select period from job_runs") == [("old",)]


def test_a_terminal_gets_text_for_the_last_line(engine: Engine, shops: None) -> None:
    terminal, end = pty.openpty()
    with os.fdopen(terminal, "rb", buffering=0) as reader:
        command = [FLEET, "jobs", "run", "daily-reconciliation", "--period", PERIOD]
        process = subprocess.Popen(command, stdout=end)
        os.close(end)
        shown = b""
        with suppress(OSError):  # the process has ended
            while chunk := reader.read(4096):
                shown += chunk
    *logs, first, last = shown.decode().splitlines()

    assert process.wait(90) == 0, shown
    for line, shop in ((first, "west"), (last, "east")):
        assert re.match(rf"daily-reconciliation for {PERIOD} at {shop} was done in \d+\.\d", line), line
        assert "ours: 0" in line
    assert not any(line.startswith("{") for line in logs)


def test_run_in_its_own_process_prints_its_stats(engine: Engine, shops: None) -> None:
    ran = fleet_process("run", "daily-reconciliation", "--shop", "west", "--period", PERIOD, "--as", "timer")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    *lines, last = ran.stdout.splitlines()
    figures = json.loads(last)
    assert figures.pop("duration_seconds") >= 0
    stats = figures.pop("stats")
    assert (stats["ours"], stats["theirs"], stats["breaks"], stats["audit_findings"]) == (0, 0, 0, 0)
    assert figures == {
        "job": "daily-reconciliation",
        "shop": "west",
        "period": PERIOD,
        "status": "done",
        "run": 1,
    }
    events = [json.loads(line) for line in lines]
    assert events[0]["event"] == "run_started"
    assert (events[-1]["event"], events[-1]["status"]) == ("run_finished", "done")
    assert runs(engine, RUNS) == [(1, PERIOD, "done", "cli", "timer")]
    assert runs(engine, "select status, result, locked_by from work_queue") == [("done", "no_stripe", None)]
    labels = runs(engine, "select staff_label, action from audit_events order by id")
    assert labels == [("timer", "job.run"), ("job daily-reconciliation", "daily-reconciliation")]


def test_every_shop_is_run_and_the_last_line_sums_up(engine: Engine, shops: None) -> None:
    result = fleet("run", "daily-reconciliation", "--period", PERIOD)

    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["status"], figures["period"], figures["stats"]) == ("done", PERIOD, {"done": 2})
    assert [(run["shop"], run["status"]) for run in figures["runs"]] == [("west", "done"), ("east", "done")]

    again = fleet("run", "daily-reconciliation", "--period", PERIOD)
    assert again.exit_code == 0
    assert json.loads(again.stdout.splitlines()[-1])["status"] == "already_done"
    assert runs(engine, "select count(*) from work_queue where topic = 'reconcile'") == [(2,)]

    forced = fleet("run", "daily-reconciliation", "--shop", "east", "--period", PERIOD, "--force")
    assert json.loads(forced.stdout.splitlines()[-1])["status"] == "already_done"

    forced = fleet("run", "daily-reconciliation", "--shop", "east", "--period", PERIOD, "--again")
    assert json.loads(forced.stdout.splitlines()[-1])["status"] == "done"
    assert runs(engine, "select count(*) from work_queue where topic = 'reconcile'") == [(3,)]


def add_payment_without_key(engine: Engine) -> None:
    """Record a payment of the shop ``west``, which has no Stripe key."""
    with transaction(engine) as tx:
        tx.execute(
            text(
                "insert into transactions (shop_id, provider_id, kind, status, amount_cents, currency, "
                "occurred_at, version_at) values (1, 'ch_1', 'charge', 'paid', 1000, 'CAD', :at, :at)"
            ),
            {"at": datetime(2026, 11, 19, 20, tzinfo=UTC)},
        )


def test_failed_run_is_reported_to_sentry_with_the_slug_of_its_shop(engine: Engine, shops: None) -> None:
    add_payment_without_key(engine)
    sink = SentrySink()

    done = fleet_process(
        "run", "daily-reconciliation", "--shop", "west", "--period", PERIOD, SENTRY_DSN=sink.dsn
    )

    assert done.returncode == 1
    event = sink.next_event()
    sink.close()
    assert event["message"] == "reconcile is dead: stripe.no_key"
    assert (event["tags"]["shop"], event["tags"]["component"]) == ("west", "jobs")


def test_failed_run_exits_1_and_says_why(engine: Engine, shops: None) -> None:
    add_payment_without_key(engine)

    result = fleet("run", "daily-reconciliation", "--period", PERIOD)

    assert result.exit_code == 1
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["status"], figures["stats"]) == ("failed", {"failed": 1, "done": 1})
    assert "stripe.no_key" in figures["runs"][0]["error"]
    assert "failed: stripe.no_key" in result.stderr
    assert runs(engine, RUNS)[0][2] == "failed"


def test_run_that_waits_for_a_retry_exits_1_and_says_when(engine: Engine, shops: None) -> None:
    with transaction(engine) as tx:
        record_secret(tx, 1, "stripe-key", "sk_test_" + "a" * 24, utc_now())
    with settings_of(STRIPE_API_BASE="http://127.0.0.1:9"):  # no server there
        result = fleet("run", "daily-reconciliation", "--shop", "west", "--period", PERIOD)

    assert result.exit_code == 1
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["status"] == "waiting"
    assert datetime.fromisoformat(figures["next_try_at"]) > utc_now()
    assert "waits for another try in" in result.stderr
    assert runs(engine, RUNS)[0][2] == "running"
    assert runs(engine, "select status, locked_by from work_queue") == [("error", None)]


def test_run_locked_by_a_worker_is_left_to_it(engine: Engine, shops: None) -> None:
    fleet_work = "select id from work_queue where topic = 'reconcile'"
    with transaction(engine) as tx:
        trigger_job(tx, NIGHTLY, "west", PERIOD, origin="beat", by="beat", now=utc_now())
        ids = list(tx.execute(text(fleet_work)).scalars())
        assert lease_items(tx, TOPICS["reconcile"], ids, "worker-7", utc_now()) == set(ids)

    result = fleet("run", "daily-reconciliation", "--shop", "west", "--period", PERIOD)

    assert result.exit_code == 1
    assert json.loads(result.stdout.splitlines()[-1])["status"] == "running"
    assert "is locked by worker-7" in result.stderr
    assert runs(engine, "select status, locked_by from work_queue") == [("pending", "worker-7")]


def test_run_that_waits_for_a_worker_is_taken_over(engine: Engine, shops: None) -> None:
    now = utc_now()
    run_tick(engine, now - timedelta(days=1))
    run_tick(engine, now)
    period = max(row[1] for row in runs(engine, RUNS) if row[0] == 1)

    result = fleet("run", "daily-reconciliation", "--shop", "west", "--period", period)

    assert result.exit_code == 0, result.output
    assert [row for row in runs(engine, RUNS) if row[2] == "done"] == [(1, period, "done", "beat", "beat")]


def test_no_worker_takes_what_this_process_runs(engine: Engine, shops: None) -> None:
    with transaction(engine) as tx:
        triggered = trigger_job(tx, NIGHTLY, "", PERIOD, origin="cli", by="ada", now=utc_now())
        ids = [one.ref.id for one in triggered if one.ref]
        lease_items(tx, TOPICS["reconcile"], ids, "cli", utc_now())

    assert finish_runs(engine, "reconcile") == 0

    with transaction(engine) as tx:  # if this process dies, workers continue
        assert free_expired(tx, utc_now() + timedelta(minutes=2)) == 2
    with transaction(engine) as tx:
        tx.execute(text("update work_queue set next_retry_at = now()"))
    assert finish_runs(engine, "reconcile") == 2


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_stop_signal_leaves_the_runs_to_workers(
    engine: Engine, shops: None, signal_number: signal.Signals
) -> None:
    with transaction(engine) as tx:
        record_secret(tx, 1, "stripe-key", "sk_test_" + "a" * 24, utc_now())
    with Web() as stripe, settings_of(STRIPE_API_BASE=stripe.url):
        stripe.may_answer.clear()
        with subprocess.Popen(
            [FLEET, "jobs", "run", "daily-reconciliation", "--period", PERIOD],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert stripe.received.wait(90)
            process.send_signal(signal_number)
            assert process.wait(90) == 1

    held = runs(
        engine, "select shop_id, locked_by is not null from work_queue where topic = 'reconcile' order by 1"
    )
    assert held == [(1, False), (2, False)]
    assert finish_runs(engine, "reconcile") == 2


FAIL = """
insert into job_runs (job, shop_id, period, due_at, ended_at, status, origin)
select 'daily-reconciliation', id, :period, now(), now(), :status, 'beat' from shops
 where id = any(:ids)
"""


def test_failed_runs_of_a_period_run_again_at_their_shops_alone(engine: Engine, shops: None) -> None:
    (first, slug), (second, other) = runs(engine, "select id, slug from shops order by id limit 2")
    command = ("run", "daily-reconciliation", "--failed", "--period", PERIOD)
    with transaction(engine) as tx:
        for shop_id, status in ((first, "failed"), (second, "done")):
            tx.execute(text(FAIL), {"period": PERIOD, "status": status, "ids": [shop_id]})

    planned = fleet(*command, "--dry-run")
    assert planned.exit_code == 0, planned.output
    assert f"at {slug}: it would start" in planned.output
    assert other not in planned.output
    assert "1 run of daily-reconciliation" in planned.output
    fleet(*command)
    assert runs(engine, "select shop_id from job_runs where origin = 'cli'") == [(first,)]

    with transaction(engine) as tx:
        tx.execute(text("update job_runs set status = 'failed', work_id = null"))
    bounded = fleet(*command, "--max-runs", "1", "--dry-run")
    assert bounded.output.count("it would start") == 1
    assert "2 runs of" in bounded.output
    both = fleet(
        "run", "daily-reconciliation", "--shop", other, "--shop", slug, "--period", PERIOD, "--dry-run"
    )
    assert [line.split(" at ")[1].split(":")[0] for line in both.output.splitlines()] == [slug, other]


def test_failed_needs_a_period_and_no_shop(engine: Engine, shops: None) -> None:
    for wrong in (("--failed",), ("--failed", "--period", PERIOD, "--shop", "harbour"), ("--max-runs", "2")):
        refused = fleet("run", "daily-reconciliation", *wrong)
        assert refused.exit_code == 2, refused.output
    none = fleet("run", "daily-reconciliation", "--failed", "--period", PERIOD)
    assert (none.exit_code, "0 runs of" in none.output) == (0, True)
